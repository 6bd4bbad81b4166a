"""Failed sessions are seen, counted, filtered and retried."""

from __future__ import annotations

from typing import Any

import pytest

from helmr_console.screens.base import ConsoleScreen
from tests.console.flow.bench import Bench


async def broken(bench: Bench, count: int) -> list[dict[str, Any]]:
    found = [await bench.ask("break", subject=f"disk {n} is gone") for n in range(count)]
    for one in found:
        await bench.stack.run_until(one["run"]["id"], "failed")
    return found


@pytest.mark.parametrize(
    ("size", "shown"),
    [((80, 24), "!3"), pytest.param((120, 36), "3 failed", marks=pytest.mark.long)],
)
async def test_the_header_counts_them_and_leads_to_them(
    bench: Bench, size: tuple[int, int], shown: str
) -> None:
    await broken(bench, 3)
    await bench.ask(subject="Publish?")
    await bench.open(size=size)
    await bench.inbox(1)
    await bench.until(lambda: shown in bench.text().splitlines()[0])
    await bench.press("exclamation_mark")
    screen = await bench.on("SessionsScreen")
    await bench.until(lambda: len(screen.list.keys) == 3)
    await bench.sees("is:failed,blocked")
    rows = [line for line in bench.text().splitlines() if "! failed" in line.replace("!  ", "! ")]
    assert len(rows) >= 3
    await bench.sees("ValueError: disk")
    await bench.press("4")
    await bench.sees("3 failed")


async def test_what_is_marked_is_retried_at_once_after_its_number_was_typed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await broken(bench, 3)
    await bench.open(size=(120, 36))
    shown: list[str] = []
    refresh = ConsoleScreen.refresh_bars

    def looked(screen: ConsoleScreen) -> None:
        shown.append(screen.console.under_way)
        refresh(screen)

    monkeypatch.setattr(ConsoleScreen, "refresh_bars", looked)
    await bench.press("exclamation_mark")
    screen = await bench.on("SessionsScreen")
    await bench.until(lambda: len(screen.list.keys) == 3)
    await bench.press("space", "space", "R")
    confirm = await bench.on("ConfirmScreen")
    await bench.until(lambda: confirm.submission.phase.value == "form")
    await bench.sees("Retry 2 sessions")
    await bench.sees("ValueError: disk")
    await bench.press("ctrl+s")
    await bench.sees("type 2 to confirm")
    await bench.press("2", "ctrl+s")
    await bench.on("SessionsScreen")
    await bench.sees("2 runs begin the next attempt")
    assert not screen.list.marks
    assert {"retried 1 of 2", "retried 2 of 2"} <= set(shown)
    assert shown[-1] == ""
    attempts = []
    for one in found:
        run = (await bench.stack.http.get(f"/v1/runs/{one['run']['id']}")).json()
        attempts.append(run["attempt"])
    assert sorted(attempts) == [1, 2, 2]


@pytest.mark.long  # the test above; what was not read yet: tests/review/test_bulk.py
@pytest.mark.timeout(300)
async def test_a_bad_deploy_is_retried_by_six_keys_also_what_was_not_read_yet(
    bench: Bench,
) -> None:
    found = await broken(bench, 300)
    bench.within_s = 120.0
    await bench.open(size=(120, 36))
    await bench.press("exclamation_mark")
    screen = await bench.on("SessionsScreen")
    await bench.sees("ValueError: disk")
    assert 0 < len(screen.list.keys) < 300
    keys = ("asterisk", "R", "3", "0", "0", "ctrl+s")
    await bench.press(*keys[:2])
    confirm = await bench.on("ConfirmScreen")
    await bench.until(lambda: confirm.submission.phase.value == "form")
    await bench.sees("Retry 300 sessions")
    await bench.sees("ValueError: disk")
    await bench.sees("helmr run retry --all --batch")
    await bench.press(*keys[2:])
    await bench.on("SessionsScreen")
    await bench.sees("300 runs begin the next attempt")
    for one in found:
        run = (await bench.stack.http.get(f"/v1/runs/{one['run']['id']}")).json()
        assert run["attempt"] == 2


async def test_a_batch_is_held_and_taken_back_and_then_done(bench: Bench) -> None:
    found = await broken(bench, 2)
    await bench.open(size=(120, 36), hold_s=5.0)
    await bench.press("exclamation_mark", "asterisk", "R")
    confirm = await bench.on("ConfirmScreen")
    await bench.until(lambda: confirm.submission.phase.value == "form")
    await bench.sees("Retry 2 sessions")
    await bench.press("2", "ctrl+s")
    screen = await bench.on("SessionsScreen")
    await bench.sees("sends in 5 s · u takes it back")
    assert len(list(bench.app.shared.files.bulk.folder.glob("*.json"))) == 1
    await bench.press("u")
    await bench.sees("Taken back, nothing was sent: Retry 2 sessions")
    await bench.advance(6)
    assert len(screen.list.marks) == 2
    await bench.press("R")
    confirm = await bench.on("ConfirmScreen")
    await bench.until(lambda: confirm.submission.phase.value == "form")
    await bench.press("2", "ctrl+s")
    await bench.on("SessionsScreen")
    await bench.sees("sends in 5 s")
    await bench.advance(6)
    await bench.sees("2 runs begin the next attempt")
    for one in found:
        run = (await bench.stack.http.get(f"/v1/runs/{one['run']['id']}")).json()
        assert run["attempt"] == 2


@pytest.mark.long  # what has not failed: tests/console/pure/test_failed.py
async def test_what_has_not_failed_is_not_retried(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    await bench.press("2")
    screen = await bench.on("SessionsScreen")
    await bench.until(lambda: len(screen.list.keys) == 1)
    await bench.press("R")
    await bench.sees("it is not one that failed or is blocked")
