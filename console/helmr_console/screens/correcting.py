"""What a session's screen does about corrections: the menu at an entry and what opens from it; related sessions."""

from __future__ import annotations

import asyncio
from functools import partial

from helmr.models import Activity, SessionStatus
from helmr.review.words import subject_of
from helmr.safe_text import one_line
from helmr_console.actions import BY_ID
from helmr_console.entry_lines import session_named_in
from helmr_console.screens.attempts import AttemptsScreen
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.correct import AmendScreen, CorrectionScreen, forking, rewinding
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.session_detail import SessionDetail
from helmr_console.set_aside import CorrectionPlace, place_of, place_of_wait
from helmr_console.widgets.session_tabs import SessionTabs, Tab

MENU = ("amend", "rewind", "fork", "send")
"""What the menu offers, in order."""
RELATED_MAX = 200
"""Children of a session, and forks, that are listed."""
SCANNED_PAGES = 40
"""Newest pages that are read to know what was set aside, in a session whose run was tried more than once."""


class CorrectingScreen(ConsoleScreen):
    """A screen with a session in front, at one entry of it or one wait."""

    detail: SessionDetail
    tabs: SessionTabs

    def open_session(self, session_id: str) -> None:
        """Show another session."""
        raise NotImplementedError

    @property
    def place(self) -> CorrectionPlace:
        """What can be corrected at what is under the cursor."""
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
        """What can be put right here; what can't be says why."""
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
        """Another answer for this wait."""
        wait_id = self.place.wait_id
        if wait_id is not None:
            self.app.push_screen(AmendScreen(wait_id))

    def do_rewind(self) -> None:
        """The run back to before this."""
        self.app.push_screen(CorrectionScreen(rewinding(self.place)))

    def do_fork(self) -> None:
        """A session of its own from here."""
        made: list[str] = []
        fork = forking(self.detail.session_id, self.place, made)
        self.app.push_screen(CorrectionScreen(fork), partial(self._forked, made))

    def _forked(self, made: list[str], _: None) -> None:
        for session_id in made:
            self.open_session(session_id)

    def do_attempts(self) -> None:
        """Attempts of the run under the cursor, or of the newest."""
        run = self.tabs.run
        if run is not None:
            self.app.push_screen(AttemptsScreen(self.detail.session_id, run.id))

    def do_aside(self) -> None:
        """Fold or show what was set aside."""
        view = self.tabs.transcript
        folded = view.toggle_aside()
        if not view.rows.rewinds.known:
            self.console.say("Set aside: no rewind is known in this transcript", "information")
        elif view.folds_aside:
            self.console.say(f"Set aside: {folded} stretch(es) folded", "information")

    def do_origin(self) -> None:
        """The sessions that this one comes of or that come of it; on a line that names one, that one."""
        entry = self.tabs.transcript.told if self.tabs.tab is Tab.TRANSCRIPT else None
        named = session_named_in(entry) if entry is not None else None
        if named is not None:
            self.open_session(named)
            return
        self.console.background.start(self._related(), group="related", holds_keys=True)

    async def _related(self) -> None:
        """Children and forks are asked for: of those that it has not seen the console knows nothing."""
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
            # What waits or works stands before what is done.
            for one in sorted(page.items, key=lambda one: one.activity is Activity.IDLE):
                state = one.activity if one.status is SessionStatus.OPEN else one.status
                about = f"{subject_of(one.wait)}  " if one.wait is not None else ""
                found.append((name, one.id, f"{about}{one.task}  {state.value}"))
        if not found:
            self.console.say(
                "It has no parent, no children and no forks, and is no fork", "information"
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
