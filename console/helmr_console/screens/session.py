"""The screen of one session, live: transcript, waits, runs, raw form, and a search."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partialmethod

from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from helmr.models import EntryInfo
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr_console import entry_lines
from helmr_console.actions import ActionContext, ActionScope
from helmr_console.screens import confirm
from helmr_console.screens.answer import AnswerScreen
from helmr_console.screens.base import Pairs, bindings
from helmr_console.screens.correcting import SCANNED_PAGES, CorrectingScreen
from helmr_console.screens.overlays import TextScreen, copy_menu
from helmr_console.screens.send import NoteScreen, SendScreen
from helmr_console.session_detail import PAGE, ChunkFeed, SessionDetail, streams_to_follow
from helmr_console.store import GOING_ON
from helmr_console.widgets.details import ENTRY_CELLS, difference
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.panes import TextPane
from helmr_console.widgets.session_tabs import SessionTabs, Tab
from helmr_console.widgets.transcript import TranscriptView

SEARCH_ENTRIES_MAX = 20_000

ReadPage = Callable[[int], Awaitable[None]]


class Search:
    """One search of a transcript.

    Args:
        view: The transcript; its cursor moves to the match.
        read_page: Reads a page into the view.
        changed: Called when `words` changes.
    """

    def __init__(
        self, view: TranscriptView, read_page: ReadPage, changed: Callable[[], None]
    ) -> None:
        self.text = ""
        self.words = ""
        """Progress of the search: `reading…`, `3 of 11`."""
        self._view = view
        self._read_page = read_page
        self._changed = changed

    def begin(self, text: str) -> None:
        """Set the text to find; an empty one ends the search."""
        self.text, self.words = text, ""

    def status(self) -> str:
        """`/deploy 3 of 11   n N   `; empty without a search."""
        if not self.text:
            return ""
        words = f" {self.words}" if self.words else ""
        return f"/{one_line(self.text, 30)}{words}   n N   "

    async def go(self, by: int, *, here: bool) -> None:
        """Move the cursor to the next entry that contains the text, if there is one."""
        self._say("reading…")
        seq = await find(self._view, self._read_page, self.text, by=by, here=here)
        if seq is None:
            self._say("not found")
            return
        self._view.follow = False
        self._view.move_to(seq)
        await self._count(seq)

    async def _count(self, seq: int) -> None:
        """Count the matches known here, and the place of this one; `+` if entries are missing."""
        needle, before, count = self.text.casefold(), 0, 0
        pages = self._view.pages
        for page in sorted(pages.held):
            for entry in list(pages.held.get(page, ())):
                if holds(entry, needle):
                    count += 1
                    before += entry.seq <= seq
            await asyncio.sleep(0)
        whole = len(pages.held) * PAGE >= self._view.count
        self._say(f"{before} of {count}{'' if whole else '+'}")

    def _say(self, words: str) -> None:
        self.words = words
        self._changed()


async def find(
    view: TranscriptView, read_page: ReadPage, text: str, *, by: int, here: bool
) -> int | None:
    """Return the seq of the next entry with the text, or None; read pages as needed, at most once around.

    Args:
        by: 1 looks downwards, -1 upwards.
        here: The entry under the cursor counts too.
    """
    needle = text.casefold()
    seq = view.seq if here else view.rows.beside(view.seq, by)
    for _ in range(min(view.count, SEARCH_ENTRIES_MAX)):
        seq = 1 if seq > view.count else view.count if seq < 1 else seq
        entry = view.entry(seq)
        if entry is None:
            await read_page((seq - 1) // PAGE)
            entry = view.entry(seq)
        if entry is not None and holds(entry, needle):
            return seq
        seq += by
    return None


def holds(entry: EntryInfo, needle: str) -> bool:
    """True if an entry contains `needle`, which must be casefolded."""
    return (
        needle in entry.kind
        or needle in entry_lines.entry_full(entry, ENTRY_CELLS).casefold()
        or needle in entry_lines.entry_line(entry).text.casefold()
    )


_NOTHING = {Tab.TRANSCRIPT: "Entry", Tab.WAITS: "Wait", Tab.RUNS: "Run"}
"""Title of a pane with nothing to show."""


class SessionScreen(CorrectingScreen):
    """A session, followed live."""

    AREA = "sessions"
    SCOPES = (
        ActionScope.ANYWHERE,
        ActionScope.LIST,
        ActionScope.SESSION,
        ActionScope.TRANSCRIPT,
        ActionScope.RUNS,
    )
    BINDINGS = bindings(*SCOPES)
    HELP_TEXT = (
        "`[` and `]` change the tab. In the transcript Enter shows an entry in full, `f` unfolds, `/` searches, "
        "G follows the end. `c` corrects something at the entry under the cursor: amend the answer, rewind to there, "
        "fork there. `i` sends input to any stream, `m` writes a note, R retries a failed or blocked run."
    )
    DEFAULT_CSS = """
    SessionScreen #filter { display: none; }
    SessionScreen.filtering #filter { display: block; }
    SessionScreen #middle { layout: horizontal; height: 1fr; }
    SessionScreen #frame { width: 3fr; height: 1fr; border: round $c-border; border-title-color: $c-foreground;
                           border-subtitle-color: $c-muted; }
    SessionScreen #frame:focus-within { border: round $c-accent; }
    SessionScreen #frame > * { height: 1fr; border: none; }
    SessionScreen #entry { width: 2fr; height: 1fr; }
    SessionScreen.-narrow #entry { display: none; }
    SessionScreen.raw #entry { display: none; }
    SessionScreen.zoomed #entry { display: block; width: 1fr; }
    SessionScreen.zoomed #frame { display: none; }
    """

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self.detail = SessionDetail(session_id)
        self.problem = ""
        self._stale = False
        self._is_scanned = False
        self._chunks: ChunkFeed | None = None
        self.tabs = SessionTabs(self.detail, lambda: self.console.store.now(), id="frame")
        self.transcript = self.tabs.transcript
        self.search = Search(self.transcript, self._read_page, self.refresh_bars)
        self.pane = TextPane(id="entry")

    def body(self) -> Iterable[Widget]:
        """The search line, the tabs and the pane beside them."""
        yield SafeInput(id="filter", placeholder="search", select_on_focus=False)
        yield Container(self.tabs, self.pane, id="middle")

    def on_mount(self) -> None:
        """Read the session; the transcript opens at its end."""
        self._show_tab(Tab.TRANSCRIPT)
        self._read(holds_keys=True)

    # --- reading

    def _read(self, *, holds_keys: bool = False) -> None:
        self.console.background.start(
            self._load(), group="session", holds_keys=holds_keys, on_error=self._failed
        )

    async def _load(self) -> None:
        client, detail = self.console.client, self.detail
        detail.summary = await client.sessions.open(detail.session_id).get()
        self.console.store.put_sessions([detail.summary])
        self.tabs.put_summary(detail.summary)
        self.refresh_bars()
        self._follow_chunks()
        await detail.read_lists(client)
        self.tabs.put_lists()
        self.refresh_bars()
        if not self._is_scanned and any(run.attempt > 1 for run in detail.runs.values()):
            self._is_scanned = True
            missing = self.transcript.pages.missing(self.transcript.count, SCANNED_PAGES)
            for page in missing:
                await self._read_page(page)

    def _follow_chunks(self) -> None:
        """Start following the session's live output."""
        names = streams_to_follow(self.detail.summary, self.console.store.streams)
        if self._chunks is None and names:
            self._chunks = ChunkFeed(
                self.console.client, self.detail.session_id, changed=self._say_live
            )
            self.run_worker(self._chunks.run(names), group="chunks", exit_on_error=False)

    def _say_live(self) -> None:
        live = self._chunks.live.by_op() if self._chunks is not None else {}
        self.transcript.say_live(live)

    def _failed(self, text: str) -> None:
        self.problem = text
        self.refresh_bars()

    def on_transcript_view_needs_page(self, event: TranscriptView.NeedsPage) -> None:
        """Read a page that is about to be drawn."""
        event.stop()
        self.console.background.start(
            self._read_page(event.page),
            group="pages",
            on_error=lambda text: self._page_failed(event.page, text),
        )

    async def _read_page(self, page: int) -> None:
        handle = self.console.client.sessions.open(self.detail.session_id)
        found = await handle.transcript_page(after=page * PAGE, limit=PAGE)
        self.transcript.put_page(page, found.items)

    def _page_failed(self, page: int, text: str) -> None:
        self.transcript.page_failed(page)
        self._failed(f"entries {page * PAGE + 1}…: {text}")

    def entry_came(self, entry: EntryInfo) -> None:
        """Append an entry of this session that came by the feed."""
        if not self.is_attached or entry.session_id != self.detail.session_id:
            return
        self.transcript.append(entry)
        if self._chunks is not None and self._chunks.heard(entry):
            self._say_live()
        self._stale = True

    def tick(self) -> None:
        """Read the session again after changes; redraw ages."""
        super().tick()
        summary, store = self.detail.summary, self.console.store
        if summary is not None and summary.activity in GOING_ON and store.places_are_old():
            self._stale = True
        if self._stale and self.app.screen is self:
            self._stale = False
            self._read()
        self._follow_chunks()
        self.tabs.tick()

    # --- the pane

    def on_transcript_view_entry_reached(self) -> None:
        """Show the entry under the cursor in the pane."""
        self._draw_entry()
        self.refresh_bars()

    async def on_transcript_view_entry_chosen(self, event: Message) -> None:
        """Open an entry or a row on enter."""
        event.stop()
        await self.perform("open")

    on_line_list_cursor_moved = on_transcript_view_entry_reached
    on_line_list_chosen = on_transcript_view_entry_chosen

    def _draw_entry(self) -> None:
        if self.tabs.tab is not Tab.RAW:
            title, content = self.tabs.in_full() or (_NOTHING[self.tabs.tab], Content(""))
            of = f" of {self.transcript.count}" if title.startswith("Entry ") else ""
            self.pane.say(content, title + of)

    def _show_tab(self, tab: Tab) -> None:
        self.tabs.show(tab)
        self.set_class(tab is Tab.RAW, "raw")
        self._draw_entry()
        self.refresh_bars()

    # --- the context

    def context(self) -> ActionContext:
        """The context with session, run, wait and place of correction."""
        run, wait, summary = self.tabs.run, self.tabs.wait, self.detail.summary
        tab, store, over = self.tabs.tab, self.console.store, ""
        if wait is not None:
            over = words.wait_over(store.wait(wait.id) or wait, store.now())
        elif summary is not None and tab is not Tab.WAITS:
            over = "the session waits for nothing"
        place = self.place
        return replace(
            super().context(),
            not_rewindable=place.not_rewindable,
            not_amendable=place.not_amendable,
            not_forkable=place.not_forkable,
            row=self.transcript.count > 0 if tab is Tab.TRANSCRIPT else tab is not Tab.RAW,
            session_status=summary.status if summary is not None else None,
            run_status=run.status if run is not None else None,
            run_is_newest=run is None or run is self.detail.newest_run,
            wait=wait is not None,
            wait_over=over,
        )

    def status(self) -> tuple[Pairs, Pairs]:
        """The session, its state, and whether the view follows the end."""
        if self.problem:
            return ((self.problem[:200], "error"),), ()
        left, said = (
            f"{self.area.capitalize()} > {words.short_id(self.detail.session_id)}",
            self.detail.words(),
        )
        if not said:
            return ((left, "foreground"),), (("asking the gateway…", "muted"),)
        left += f"   {said}   {self.transcript.count} entries"
        follow = "following" if self.transcript.follow else "follow off, G follows"
        return ((left, "foreground"),), ((self.search.status() + follow, "muted"),)

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help for the search line while it is open."""
        if not self.has_class("filtering"):
            return super().focus_help()
        return "The search", (
            "finds entries with this text, upper or lower case, from the cursor on",
            "enter goes to the first; then n goes to the next, N to the one before; esc ends the search",
        )

    # --- actions

    def _move(self, by: int) -> None:
        self.tabs.move(by)

    def _move_to_end(self, *, last: bool) -> None:
        self.tabs.move_to_end(last=last)

    def _turn(self, by: int) -> None:
        self._show_tab(self.tabs.beside(by))

    do_list_down = partialmethod(_move, 1)
    do_list_up = partialmethod(_move, -1)
    do_list_first = partialmethod(_move_to_end, last=False)
    do_list_last = partialmethod(_move_to_end, last=True)
    do_tab_next = partialmethod(_turn, 1)
    do_tab_previous = partialmethod(_turn, -1)

    def do_open(self) -> None:
        """Show the selected thing in full."""
        found = self.tabs.in_full()
        if found is not None:
            self.app.push_screen(TextScreen(*found))

    def do_zoom(self) -> None:
        """Show the pane alone, or both."""
        self.toggle_class("zoomed")

    def do_fold(self) -> None:
        """Unfold the entries on screen, or fold all."""
        self.transcript.toggle_screen()

    def do_times(self) -> None:
        """Switch to the next format of times."""
        self.console.say(f"times: {self.transcript.next_times().value}", "information")

    def do_wrap(self) -> None:
        """Switch between wrapping and cutting lines."""
        self.transcript.toggle_wrap()

    def do_entry_mark(self) -> None:
        """Mark an entry for a diff."""
        seq = self.transcript.seq
        self.transcript.marked = None if self.transcript.marked == seq else seq
        self.transcript.refresh()

    def do_diff(self) -> None:
        """Show the difference between this entry and the marked one."""
        marked = self.transcript.marked
        first = self.transcript.entry(marked) if marked is not None else None
        second = self.transcript.current
        if first is None or second is None or first.seq == second.seq:
            self.console.say("Diff: mark an entry with space, then go to another", "warning")
            return
        self.app.push_screen(TextScreen("Diff", difference(first, second)))

    def open_session(self, session_id: str) -> None:
        """Open another session over this one."""
        self.app.push_screen(SessionScreen(session_id))

    def do_session_answer(self) -> None:
        """Open the form of the active wait."""
        wait = self.tabs.wait
        if wait is not None:
            self.app.push_screen(AnswerScreen(wait.id))

    def do_send(self) -> None:
        """Open the form that sends input."""
        if self.detail.summary is not None:
            self.app.push_screen(SendScreen(self.detail.summary))

    def do_note(self) -> None:
        """Open the form of a note."""
        self.app.push_screen(NoteScreen(self.detail.session_id))

    def do_session_cancel(self) -> None:
        """Cancel the session, once its id is typed."""
        self.app.push_screen(confirm.cancelling(self.detail.session_id, self.context()))

    def do_session_close(self) -> None:
        """Close the session, once its id is typed."""
        given = (self.detail.session_id, self.context())
        waits = self.detail.active_wait is not None
        self.app.push_screen(confirm.closing(*given, end_input=waits))

    def do_run_retry(self) -> None:
        """Retry the run, after a page with the effects."""
        run = self.tabs.run
        if run is not None:
            self.app.push_screen(confirm.retrying(run, self.context()))

    def do_copy(self) -> None:
        """Copy ids, the entry or the CLI command."""
        items = [("session id", self.detail.session_id)]
        if self.detail.summary is not None and self.detail.summary.external_id:
            items.append(("external id", self.detail.summary.external_id))
        entry = self.transcript.told
        if self.tabs.tab is Tab.TRANSCRIPT and entry is not None:
            items.append((f"entry {entry.seq} as JSON", entry.model_dump_json(indent=2)))
            items.append((f"entry {entry.seq} as text", entry_lines.entry_full(entry, ENTRY_CELLS)))
        run, wait = self.tabs.run, self.tabs.wait
        if run is not None:
            items.append(("run id", run.id))
        if wait is not None:
            items.append(("wait id", wait.id))
        items.append(("CLI command", f"helmr session transcript {self.detail.session_id}"))
        self.app.push_screen(copy_menu(self, items))

    # --- search

    def do_filter(self) -> None:
        """Search the transcript."""
        self._show_tab(Tab.TRANSCRIPT)
        self.add_class("filtering")
        self.query_one("#filter", SafeInput).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search on enter."""
        event.stop()
        self.search.begin(event.value.strip())
        self._close_search()
        if self.search.text:
            self._search(1, here=True)

    def _close_search(self) -> None:
        self.remove_class("filtering")
        self.transcript.focus()
        self.refresh_bars()

    def _search(self, by: int, *, here: bool = False) -> None:
        if not self.search.text:
            self.console.say("Search: / first", "warning")
            return
        going = self.search.go(by, here=here)
        self.console.background.start(going, group="search", exclusive=True)

    do_match_next = partialmethod(_search, 1)
    do_match_previous = partialmethod(_search, -1)

    def do_back(self) -> None:
        """Close the search line, else the zoom, else end the search, else close the session."""
        if self.has_class("filtering"):
            self._close_search()
        elif self.has_class("zoomed"):
            self.do_zoom()
        elif self.search.text:
            self.search.begin("")
        else:
            super().do_back()
