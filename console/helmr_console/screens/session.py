"""One session: its transcript, waits, runs and raw form, live while it is open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from textual.containers import Container, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from helmr.models import (
    LIST_LIMIT_MAX,
    EntryInfo,
    RunInfo,
    SessionInfo,
    SessionStatus,
    WaitInfo,
    WaitStatus,
)
from helmr.safe_text import one_line
from helmr_console import safe, views
from helmr_console.actions import Context, Scope
from helmr_console.screens import confirm
from helmr_console.screens.answer import AnswerScreen
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.overlays import TextScreen, copy_menu
from helmr_console.screens.search import find
from helmr_console.screens.send import NoteScreen, SendScreen
from helmr_console.views import Cell, Row
from helmr_console.widgets.details import ENTRY_CELLS, difference, entry_in_full, run_in_full
from helmr_console.widgets.fields import SafeInput
from helmr_console.widgets.lines import Column, LineList
from helmr_console.widgets.panes import TextPane
from helmr_console.widgets.transcript import PAGE, TranscriptView

TABS = ("Transcript", "Waits", "Runs", "Raw")
RUNS_MAX = 1_000


class SessionScreen(ConsoleScreen):
    """A session, followed live."""

    AREA = "sessions"
    SCOPES = (Scope.ANYWHERE, Scope.LIST, Scope.SESSION, Scope.TRANSCRIPT, Scope.RUNS)
    BINDINGS = bindings(*SCOPES)
    HELP_TEXT = (
        "`[` and `]` change the tab. In the transcript Enter shows an entry in full, `f` unfolds, `/` searches, "
        "G follows the end. `c` sends input to any stream, `m` writes a note, R retries a failed or blocked run."
    )
    DEFAULT_CSS = """
    SessionScreen #filter { display: none; }
    SessionScreen.filtering #filter { display: block; }
    SessionScreen #middle { layout: horizontal; height: 1fr; }
    SessionScreen #frame { width: 3fr; height: 1fr; border: round $c-border; border-title-color: $c-foreground;
                           border-subtitle-color: $c-muted; }
    SessionScreen #frame:focus-within { border: round $c-accent; }
    SessionScreen #frame > * { height: 1fr; display: none; border: none; }
    SessionScreen.tab0 #transcript { display: block; }
    SessionScreen.tab1 #waits { display: block; }
    SessionScreen.tab2 #runs { display: block; }
    SessionScreen.tab3 #raw { display: block; }
    SessionScreen #entry { width: 2fr; height: 1fr; }
    SessionScreen.-narrow #entry { display: none; }
    SessionScreen.tab3 #entry { display: none; }
    SessionScreen.zoomed #entry { display: block; width: 1fr; }
    SessionScreen.zoomed #frame { display: none; }
    """

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self.session_id = session_id
        self.session: SessionInfo | None = None
        self.runs: dict[str, RunInfo] = {}
        self.waits: dict[str, WaitInfo] = {}
        self.tab = 0
        self.search = ""
        self.problem = ""
        self._stale = False
        self.transcript = TranscriptView(lambda: self.console.store.now(), id="transcript")
        self.wait_list = LineList(WAIT_COLUMNS, self._wait_row, empty="no waits yet", id="waits")
        self.run_list = LineList(RUN_COLUMNS, self._run_row, empty="no runs yet", id="runs")
        self.raw = TextPane(id="raw")
        self.raw.can_focus = True
        self.pane = TextPane(id="entry")

    def body(self) -> Iterable[Widget]:
        """Search, tabs, the entry beside them."""
        yield SafeInput(id="filter", placeholder="search", select_on_focus=False)
        frame = Vertical(self.transcript, self.wait_list, self.run_list, self.raw, id="frame")
        yield Container(frame, self.pane, id="middle")

    def on_mount(self) -> None:
        """Read the session; the transcript opens at its end."""
        self._show_tab(0)
        self.console.background.start(
            self._load(), group="session", holds_keys=True, on_error=self._failed
        )

    # --- reading

    async def _load(self) -> None:
        client = self.console.client
        self.session = await client.sessions.open(self.session_id).get()
        self.console.store.put_sessions([self.session])
        self.transcript.set_count(self.session.last_seq)
        self.refresh_bars()
        self.raw.say(safe.text(self.session.model_dump_json(by_alias=True, indent=2)), "Raw")
        await self._load_lists()

    async def _load_lists(self) -> None:
        client = self.console.client
        runs: list[RunInfo] = []
        async for run in client.sessions.open(self.session_id).runs(limit=LIST_LIMIT_MAX):
            runs.append(run)
            if len(runs) >= RUNS_MAX:
                break
        self.runs = {run.id: run for run in runs}
        waits: list[WaitInfo] = []
        for status in WaitStatus:
            page = await client.waits.page(
                session_id=self.session_id, status=status.value, limit=LIST_LIMIT_MAX
            )
            waits += page.items
        waits.sort(key=lambda wait: wait.opened_at, reverse=True)
        self.waits = {wait.id: wait for wait in waits}
        self.run_list.set_keys(list(self.runs), self.run_list.cursor)
        self.wait_list.set_keys(list(self.waits), self.wait_list.cursor)
        self.refresh_bars()

    def _failed(self, text: str) -> None:
        self.problem = text
        self.refresh_bars()

    def on_transcript_view_needs_page(self, event: TranscriptView.NeedsPage) -> None:
        """A page is about to be drawn."""
        event.stop()
        self.console.background.start(
            self._read_page(event.page),
            group="pages",
            on_error=lambda text: self._page_failed(event.page, text),
        )

    async def _read_page(self, page: int) -> None:
        handle = self.console.client.sessions.open(self.session_id)
        found = await handle.transcript_page(after=page * PAGE, limit=PAGE)
        self.transcript.put_page(page, found.items)

    def _page_failed(self, page: int, text: str) -> None:
        self.transcript.page_failed(page)
        self._failed(f"entries {page * PAGE + 1}…: {text}")

    def entry_came(self, entry: EntryInfo) -> None:
        """The feed has an entry of this session."""
        if not self.is_attached or entry.session_id != self.session_id:
            return
        self.transcript.append(entry)
        self._stale = True

    def tick(self) -> None:
        """What the feed touched is read again; ages go on."""
        super().tick()
        if self._stale and self.app.screen is self:
            self._stale = False
            self.console.background.start(self._reload(), group="session", on_error=self._failed)
        for widget in (self.transcript, self.wait_list, self.run_list):
            if widget.display:
                widget.refresh()

    async def _reload(self) -> None:
        self.session = await self.console.client.sessions.open(self.session_id).get()
        self.console.store.put_sessions([self.session])
        self.transcript.set_count(max(self.transcript.count, self.session.last_seq))
        self.raw.say(safe.text(self.session.model_dump_json(by_alias=True, indent=2)), "Raw")
        await self._load_lists()

    # --- rows and panes

    def _wait_row(self, key: str) -> Row:
        wait = self.waits.get(key)
        if wait is None:
            return (Cell("?"),)
        return views.wait_row(wait, self.console.store.now(), gone=False)

    def _run_row(self, key: str) -> Row:
        run = self.runs.get(key)
        return views.run_row(run, self.console.store.now()) if run is not None else (Cell("?"),)

    def on_transcript_view_moved(self) -> None:
        """The pane follows the cursor."""
        self._draw_entry()
        self.refresh_bars()

    def on_line_list_moved(self) -> None:
        """The pane follows the cursor."""
        self._draw_entry()
        self.refresh_bars()

    async def on_transcript_view_chosen(self) -> None:
        """Enter on an entry."""
        await self.perform("open")

    async def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Enter on a row."""
        event.stop()
        await self.perform("open")

    def _draw_entry(self) -> None:
        if self.tab == 0:
            entry = self.transcript.current
            if entry is None:
                self.pane.say(Content(""), "Entry")
            else:
                self.pane.say(entry_in_full(entry), f"Entry {entry.seq} of {self.transcript.count}")
        elif self.tab == 1:
            wait = self.waits.get(self.wait_list.cursor or "")
            shown = wait.model_dump_json(by_alias=True, indent=2) if wait is not None else ""
            self.pane.say(safe.text(shown), "Wait")
        elif self.tab == 2:
            run = self._run()
            self.pane.say(run_in_full(run) if run is not None else Content(""), "Run")

    def _show_tab(self, tab: int) -> None:
        self.tab = tab % len(TABS)
        for index in range(len(TABS)):
            self.set_class(index == self.tab, f"tab{index}")
        frame = self.query_one("#frame", Vertical)
        parts: list[tuple[str, str]] = []
        for index, name in enumerate(TABS):
            text = f"[{name}]" if index == self.tab else f" {name} "
            parts.append((text, "bold" if index == self.tab else "$c-muted"))
        frame.border_title = Content.assemble(*parts)
        focus: Widget = (self.transcript, self.wait_list, self.run_list, self.raw)[self.tab]
        focus.focus()
        self._draw_entry()
        self.refresh_bars()

    # --- what is in front

    def _run(self) -> RunInfo | None:
        if self.tab == 2:
            return self.runs.get(self.run_list.cursor or "")
        return next(iter(self.runs.values()), None)

    def _wait(self) -> WaitInfo | None:
        if self.tab == 1:
            return self.waits.get(self.wait_list.cursor or "")
        return self.session.wait if self.session is not None else None

    def context(self) -> Context:
        """Session, run and wait in front."""
        run, wait = self._run(), self._wait()
        now = self.console.store.now()
        known = self.console.store.wait(wait.id) if wait is not None else None
        over = views.wait_over(known or wait, now) if wait is not None else ""
        if wait is not None and wait.kind.value == "timer":
            over = "a timer is answered by the clock"
        if wait is None and self.session is not None and self.tab != 1:
            over = "the session waits for nothing"
        return replace(
            super().context(),
            row=self.transcript.count > 0 if self.tab == 0 else self.tab != 3,
            session_status=self.session.status if self.session is not None else None,
            run_status=run.status if run is not None else None,
            run_is_newest=run is None or run.id == next(iter(self.runs), None),
            wait=wait is not None,
            wait_over=over,
        )

    def status(self) -> tuple[Pairs, Pairs]:
        """Which session, its state, whether the end is followed."""
        if self.problem:
            return ((self.problem[:200], "error"),), ()
        session = self.session
        left = f"Sessions > {views.short_id(self.session_id)}"
        if session is None:
            return ((left, "foreground"),), (("asking the gateway…", "muted"),)
        state = (
            session.activity.value if session.status is SessionStatus.OPEN else session.status.value
        )
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        words = f"{left}   {one_line(session.task, 40)}   {state}   {runs}"
        words += f"   {self.transcript.count} entries"
        follow = "following" if self.transcript.follow else "follow off, G follows"
        found = f"/{one_line(self.search, 30)}   n N   " if self.search else ""
        return ((words, "foreground"),), ((found + follow, "muted"),)

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """In the search line: what is searched."""
        if not self.has_class("filtering"):
            return super().focus_help()
        return "The search", (
            "finds entries that hold this text, in either case, from the cursor on",
            "enter goes to the first; then n and N go to the next and the one before, esc ends the search",
        )

    # --- actions

    def _moving(self) -> LineList | TranscriptView | None:
        return (self.transcript, self.wait_list, self.run_list, None)[self.tab]

    def do_list_down(self) -> None:
        """Next."""
        widget = self._moving()
        widget.action_move(1) if widget is not None else self.raw.scroll_down()

    def do_list_up(self) -> None:
        """Before."""
        widget = self._moving()
        widget.action_move(-1) if widget is not None else self.raw.scroll_up()

    def do_list_first(self) -> None:
        """The first; stops following."""
        widget = self._moving()
        if isinstance(widget, TranscriptView):
            widget.follow = False
            widget.move_to(1)
        elif widget is not None:
            widget.move_to(0)

    def do_list_last(self) -> None:
        """The last; a transcript follows from there."""
        widget = self._moving()
        if isinstance(widget, TranscriptView):
            widget.follow = True
            widget.move_to(widget.count)
        elif widget is not None:
            widget.move_to(len(widget.keys) - 1)

    def do_tab_next(self) -> None:
        """The next tab."""
        self._show_tab(self.tab + 1)

    def do_tab_previous(self) -> None:
        """The tab before."""
        self._show_tab(self.tab - 1)

    def do_open(self) -> None:
        """In full."""
        if self.tab == 0 and self.transcript.current is not None:
            entry = self.transcript.current
            self.app.push_screen(TextScreen(f"Entry {entry.seq}", entry_in_full(entry)))
        elif self.tab == 2 and (run := self._run()) is not None:
            self.app.push_screen(TextScreen("Run", run_in_full(run)))
        elif self.tab == 1 and (wait := self._wait()) is not None:
            self.app.push_screen(
                TextScreen("Wait", safe.text(wait.model_dump_json(by_alias=True, indent=2)))
            )

    def do_zoom(self) -> None:
        """The entry alone, or both."""
        self.toggle_class("zoomed")

    def do_fold(self) -> None:
        """Unfold what is on screen, or fold all."""
        self.transcript.toggle_screen()

    def do_times(self) -> None:
        """The next way to show times."""
        self.console.say(f"times: {self.transcript.next_times().value}", "information")

    def do_wrap(self) -> None:
        """Wrap or cut."""
        self.transcript.toggle_wrap()

    def do_entry_mark(self) -> None:
        """Mark an entry for a diff."""
        seq = self.transcript.seq
        self.transcript.marked = None if self.transcript.marked == seq else seq
        self.transcript.refresh()

    def do_diff(self) -> None:
        """This entry against the marked one."""
        marked = self.transcript.marked
        first = self.transcript.entry(marked) if marked is not None else None
        second = self.transcript.current
        if first is None or second is None or first.seq == second.seq:
            self.console.say("Diff: mark an entry with space, then go to another", "warning")
            return
        self.app.push_screen(TextScreen("Diff", difference(first, second)))

    def do_session_answer(self) -> None:
        """The form for the active wait."""
        wait = self._wait()
        if wait is not None:
            self.app.push_screen(AnswerScreen(wait.id))

    def do_send(self) -> None:
        """Input to a stream."""
        if self.session is not None:
            self.app.push_screen(SendScreen(self.session))

    def do_note(self) -> None:
        """A note."""
        self.app.push_screen(NoteScreen(self.session_id))

    def do_session_cancel(self) -> None:
        """Cancel, after the id was typed."""
        self.app.push_screen(
            confirm.cancelling(self.console.writer, self.session_id, self.context())
        )

    def do_session_close(self) -> None:
        """Close, after the id was typed."""
        waits = self.session is not None and self.session.wait is not None
        self.app.push_screen(
            confirm.closing(self.console.writer, self.session_id, self.context(), end_input=waits)
        )

    def do_run_retry(self) -> None:
        """Retry, after its effect was read."""
        run = self._run()
        if run is not None:
            self.app.push_screen(confirm.retrying(self.console.writer, run, self.context()))

    def do_copy(self) -> None:
        """What can be copied here."""
        items = [("session id", self.session_id)]
        if self.session is not None and self.session.external_id:
            items.append(("external id", self.session.external_id))
        entry = self.transcript.current
        if self.tab == 0 and entry is not None:
            items.append((f"entry {entry.seq} as JSON", entry.model_dump_json(indent=2)))
            items.append((f"entry {entry.seq} as text", views.entry_full(entry, ENTRY_CELLS)))
        run, wait = self._run(), self._wait()
        if run is not None:
            items.append(("run id", run.id))
        if wait is not None:
            items.append(("wait id", wait.id))
        items.append(("CLI command", f"helmr session transcript {self.session_id}"))
        self.app.push_screen(copy_menu(self, items))

    # --- search

    def do_filter(self) -> None:
        """Search the transcript."""
        self._show_tab(0)
        self.add_class("filtering")
        self.query_one("#filter", SafeInput).focus()

    def do_match_next(self) -> None:
        """Search on, downwards."""
        self._search(1)

    def do_match_previous(self) -> None:
        """Search on, upwards."""
        self._search(-1)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter searches."""
        event.stop()
        self.search = event.value.strip()
        self._close_search()
        if self.search:
            self._search(1, here=True)

    def _close_search(self) -> None:
        self.remove_class("filtering")
        self.transcript.focus()
        self.refresh_bars()

    def _search(self, by: int, *, here: bool = False) -> None:
        if not self.search:
            self.console.say("Search: / first", "warning")
            return
        self.console.background.start(self._find(by, here=here), group="search", exclusive=True)

    async def _find(self, by: int, *, here: bool) -> None:
        view = self.transcript
        seq = await find(view, self._read_page, self.search, by=by, here=here)
        if seq is None:
            self.console.say("Not found", "warning")
            return
        view.follow = False
        view.move_to(seq)

    def do_back(self) -> None:
        """Close search, zoom, then the session."""
        if self.has_class("filtering"):
            self._close_search()
        elif self.has_class("zoomed"):
            self.do_zoom()
        elif self.search:
            self.search = ""
        else:
            super().do_back()


WAIT_COLUMNS = (
    Column("", 1),
    Column("due", 9),
    Column("kind", 5),
    Column("stream", 12),
    Column("subject", 0),
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
