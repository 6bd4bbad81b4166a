"""Every screen as text at two sizes, with the roles of its colours, and once without colour."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helmr.link_templates import read_links
from tests.console import golden
from tests.console.flow.bench import Bench

SIZES = [(120, 36), pytest.param((80, 24), marks=pytest.mark.long)]
BODY = """## Findings
- lease is not renewed while the run is parked
- deadline is read in local time

Recommend: request changes."""


async def seeded(bench: Bench) -> None:
    """A runtime at half past two."""
    await bench.stack.started(
        "publish",
        {
            "subject": "Publish the review of acme/api#2204?",
            "correlation": "github:acme/api#2204",
            "body": BODY,
            "timeout": "41s",
            "say": ["Reviewing 14 changed files.", "Two blocking findings, 5 comments."],
        },
        external_id="acme/api#2204",
        tags=["support"],
    )
    for number, (subject, timeout) in enumerate(
        [
            ("contract draft v3", "3m10s"),
            ("acme/infra#17 apply", "41m"),
            ("acme/web#91 publish", "80m"),
        ]
    ):
        await bench.ask(subject=subject, correlation=f"key-{number}", timeout=timeout)
    done = await bench.ask(subject="acme/docs#8 publish", timeout="2h")
    await bench.answer(done["id"], {"decision": "approve"})
    await bench.ask("order", subject="Order pens for the office")
    await bench.ask("talk", subject="-")
    failed = await bench.ask("break", subject="the disk is gone")
    await bench.stack.run_until(failed["run"]["id"], "failed")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="goldens are of Python 3.11")
@pytest.mark.parametrize(
    ("size", "colour"),
    [
        pytest.param((120, 36), "colour", id="120x36-colour"),
        pytest.param((80, 24), "colour", id="80x24-colour", marks=pytest.mark.long),
        pytest.param((80, 24), "no-colour", id="80x24-no-colour"),
        pytest.param((120, 36), "no-colour", id="120x36-no-colour", marks=pytest.mark.long),
    ],
)
async def test_screens(
    bench: Bench, size: tuple[int, int], colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colour == "no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    await seeded(bench)
    await bench.open(size=size, name="prod-eu")
    inbox = await bench.inbox(6)
    tail = f"{size[0]}x{size[1]}-{colour}"
    await bench.until(lambda: inbox._previews)
    await look(bench, f"inbox-{tail}")
    await bench.press("space", "space")
    await bench.until(lambda: inbox.list.cursor in inbox._previews)
    await look(bench, f"marked-{tail}")
    await bench.press("escape", "g", "a")
    screen = await bench.form()
    await bench.until(lambda: screen.entries)
    await bench.press("space", "tab", *"Looks good.")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await look(bench, f"answer-{tail}")
    await bench.press("f2")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await look(bench, f"json-{tail}")
    await bench.press("f2", "ctrl+s")
    await bench.sees("^s sends it.")
    await look(bench, f"review-{tail}")
    await bench.press("escape", "escape")
    await bench.on("InboxScreen")
    await bench.press("o")
    session = await bench.on("SessionScreen")
    await bench.until(lambda: session.detail.runs and session.transcript.current is not None)
    await look(bench, f"session-{tail}")
    await bench.press("i")
    await bench.form()
    await look(bench, f"send-{tail}")
    await bench.press("escape")
    await bench.on("SessionScreen")
    await bench.press("X")
    await bench.on("ConfirmScreen")
    await bench.until(lambda: bench.app.screen.submission.phase.value == "form")
    await look(bench, f"cancel-{tail}")
    await bench.press("escape", "escape")
    for key, name in (("2", "sessions"), ("3", "activity")):
        await bench.press(key)
        await bench.until(
            lambda: getattr(bench.app.screen, "list", None) and bench.app.screen.list.keys
        )
        await look(bench, f"{name}-{tail}")
    await bench.press("1", "question_mark")
    await bench.on("TextScreen")
    await look(bench, f"help-{tail}")


SCROLLBARS_S = 0.15


async def look(bench: Bench, name: str) -> None:
    """Compare with the golden, once toasts are gone and the screen is at rest."""
    store = bench.app.shared.store
    assert store.health is not None
    head = store.health.feed_offset or 0
    await bench.until(lambda: (store.feed_offset or 0) >= head)
    bench.app.shared.line.clear()
    bench.screen.refresh_bars()
    drawn = ""
    while drawn != (drawn := golden.screen_text(bench.app)):
        await bench.rest()
        await asyncio.sleep(SCROLLBARS_S)  # whether one is needed shows a layout later
    golden.check(bench.app, name)


@pytest.mark.long
async def test_stale(bench: Bench) -> None:
    await seeded(bench)
    await bench.open(size=(80, 24), name="prod-eu")
    await bench.inbox(6)
    await bench.wire.cut()
    await bench.advance(6)
    await bench.sees("STALE")
    text = bench.text()
    assert "r Refresh" in text
    await bench.press("4")
    await bench.sees("no runtime answers")


@pytest.mark.long
async def test_empty(bench: Bench, tmp_path: Path) -> None:
    await bench.open(size=(80, 24), name="prod-eu")
    await bench.sees("No waits need an answer.")
    await bench.press("2")
    await bench.sees("No sessions yet")
    assert bench.clock.now() - datetime(2026, 11, 24, 14, tzinfo=UTC) < timedelta(seconds=30)


@pytest.mark.long
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="goldens are of Python 3.11")
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_one_by_one_with_an_answer_held(bench: Bench, size: tuple[int, int]) -> None:
    await seeded(bench)
    await bench.open(size=size, name="prod-eu", hold_s=5.0)
    await bench.inbox(6)
    await bench.press("n")
    await bench.form()
    await bench.press("r", "ctrl+s")
    await bench.sees("2 of 6 > ")
    screen = await bench.form()
    await bench.until(lambda: screen.entries)
    await look(bench, f"one-by-one-{size[0]}x{size[1]}")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="goldens are of Python 3.11")
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_evidence(bench: Bench, size: tuple[int, int]) -> None:
    """A link of the runtime stands below that of the task."""
    table = {"Runbook": "https://wiki.example.com/runbooks/{task}"}
    bench.stack.service.waits._links = read_links(table, "helmr.toml")
    await bench.ask(
        subject="Raise the limit of Acme?",
        body="They have paid on time for **three years**.",
        facts={"now": 100.0, "asked for": 500, "risk": "low", "repeat": True},
        links={"Ticket": "https://tickets.example.com/4711"},
        diff="--- before\n+++ after\n@@ -1 +1 @@\n-limit: 100\n+limit: 500",
    )
    await bench.open(size=size, name="prod-eu")
    inbox = await bench.inbox(1)
    await bench.until(lambda: inbox._previews)
    await look(bench, f"evidence-inbox-{size[0]}x{size[1]}")
    await bench.press("n")
    screen = await bench.form()
    await bench.until(lambda: screen.entries)
    await look(bench, f"evidence-answer-{size[0]}x{size[1]}")
