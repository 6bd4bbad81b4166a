"""The pictures of the guide, drawn by the console itself; HELMR_UPDATE_GOLDENS=1 draws them anew."""

from __future__ import annotations

import html
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.console.flow.bench import Bench
from tests.console.flow.test_corrections import at_entry, filled, picked, posted
from tests.console.flow.test_goldens import BODY
from tests.console.golden import steady

SIZES = [(80, 24), pytest.param((120, 36), marks=pytest.mark.long)]
DRAWS_MAX = 30
"""A busy machine may still be drawing what the last key set off."""


async def later(bench: Bench, minutes: int) -> None:
    """So much of the day goes by."""
    bench.clock.move_to(bench.clock.now() + timedelta(minutes=minutes))


async def given(bench: Bench, wait: dict[str, Any], to: str) -> None:
    """Assigned to this person."""
    path = f"/v1/waits/{wait['id']}/assign"
    assert (await bench.stack.http.post(path, json={"assignee": to})).status_code == 200


async def afternoon(bench: Bench) -> dict[str, Any]:
    """Reviews, a plan, a contract, an order and a customer, as they came in; returns the one that was posted."""
    contract = await bench.ask(
        subject="Send contract draft v3 to Okafor Ltd?", correlation="okafor", timeout="3h"
    )
    await given(bench, contract, "grace")
    await later(bench, 25)
    await bench.ask("order", subject="Order pens for the office?")
    await later(bench, 18)
    done = await bench.ask(subject="Publish the review of acme/docs#8?", timeout="4h")
    await bench.ask(subject="Reply to Ms Ferrari about parcel 4127?", correlation="4127")
    await later(bench, 12)
    await bench.answer(done["id"], {"decision": "approve"})
    failed = await bench.ask("break", subject="the disk is gone")
    await bench.stack.run_until(failed["run"]["id"], "failed")
    plan = await bench.ask(
        subject="Apply the plan of acme/infra#17?", correlation="infra-17", timeout="65m"
    )
    await given(bench, plan, "ana")
    found = await posted(bench, "the release notes of 2.4")
    await later(bench, 31)
    await bench.ask(
        subject="Publish the review of acme/web#91?", correlation="web-91", timeout="80m"
    )
    await later(bench, 4)
    await bench.stack.started(
        "publish",
        {
            "subject": "Publish the review of acme/api#2204?",
            "correlation": "github:acme/api#2204",
            "body": BODY,
            "timeout": "6m",
            "say": ["Reviewing 14 changed files.", "Two blocking findings, 5 comments."],
        },
        external_id="acme/api#2204",
        tags=["support"],
    )
    await later(bench, 3)
    return found


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="pictures are of Python 3.11")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_guides_pictures_are_those_of_the_console(
    bench: Bench, project_root: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    folder = project_root / "docs" / "images"
    tail = f"{size[0]}x{size[1]}"
    asked = await afternoon(bench)
    # System shows where the log is: a path of the test's would be broken into lines elsewhere in every run.
    await bench.open(size=size, name="prod-eu", hold_s=5.0, state_folder=Path("state"))
    inbox = await bench.inbox(7)
    await bench.until(lambda: inbox._previews)
    await picture(bench, folder, f"console-inbox-{tail}")
    await bench.press("a")
    screen = await bench.form()
    await bench.until(lambda: screen.entries)
    await bench.press("space", "tab", *"Please squash before merge.")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await picture(bench, folder, f"console-answer-{tail}")
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await picture(bench, folder, f"console-review-{tail}")
    await bench.press("escape", "escape")
    await bench.on("InboxScreen")
    await bench.press("o")
    session = await bench.on("SessionScreen")
    await bench.until(lambda: session.detail.runs and session.transcript.current is not None)
    await picture(bench, folder, f"console-session-{tail}")
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.press("4")
    await bench.on("SystemScreen")
    await picture(bench, folder, f"console-system-{tail}")
    await bench.press("1")
    await bench.on("InboxScreen")
    await at_entry(bench, asked["session"]["id"], "step.started")
    await picked(bench, "Rewind to here")
    await bench.on("CorrectionScreen")
    await bench.sees("May run again: 2 step(s) that had started")
    await filled(bench, "The draft was of another branch.")
    await picture(bench, folder, f"console-rewind-{tail}")
    await bench.press("escape", "escape")
    await bench.on("InboxScreen")
    await bench.press("n")
    await bench.form()
    await bench.press("r", "ctrl+s")
    await bench.sees("2 of 7 > ")
    screen = await bench.form()
    await bench.until(lambda: screen.entries)
    await picture(bench, folder, f"console-one-by-one-{tail}")


@pytest.mark.long
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="pictures are of Python 3.11")
async def test_the_picture_of_a_wrong_approval_that_is_amended(
    bench: Bench, project_root: Path
) -> None:
    asked = await posted(bench, subject="the review of acme/api#2204")
    session_id = asked["session"]["id"]
    await bench.open(size=(110, 30), name="prod-eu")
    await at_entry(bench, session_id, "wait.fulfilled")
    await picked(bench, "Amend answer")
    await bench.form()
    await bench.sees("(•) approve")
    await bench.press("r", "ctrl+s")
    await bench.on("CorrectionScreen")
    await bench.sees("new key")
    await filled(bench, "Two findings still block it.", "1")
    await picture(bench, project_root / "docs" / "images", "console-amend")
    await bench.press("ctrl+s")
    run = await bench.stack.run_until(asked["run"]["id"], "succeeded")
    assert run["result"] == {"decision": "reject"}


async def picture(bench: Bench, folder: Path, name: str) -> None:
    """The picture is the console's, once it has finished drawing."""
    path = folder / f"{name}.svg"
    drawn = ""
    for _ in range(DRAWS_MAX):
        bench.app.shared.line.clear()
        bench.screen.refresh_bars()
        await bench.rest()
        drawn = steady(bench.app.export_screenshot(title="helmr console", simplify=True))
        drawn = re.sub(r"terminal-\d+", "terminal-console", drawn) + "\n"
        if os.environ.get("HELMR_UPDATE_GOLDENS"):
            path.write_text(drawn, encoding="utf-8")
        if is_same(name, path.read_text(encoding="utf-8"), drawn):
            break
    kept = path.read_text(encoding="utf-8")
    assert is_same(name, kept, drawn), f"{name} differs from what is drawn now"


def is_same(name: str, kept: str, drawn: str) -> bool:
    """Whether the picture shows what is drawn; of System, whose figures are of the machine, the words."""
    if name.startswith("console-system"):
        kept, drawn = map(words_in, (kept, drawn))
    return kept == drawn


def words_in(picture: str) -> str:
    """What one reads in it, without figures: their widths move spaces, their colours and places are theirs."""
    texts = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture)))
    return " ".join(re.sub(r"[\d.]+", "", texts).split())
