"""Many of everything: times are printed, limits are generous. `make perf` runs these on a quiet machine.

A client with fixed answers stands in for the gateway here: what is measured is the console, not the ledger.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helmr.models import EntryInfo, Health, Page, PrincipalInfo, SessionInfo, WaitInfo
from helmr.person.review.queue import KeyedList
from helmr_console.app import ConsoleApp
from helmr_console.console import Options
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.sessions import SessionsScreen
from helmr_console.start import settle
from helmr_console.widgets.transcript import TranscriptView

pytestmark = pytest.mark.perf

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
ENTRIES = 20_000
SESSIONS = 100_000
WAITS = 5_000


def entry(seq: int) -> EntryInfo:
    return EntryInfo(
        session_id="ses_1",
        seq=seq,
        feed_offset=seq,
        recorded_at=NOW + timedelta(seconds=seq),
        kind="output.appended",
        principal=PrincipalInfo(type="task"),
        body={
            "stream": "said",
            "stream_seq": seq,
            "data": f"Entry {seq} says a few words more. " * 3,
        },
    )


def wait(number: int) -> WaitInfo:
    return WaitInfo.model_validate(
        {
            "id": f"wait_{number}",
            "session_id": f"ses_{number}",
            "run_id": "run_1",
            "task": "publish",
            "kind": "input",
            "stream": "approval",
            "subject": f"Publish acme/api#{number}?",
            "status": "pending",
            "opened_at": NOW,
            "deadline_at": NOW + timedelta(minutes=number),
        }
    )


def session(number: int, **more: Any) -> SessionInfo:
    return SessionInfo.model_validate(
        {
            "id": f"ses_{number}",
            "task": "publish",
            "status": "open",
            "activity": "idle",
            "created_at": NOW,
            "updated_at": NOW + timedelta(seconds=number),
            "last_seq": 1,
            **more,
        }
    )


class Fixed:
    """Answers at once, from nothing."""

    def __init__(self, waits: int = 0) -> None:
        self.endpoint = SimpleNamespace(url="http://fixed")
        self.pages = 0
        self.entries = ENTRIES
        self._waits = waits
        self.waits = SimpleNamespace(page=self._wait_page, get=self._wait)
        self.sessions = SimpleNamespace(open=lambda _: self, page=self._session_page)
        self.streams = SimpleNamespace(list=self.none)
        self.tasks = SimpleNamespace(list=self.none)

    async def health(self) -> Health:
        return Health(ready=True, version="1", now=NOW, feed_offset=0)

    async def events(self, *, after: int | None = None) -> Any:
        await asyncio.Event().wait()
        yield

    async def none(self, **_: Any) -> Any:
        return
        yield

    runs = none

    async def get(self) -> SessionInfo:
        return session(1, last_seq=self.entries)

    async def transcript_page(self, *, after: int, limit: int) -> Page[EntryInfo]:
        self.pages += 1
        last = min(self.entries, after + limit)
        return Page(items=[entry(seq) for seq in range(after + 1, last + 1)])

    async def _wait(self, wait_id: str) -> WaitInfo:
        return wait(int(wait_id.rpartition("_")[2]))

    async def _wait_page(
        self, *, cursor: str | None = None, limit: int = 50, **given: Any
    ) -> Page[WaitInfo]:
        if "session_id" in given:
            return Page(items=[])
        start = int(cursor or 0)
        end = min(self._waits, start + limit)
        return Page(
            items=[wait(n) for n in range(start, end)],
            next_cursor=str(end) if end < self._waits else None,
        )

    async def _session_page(
        self, *, cursor: str | None = None, limit: int = 50, **_: Any
    ) -> Page[SessionInfo]:
        self.pages += 1
        start = int(cursor or 0)
        return Page(
            items=[session(SESSIONS - n) for n in range(start, start + limit)],
            next_cursor=str(start + limit),
        )

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """As the installed console runs."""
    gc.collect()
    settle()
    yield
    gc.unfreeze()


def said(what: str, seconds: float) -> None:
    sys.stdout.write(f"{what}: {seconds * 1000:.0f} ms\n")


def console(client: Fixed, folder: Path) -> ConsoleApp:
    return ConsoleApp(client, Options(state_folder=folder))


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_transcript_of_20_000_entries_opens_and_scrolls(tmp_path: Path) -> None:
    client = Fixed()
    app = console(client, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        spent: dict[int, list[float]] = {}
        view: TranscriptView
        for entries in (200, ENTRIES, 200, ENTRIES, 200, ENTRIES):
            client.entries, client.pages = entries, 0
            began = time.perf_counter()
            app.push_screen(SessionScreen("ses_1"))
            await until(
                lambda: isinstance(app.screen, SessionScreen) and app.screen.transcript.current
            )
            spent.setdefault(entries, []).append(time.perf_counter() - began)
            view = app.screen.transcript
            assert view.seq == entries, "it opens at its end"
            assert client.pages <= 2, "a screen of the end is on one page or two"
            if len(spent.get(ENTRIES, ())) < 3:
                await pilot.press("escape")
                await pilot.pause()
        for entries, times in spent.items():
            said(f"open {entries:,} entries, the first time", times[0])
            said(f"open {entries:,} entries, again", min(times[1:]))
        began = time.perf_counter()
        for seq in range(1, ENTRIES, 997):
            view.move_to(seq)
            view.render_line(0)
        said("jump to 21 places", time.perf_counter() - began)
        began = time.perf_counter()
        for y in range(34):
            view.render_line(y)
        said("draw a screen", time.perf_counter() - began)
        assert min(spent[ENTRIES]) < 2 * min(spent[200]), "what opens is a screen, not a transcript"
        assert client.pages < 40


async def test_100_000_sessions_are_paged_never_read_whole(tmp_path: Path) -> None:
    client = Fixed()
    app = console(client, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        began = time.perf_counter()
        await app.switch_mode("sessions")
        await until(lambda: isinstance(app.screen, SessionsScreen) and app.screen.list.keys)
        said("open the list of 100,000 sessions", time.perf_counter() - began)
        screen: Any = app.screen
        assert client.pages <= 2
        count = len(screen.list.keys)
        began = time.perf_counter()
        await pilot.press("G")
        await until(lambda: len(screen.list.keys) > count)
        said("the next page", time.perf_counter() - began)
        assert client.pages <= 5


async def test_5_000_waits_are_filtered_as_typed(tmp_path: Path) -> None:
    app = console(Fixed(WAITS), tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        screen: Any = app.screen
        await until(lambda: len(screen.list.keys) == WAITS)
        worst = 0.0
        for text in (
            "a",
            "ac",
            "acm",
            "acme/api#49",
            "acme/api#499",
            "stream:approval due<10h",
            "",
        ):
            began = time.perf_counter()
            screen.set_filter(text)
            worst = max(worst, time.perf_counter() - began)
        said("filter 5,000 waits, the slowest key", worst)
        began = time.perf_counter()
        await pilot.press("G")
        said("a key to its paint (the harness idles 45 ms)", time.perf_counter() - began)
        assert worst < 0.25


def test_merging_500_rows_costs_nothing() -> None:
    rows = KeyedList()
    keys = [f"wait_{n}" for n in range(500)]
    rows.offer(keys)
    rows.merge(None)
    began = time.perf_counter()
    rows.offer([*(f"new_{n}" for n in range(5)), *keys[2:]])
    merged = rows.merge("wait_250")
    spent = time.perf_counter() - began
    said("merge 500 rows", spent)
    assert merged.cursor == "wait_250"
    assert spent < 0.02
