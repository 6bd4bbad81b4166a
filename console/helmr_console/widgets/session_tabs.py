"""The tabs of a session in one frame: transcript, waits, runs, raw form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel
from textual.containers import Vertical
from textual.content import Content

from helmr.models import Activity, RunInfo, SessionInfo, WaitInfo
from helmr_console import safe, views
from helmr_console.session_detail import SessionDetail
from helmr_console.views import Cell, Row
from helmr_console.widgets.details import entry_in_full, run_in_full
from helmr_console.widgets.lines import Column, LineList
from helmr_console.widgets.panes import TextPane
from helmr_console.widgets.transcript import TranscriptView

WAIT_COLUMNS = (
    Column("", 1),
    Column("", 1),
    Column("due", 9),
    Column("age", 7),
    Column("subject", 0),
    Column("who", 14, yields=True),
)
RUN_COLUMNS = (
    Column("", 1),
    Column("status", 9),
    Column("try", 3, right=True),
    Column("by", 8),
    Column("took", 7, right=True),
    Column("outcome", 0),
    Column("run", 11),
)


class Tab(StrEnum):
    """The tabs in order; the value is the word in the frame's title."""

    TRANSCRIPT = "Transcript"
    WAITS = "Waits"
    RUNS = "Runs"
    RAW = "Raw"


TABS = tuple(Tab)


class SessionTabs(Vertical):
    """Shows one tab, moves in it, and knows the thing under its cursor.

    Args:
        detail: The session's data, the source of all rows.
        now: The server's time.
    """

    def __init__(self, detail: SessionDetail, now: Callable[[], datetime], *, id: str) -> None:
        self.tab = Tab.TRANSCRIPT
        self.transcript = TranscriptView(now, id="transcript")
        self.raw = TextPane(id="raw")
        self.raw.can_focus = True
        self._detail, self._now = detail, now
        self._waits = LineList(WAIT_COLUMNS, self._wait_row, empty="no waits yet", id="waits")
        self._runs = LineList(RUN_COLUMNS, self._run_row, empty="no runs yet", id="runs")
        super().__init__(self.transcript, self._waits, self._runs, self.raw, id=id)

    # --- data

    def put_summary(self, summary: SessionInfo) -> None:
        """Show a summary that was read."""
        self.transcript.is_active = summary.activity is not Activity.IDLE
        self.transcript.set_count(max(self.transcript.count, summary.last_seq))
        self.raw.say(_json(summary), "Raw")

    def put_lists(self) -> None:
        """Show runs and waits that were read."""
        self._runs.set_keys(list(self._detail.runs), self._runs.cursor)
        self._waits.set_keys(list(self._detail.waits), self._waits.cursor)

    def tick(self) -> None:
        """Redraw ages."""
        for part in (self.transcript, self._waits, self._runs):
            if part.display:
                part.refresh()

    def _wait_row(self, key: str) -> Row:
        wait = self._detail.waits.get(key)
        return views.wait_row(wait, self._now(), gone=False) if wait is not None else (Cell("?"),)

    def _run_row(self, key: str) -> Row:
        run = self._detail.runs.get(key)
        return views.run_row(run, self._now()) if run is not None else (Cell("?"),)

    # --- the cursor

    @property
    def run(self) -> RunInfo | None:
        """The run under the cursor; in other tabs the newest."""
        if self.tab is Tab.RUNS:
            return self._detail.runs.get(self._runs.cursor or "")
        return self._detail.newest_run

    @property
    def wait(self) -> WaitInfo | None:
        """The wait under the cursor; in other tabs the active one."""
        if self.tab is Tab.WAITS:
            return self._detail.waits.get(self._waits.cursor or "")
        return self._detail.active_wait

    def in_full(self) -> tuple[str, Content] | None:
        """Title and full text of the thing under the cursor; None if there is none."""
        entry = self.transcript.told if self.tab is Tab.TRANSCRIPT else None
        if entry is not None:
            shown = entry_in_full(entry, self.transcript.aside, cause=self.transcript.cause)
            return f"Entry {entry.seq}", shown
        if self.tab is Tab.WAITS and (wait := self.wait) is not None:
            return "Wait", _json(wait)
        if self.tab is Tab.RUNS and (run := self.run) is not None:
            return "Run", run_in_full(run)
        return None

    # --- moving

    def show(self, tab: Tab) -> None:
        """Show and focus a tab."""
        self.tab = tab
        for part, one in zip(self.children, TABS, strict=True):
            part.display = one is tab
            if one is tab:
                part.focus()
        self.border_title = Content.assemble(
            *((f"[{one}]", "bold") if one is tab else (f" {one} ", "$c-muted") for one in TABS)
        )

    def beside(self, by: int) -> Tab:
        """The tab `by` places to the right."""
        return TABS[(TABS.index(self.tab) + by) % len(TABS)]

    def move(self, by: int) -> None:
        """Move by rows; scroll the raw form."""
        moving = self._moving()
        if moving is not None:
            moving.action_move(by)
        else:
            self.raw.scroll_down() if by > 0 else self.raw.scroll_up()

    def move_to_end(self, *, last: bool) -> None:
        """Move to the first or last row; at the last one a transcript follows new entries."""
        moving = self._moving()
        if isinstance(moving, TranscriptView):
            moving.follow = last
            moving.move_to(moving.count if last else 1)
        elif moving is not None:
            moving.move_to(len(moving.keys) - 1 if last else 0)

    def _moving(self) -> LineList | TranscriptView | None:
        return (self.transcript, self._waits, self._runs, None)[TABS.index(self.tab)]


def _json(model: BaseModel) -> Content:
    return safe.text(model.model_dump_json(by_alias=True, indent=2))
