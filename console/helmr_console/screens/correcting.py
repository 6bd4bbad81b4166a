"""Corrections from a session's screen: the menu at an entry, related sessions, two attempts side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from helmr.models import Activity, SessionStatus
from helmr.person.review.words import subject_of
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import BY_ID, ActionScope
from helmr_console.attempts import Attempt, OpPair, attempts, beside, summary
from helmr_console.entry_lines import session_named_in
from helmr_console.link import whole
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.correct import AmendScreen, CorrectionScreen, forking, rewinding
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.session_detail import SessionDetail
from helmr_console.set_aside import CorrectionPlace, place_of, place_of_wait
from helmr_console.widgets.lines import fit
from helmr_console.widgets.panes import TextPane, head, lines
from helmr_console.widgets.session_tabs import SessionTabs, Tab

ENTRIES_MAX = 5_000
"""Newest entries of the session that are read for attempts."""
COLUMNS_FROM = 100
"""Width in cells from which two columns are shown."""
GUTTER = 8
TEXT_CELLS = 400
_ROLES = {"=": "warning", "~": "error", "-": "muted", "+": "success"}


class AttemptsScreen(ConsoleScreen):
    """Attempts of one run, two at a time."""

    AREA = "sessions"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.ATTEMPTS)
    BINDINGS = bindings(*SCOPES, ActionScope.LIST)
    HELP_TEXT = (
        "Each line is an op. A space: the later attempt took over the outcome. `=`: it ran again, with the same "
        "outcome. `~`: with another outcome. `-`, `+`: only the earlier or the later attempt has it. `[` and `]` show "
        "other attempts."
    )
    DEFAULT_CSS = "AttemptsScreen TextPane { height: 1fr; border: round $c-accent; }"

    def __init__(self, session_id: str, run_id: str) -> None:
        super().__init__()
        self.session_id = session_id
        self.run_id = run_id
        self.found: list[Attempt] = []
        self.at = 1
        self.problem = ""
        self._is_cut = False
        self.pane = TextPane("Attempts", id="text")
        self.pane.can_focus = True

    def body(self) -> Iterable[Widget]:
        """The pane with both attempts."""
        yield self.pane

    def on_mount(self) -> None:
        """Read the session."""
        self.pane.focus()
        self.console.background.start(
            self._load(), group="attempts", holds_keys=True, on_error=self._failed
        )
        self.refresh_bars()

    async def _load(self) -> None:
        entries = await whole(self.console.client, self.session_id, ENTRIES_MAX)
        self._is_cut = bool(entries) and entries[0].seq > 1
        self.found = attempts(entries, self.run_id)
        self.at = max(1, len(self.found) - 1)
        self._draw()

    def _failed(self, text: str) -> None:
        self.problem = text
        self.refresh_bars()

    def on_resize(self, event: events.Resize) -> None:
        """Redraw in two columns or one."""
        super().on_resize(event)
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        if not self.found or not self.is_attached:
            return
        if len(self.found) == 1:
            text = "This run has had one attempt; there is nothing to compare."
            self.pane.say(Content.styled(text, "$c-muted"), "Attempt 1")
        else:
            first, second = self.found[self.at - 1], self.found[self.at]
            shown = pair_content(first, second, self.size.width - 6)
            self.pane.say(shown, f"Attempts {first.number} and {second.number}")
        self.refresh_bars()

    def status(self) -> tuple[Pairs, Pairs]:
        """The number of attempts, or the problem."""
        if self.problem:
            return ((self.problem[:200], "error"),), ()
        if not self.found:
            return (("Attempts", "foreground"),), (("asking the gateway…", "muted"),)
        cut = f"; of the newest {ENTRIES_MAX} entries" if self._is_cut else ""
        many = f"{len(self.found)} attempts{cut}"
        return ((f"Sessions > Attempts   {many}", "foreground"),), (("esc closes", "muted"),)

    def _turn(self, by: int) -> None:
        self.at = max(1, min(self.at + by, len(self.found) - 1))
        self._draw()

    def do_pair_older(self) -> None:
        """Show the pair before."""
        self._turn(-1)

    def do_pair_newer(self) -> None:
        """Show the pair after."""
        self._turn(1)

    def do_list_down(self) -> None:
        """Scroll a line down."""
        self.pane.scroll_down(animate=False)

    def do_list_up(self) -> None:
        """Scroll a line up."""
        self.pane.scroll_up(animate=False)

    def do_list_first(self) -> None:
        """Scroll to the top."""
        self.pane.scroll_home(animate=False)

    def do_list_last(self) -> None:
        """Scroll to the end."""
        self.pane.scroll_end(animate=False)


def pair_content(first: Attempt, second: Attempt, width: int) -> Content:
    """Both attempts, in two columns where there is room, else one under the other."""
    pairs = beside(first, second)
    parts = [head(summary(pairs))]
    parts += [safe.line(_about(one), "$c-muted", limit=300) for one in (first, second)]
    parts.append(Content(""))
    draw = _columns if width >= COLUMNS_FROM else _stacked
    for pair in pairs:
        parts += draw(pair, width)
    return lines(parts)


def _about(one: Attempt) -> str:
    return f"attempt {one.number}: {one.how or 'the first'}; {one.ended or 'it came to no end'}"


def _columns(pair: OpPair, width: int) -> Iterator[Content]:
    room = (width - GUTTER - 3) // 2
    role = _ROLES.get(pair.sign, "")
    for number, texts in enumerate(zip_longest(_lines(pair, pair.left), _lines(pair, pair.right))):
        left, right = (fit(one_line(text or "", TEXT_CELLS), room) for text in texts)
        left += " " * (room - cell_len(left))
        yield _drawn(f"{_gutter(pair.sign, pair.op, number)}{left} │ {right}", role)


def _stacked(pair: OpPair, width: int) -> Iterator[Content]:
    shown = [(pair.sign, pair.right)]
    if pair.sign not in " =":
        shown = [("-", pair.left), ("+", pair.right)]
    for sign, texts in shown:
        for number, text in enumerate(_lines(pair, texts)):
            said = fit(one_line(text, TEXT_CELLS), width - GUTTER)
            yield _drawn(f"{_gutter(sign, pair.op, number)}{said}", _ROLES.get(sign, ""))


def _lines(pair: OpPair, texts: Sequence[str]) -> Sequence[str]:
    """One line for a reused op; all lines for one that differs."""
    return [" · ".join(texts)] if pair.sign == " " else texts


def _gutter(sign: str, op: int, number: int) -> str:
    return f"{sign} {op:>4}  " if number == 0 else f"{sign}       "


def _drawn(text: str, role: str) -> Content:
    return safe.line(text, f"$c-{role}" if role else "")


MENU = ("amend", "rewind", "fork", "send")
"""Actions of the menu, in order."""
RELATED_MAX = 200
"""Most children of a session, and forks, that are listed."""
SCANNED_PAGES = 40
"""Newest pages read to find rewinds, in a session whose run has several attempts."""


class CorrectingScreen(ConsoleScreen):
    """A screen of a session, with one of its entries or waits selected."""

    detail: SessionDetail
    tabs: SessionTabs

    def open_session(self, session_id: str) -> None:
        """Show another session."""
        raise NotImplementedError

    @property
    def place(self) -> CorrectionPlace:
        """The place of correction under the cursor."""
        detail, tabs = self.detail, self.tabs
        session, newest = detail.summary, detail.newest_run
        if tabs.tab is Tab.WAITS and tabs.wait is not None:
            return place_of_wait(tabs.wait, session=session, newest=newest)
        if tabs.tab is not Tab.TRANSCRIPT:
            return CorrectionPlace()
        entry = tabs.transcript.current
        aside = tabs.transcript.aside
        return place_of(
            entry, aside=aside, session=session, newest=newest, wait_of=detail.waits.get
        )

    def do_correct(self) -> None:
        """Open the menu of corrections; impossible ones show why."""
        place, context = self.place, self.context()
        choices = []
        for action_id in MENU:
            action = BY_ID[action_id]
            detail = action.refusal(context) or action.help
            choices.append(MenuItem(action.label, detail, partial(self._pick, action_id)))
        title = f"Correct: {place.words}" if place.words else "Correct"
        self.app.push_screen(PickScreen(one_line(title, 100), choices, typed=False))

    def _pick(self, action_id: str) -> None:
        self.console.background.start(self.perform(action_id), group="correct", holds_keys=True)

    def do_amend(self) -> None:
        """Open the form to amend this wait's answer."""
        wait_id = self.place.wait_id
        if wait_id is not None:
            self.app.push_screen(AmendScreen(wait_id))

    def do_rewind(self) -> None:
        """Open the preview of rewinding the run to before this entry."""
        self.app.push_screen(CorrectionScreen(rewinding(self.place)))

    def do_fork(self) -> None:
        """Open the preview of forking a session from here."""
        made: list[str] = []
        fork = forking(self.detail.session_id, self.place, made)
        self.app.push_screen(CorrectionScreen(fork), partial(self._forked, made))

    def _forked(self, made: list[str], _: None) -> None:
        for session_id in made:
            self.open_session(session_id)

    def do_attempts(self) -> None:
        """Show the attempts of the run under the cursor, or of the newest."""
        run = self.tabs.run
        if run is not None:
            self.app.push_screen(AttemptsScreen(self.detail.session_id, run.id))

    def do_aside(self) -> None:
        """Fold or show entries that were set aside."""
        view = self.tabs.transcript
        folded = view.toggle_aside()
        if not view.rows.rewinds.known:
            self.console.say("Set aside: no rewind is known in this transcript", "information")
        elif view.folds_aside:
            self.console.say(f"Set aside: {folded} stretch(es) folded", "information")

    def do_origin(self) -> None:
        """Open the session that this line names; else list the parent, origin, children and forks."""
        entry = self.tabs.transcript.told if self.tabs.tab is Tab.TRANSCRIPT else None
        named = session_named_in(entry) if entry is not None else None
        if named is not None:
            self.open_session(named)
            return
        self.console.background.start(self._related(), group="related", holds_keys=True)

    async def _related(self) -> None:
        """List related sessions; children and forks come from the gateway, because the console may not know them."""
        summary, own_id = self.detail.summary, self.detail.session_id
        found: list[tuple[str, str, str]] = []
        if summary is not None and summary.parent is not None:
            found.append(("parent", summary.parent.session_id, ""))
        if summary is not None and summary.forked_from is not None:
            found.append(("origin", summary.forked_from.session_id, ""))
        sessions = self.console.client.sessions
        children, forks = await asyncio.gather(
            sessions.page(parent=own_id, limit=RELATED_MAX),
            sessions.page(forked_from=own_id, limit=RELATED_MAX),
        )
        for name, page in (("child", children), ("fork", forks)):
            # Active sessions stand before those that are done.
            for one in sorted(page.items, key=lambda one: one.activity is Activity.IDLE):
                state = one.activity if one.status is SessionStatus.OPEN else one.status
                about = f"{subject_of(one.wait)}  " if one.wait is not None else ""
                found.append((name, one.id, f"{about}{one.task}  {state.value}"))
        if not found:
            self.console.say(
                "It has no parent, no children and no forks, and is not a fork", "information"
            )
            return
        if len(found) == 1:
            self.open_session(found[0][1])
            return
        choices = [
            MenuItem(
                name, f"{session_id}  {about}".rstrip(), partial(self.open_session, session_id)
            )
            for name, session_id, about in found
        ]
        more = (
            f", the newest {RELATED_MAX} each" if children.next_cursor or forks.next_cursor else ""
        )
        self.app.push_screen(PickScreen(f"Related sessions{more}", choices, typed=False))
