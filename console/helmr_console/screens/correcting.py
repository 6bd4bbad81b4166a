"""What a session's screen does about corrections: the menu at an entry and what opens from it; forks."""

from __future__ import annotations

from functools import partial

from helmr.safe_text import one_line
from helmr_console.actions import BY_ID
from helmr_console.screens.attempts import AttemptsScreen
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.correct import AmendScreen, CorrectionScreen, forking, rewinding
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.session_detail import SessionDetail
from helmr_console.set_aside import Place, place_of, place_of_wait
from helmr_console.widgets.session_tabs import SessionTabs, Tab

MENU = ("amend", "rewind", "fork", "send")
"""What the menu offers, in order."""
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
    def place(self) -> Place:
        """What can be corrected at what is under the cursor."""
        detail, tabs = self.detail, self.tabs
        session, newest = detail.summary, detail.newest_run
        if tabs.tab is Tab.WAITS and tabs.wait is not None:
            return place_of_wait(tabs.wait, session=session, newest=newest)
        if tabs.tab is not Tab.TRANSCRIPT:
            return Place()
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
        self.app.push_screen(CorrectionScreen(rewinding(self.console.writer, self.place)))

    def do_fork(self) -> None:
        """A session of its own from here."""
        made: list[str] = []
        fork = forking(self.console.writer, self.detail.session_id, self.place, made)
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
        if not view.rewinds.known:
            self.console.say("Set aside: no rewind is known in this transcript", "information")
        elif view.folds_aside:
            self.console.say(f"Set aside: {folded} stretch(es) folded", "information")

    def do_origin(self) -> None:
        """The session that this is a fork of, and its own forks."""
        summary = self.detail.summary
        origin = summary.forked_from if summary is not None else None
        found = [("origin", origin.session_id)] if origin is not None else []
        found += [("fork", fork) for fork in self.console.store.forks_of(self.detail.session_id)]
        if not found:
            self.console.say("It is no fork, and no fork of it is known", "information")
            return
        choices = [
            MenuItem(name, session_id, partial(self.open_session, session_id))
            for name, session_id in found
        ]
        self.app.push_screen(PickScreen("Origin and forks", choices, typed=False))
