"""The app: areas as modes, one store, one connection, and what every screen asks of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from textual import events
from textual.app import App, SuspendNotSupported
from textual.filter import LineFilter
from textual.worker import Worker

from helmr.client.aio import AsyncClient
from helmr.errors import HelmrError
from helmr.models import EntryInfo, SessionInfo
from helmr.safe_text import one_line
from helmr_console import fatal, look
from helmr_console.actions import ACTIONS, Context, Scope, key_name
from helmr_console.clock import Clock, ServerClock, SystemClock
from helmr_console.drafts import DraftStore
from helmr_console.editor import EditorFailed, edit
from helmr_console.freshness import Link as LinkState
from helmr_console.guard import AsciiSigns, Guard
from helmr_console.keys import Keys
from helmr_console.link import Link
from helmr_console.permits import Writer
from helmr_console.screens.answer import AnswerScreen
from helmr_console.screens.areas import ActivityScreen, SystemScreen
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.batch import BatchScreen
from helmr_console.screens.inbox import InboxScreen
from helmr_console.screens.listing import ListScreen
from helmr_console.screens.overlays import Choice, PickScreen, TextScreen, help_content
from helmr_console.screens.send import NoteScreen, SendScreen
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.sessions import SessionsScreen
from helmr_console.store import Changes, Store
from helmr_console.themes import DEFAULT_THEME, THEMES
from helmr_console.views import short_id, subject_of
from helmr_console.widgets.bars import Breadcrumb, Said

log = logging.getLogger("helmr.console")

COALESCE_S = 0.05
"""Entries of the feed within this time are shown together."""
SAID_S = {"information": 5.0, "warning": 8.0, "error": 12.0}
"""How long the second line says something."""
SAID_MAX = 50
CLOSE_S = 10.0
"""Longest that leaving waits for work in the background.

A call that is cancelled while it connects leaves its socket to the client, so the client is closed last: closed
before the call has ended, it would never close that one.
"""
PALETTE_ROWS_MAX = 500


@dataclass(frozen=True, slots=True)
class Options:
    """How the console was started."""

    read_only: bool = False
    ascii_only: bool = False
    theme: str = DEFAULT_THEME
    name: str = ""
    identity: str = "you"
    keys: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)
    state_folder: Path = Path(".helmr-console")
    environ: Mapping[str, str] = field(default_factory=dict)
    handle_signals: bool = False


class ConsoleApp(App[int]):
    """Helmr's operator console.

    Args:
        client: Talks to the gateway; closed by the app.
        options: How it was started.
        clock: Where time comes from.
    """

    ENABLE_COMMAND_PALETTE = False
    MODES = {
        "inbox": InboxScreen,
        "sessions": SessionsScreen,
        "activity": ActivityScreen,
        "system": SystemScreen,
    }
    DEFAULT_MODE = "inbox"
    TITLE = "Helmr"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (160, "-xwide")]
    CSS = """
    Screen { background: $c-background; color: $c-foreground; }
    """

    def __init__(self, client: AsyncClient, options: Options, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.store = Store(ServerClock(self.clock))
        self.options = options
        self.client = client
        self.writer = Writer(client)
        self.drafts = DraftStore(options.state_folder / "drafts")
        self.log_path = options.state_folder / "console.log"
        self.ascii_only = options.ascii_only
        self.read_only = options.read_only
        self.identity = one_line(options.identity, 60)
        self.key_names = {
            action_id: " ".join(key_name(key) for key in keys.split(",")[:1])
            for action_id, keys in options.keys.items()
        }
        self.fatal = ""
        """What broke the console itself, in one line; the trace is in the log."""
        self.said: deque[Said] = deque(maxlen=SAID_MAX)
        self.sending = 0
        self.paused = False
        self._paused_at_s = 0.0
        self._last_mode = "sessions"
        self._coming: list[EntryInfo] = []
        self._flush_set = False
        self._guard = Guard()
        super().__init__()
        self.keys = Keys(self, left_out=self._keys_left_out)
        self._giving: asyncio.Task[None] | None = None
        self.link = Link(client, self.store, self.clock, changed=self._changed)

    # --- start and end

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our variables, before our theme is set."""
        return look.default_variables()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The guard sees every line last, but for the choice of signs."""
        signs = [AsciiSigns()] if self.ascii_only else []
        return [*super().get_line_filters(), self._guard, *signs]

    def on_mount(self) -> None:
        """Colours and keys, then the connection and the clock."""
        for theme in look.themes():
            self.register_theme(theme)
        self.theme = self.options.theme
        self.animation_level = "none"
        self.set_keymap(dict(self.options.keys))
        if self.options.handle_signals:
            # A killed console must leave the terminal as it was.
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self.exit, 128 + number)
        self._giving = asyncio.create_task(self.keys.run())
        self._giving.add_done_callback(self._no_more_keys)
        self.background(self.link.run(), group="link")
        self.background(self._tick(), group="tick")

    def panic(self, *renderables: RenderableType) -> None:
        """The console can't go on: Textual's input thread ends here. One line instead of a trace on the terminal."""
        self.fatal = self.fatal or fatal.of_renderables(renderables)
        self._return_code = 1
        self._close_messages_no_wait()

    def _handle_exception(self, error: Exception) -> None:
        self.fatal = self.fatal or fatal.of_error(error)
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        # Textual would print the trace with its local values: what sessions say is among them.
        self._close_messages_no_wait()

    async def on_unmount(self) -> None:
        """End what runs in the background, then close the connections it used."""
        if self._giving is not None:
            self._giving.cancel()
        running = list(self.workers)
        self.workers.cancel_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                waits = (worker.wait() for worker in running)
                await asyncio.gather(*waits, return_exceptions=True)
        await self.client.close()

    async def _tick(self) -> None:
        while True:
            await self.clock.sleep(1.0)
            for screen in self._screens():
                if screen.is_attached:
                    screen.tick()

    def _screens(self) -> list[ConsoleScreen]:
        """The screens of this area, the one on top last."""
        return [screen for screen in self.screen_stack if isinstance(screen, ConsoleScreen)]

    # --- work in the background

    def background(
        self,
        work: Coroutine[Any, Any, None],
        *,
        group: str,
        exclusive: bool = False,
        holds_keys: bool = False,
        on_error: Callable[[str], None] | None = None,
    ) -> Worker[None]:
        """Run this without holding up the screen; what fails is said, never the end of the app.

        Args:
            holds_keys: It decides where the next key belongs, as what reads a form does: keys wait for it.
        """
        worker = self.run_worker(
            self._guarded(work, on_error), group=group, exclusive=exclusive, exit_on_error=False
        )
        if holds_keys:
            self.keys.hold(worker)
        return worker

    async def _guarded(
        self, work: Coroutine[Any, Any, None], on_error: Callable[[str], None] | None
    ) -> None:
        try:
            await work
        except HelmrError as error:
            text = one_line(error.message + (f". {error.hint}" if error.hint else ""), 300)
            self.store.errors.append(text)
            (on_error or self._say_error)(text)
        except (
            Exception
        ) as error:  # the console's worker wrapper: one broken view leaves the rest working
            number = secrets.token_hex(3)
            log.exception("error %s", number)
            kind = type(error).__name__
            text = f"internal error {number} ({kind}); the trace is in {self.log_path}"
            self.store.errors.append(text)
            (on_error or self._say_error)(text)

    def _say_error(self, text: str) -> None:
        self.say(text, "error")

    def say(self, text: str, severity: str) -> None:
        """Say this on the second line of whatever is in front, for a moment, instead of what was said before."""
        until_s = self.store.mono() + SAID_S[severity]
        self.said.append(Said(one_line(text, 400), severity, until_s))
        for screen in self._screens()[-1:]:
            screen.refresh_bars()

    def saying(self) -> Said | None:
        """What is being said now."""
        last = self.said[-1] if self.said else None
        return last if last is not None and self.store.mono() < last.until_s else None

    # --- keys

    async def on_event(self, event: events.Event) -> None:
        """What is typed, pasted or clicked comes one at a time."""
        if not self.keys.takes(event):
            await super().on_event(event)

    def _no_more_keys(self, giving: asyncio.Task[None]) -> None:
        """A console without keys is no console: it ends, in one line."""
        error = None if giving.cancelled() else giving.exception()
        if isinstance(error, Exception):
            self._handle_exception(error)

    def _keys_left_out(self, count: int) -> None:
        self.say(
            f"The console was not ready; {count} key(s) typed meanwhile were left out", "error"
        )

    # --- the store changes

    def _changed(self, changes: Changes | None) -> None:
        if changes is not None and changes.entry is not None:
            self._coming.append(changes.entry)
        if not self._flush_set:
            self._flush_set = True
            self.set_timer(COALESCE_S, self._show_changes)

    def _show_changes(self) -> None:
        self._flush_set = False
        coming, self._coming = self._coming, []
        for screen in self._screens():
            if isinstance(screen, SessionScreen):
                for entry in coming:
                    screen.entry_came(entry)
            if screen.is_attached:
                screen.store_changed()

    # --- what screens ask

    def base_context(self) -> Context:
        """Freshness and mode, for every action."""
        now_s = self.store.mono()
        fresh = self.store.freshness
        return Context(
            live=fresh.writable(now_s),
            link_text=fresh.text(now_s),
            read_only=self.read_only,
        )

    def place(self, area: str) -> Breadcrumb:
        """What the header says."""
        now_s = self.store.mono()
        fresh = self.store.freshness
        state = fresh.link(now_s)
        role = {LinkState.LIVE: "success", LinkState.CONNECTING: "muted"}.get(state, "error")
        name = self.options.name or self.client.endpoint.url.partition("://")[2]
        return Breadcrumb(
            name=one_line(name, 40),
            area=area,
            link=fresh.text(now_s),
            link_role=role,
            offset=self.store.feed_offset,
            identity=self.identity,
            read_only=self.read_only,
        )

    def paused_text(self) -> str:
        """`paused 2m`."""
        from_s = int(self.store.mono() - self._paused_at_s)
        return f"paused {from_s // 60}m" if from_s >= 60 else f"paused {from_s}s"

    def open_answer(self, wait_id: str) -> None:
        """The form of exactly this wait."""
        self.push_screen(AnswerScreen(wait_id))

    def open_session(self, session_id: str) -> None:
        """A session's screen."""
        self.push_screen(SessionScreen(session_id))

    def open_batch(self, marked: Sequence[str], lead: str) -> None:
        """One form for marked waits."""
        self.push_screen(BatchScreen(marked, lead))

    def open_send(self, session: SessionInfo) -> None:
        """Input for a session."""
        self.push_screen(SendScreen(session))

    def open_note(self, session_id: str) -> None:
        """A note."""
        self.push_screen(NoteScreen(session_id))

    def open_copy(self, items: Sequence[tuple[str, str]]) -> None:
        """The copy menu."""
        chosen = self.screen.get_selected_text()
        items = [("selection", chosen), *items] if chosen else items
        choices = [Choice(name, text, partial(self._copy, name, text)) for name, text in items]
        self.push_screen(PickScreen("Copy", choices, typed=False))

    def _copy(self, name: str, text: str) -> None:
        self.copy_to_clipboard(text)
        self.say(f"Copied {name}: {text[:120]}", "information")

    def answered(self, wait_id: str) -> None:
        """An answer of this console was accepted: its row leaves the inbox at once, which goes to the next wait."""
        self.store.answered(wait_id)
        for screen in self._screens():
            screen.store_changed()

    def edit(self, text: str, suffix: str) -> str | None:
        """A text through $EDITOR; None if it is as before."""
        try:
            with self.suspend():
                return edit(text, self.options.environ, suffix=suffix)
        except EditorFailed as error:
            self.say(str(error), "warning")
        except SuspendNotSupported:
            self.say("An editor needs a terminal of its own", "warning")
        return None

    # --- actions that work anywhere

    async def _go(self, mode: str) -> None:
        if self.current_mode != mode:
            self._last_mode = self.current_mode
            await self.switch_mode(mode)

    async def do_area_inbox(self) -> None:
        """Inbox."""
        await self._go("inbox")

    async def do_area_sessions(self) -> None:
        """Sessions."""
        await self._go("sessions")

    async def do_area_activity(self) -> None:
        """Activity."""
        await self._go("activity")

    async def do_area_system(self) -> None:
        """System."""
        await self._go("system")

    async def do_last(self) -> None:
        """The area before."""
        await self._go(self._last_mode)

    def do_pause(self) -> None:
        """Hold new rows back, or let them in."""
        self.paused = not self.paused
        self._paused_at_s = self.store.mono()

    def do_refresh(self) -> None:
        """Ask now."""
        if self.store.freshness.failing:
            self.link.ask_again()
        else:
            self.background(self.link.reload(), group="reload", exclusive=True)

    def do_theme(self) -> None:
        """The next colours."""
        self.use_theme(THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)])

    def use_theme(self, name: str) -> None:
        """These colours."""
        self.theme = name
        for screen in self._screens():
            screen.refresh(layout=True)
        self.say(f"Theme {name}", "information")

    def do_help(self) -> None:
        """Help for what is in front."""
        screen = self.screen
        if isinstance(screen, ConsoleScreen) and not isinstance(screen, TextScreen):
            content = help_content(
                screen.focus_help(), screen.HELP_TEXT, screen.SCOPES, self.key_names
            )
            self.push_screen(TextScreen("Help", content))

    def do_palette(self) -> None:
        """The commands that can be done now, waits, sessions, filters, colours."""
        screen = self.screen
        if isinstance(screen, ConsoleScreen):
            self.push_screen(PickScreen("Commands", list(self._commands(screen)), typed=True))

    def _commands(self, screen: ConsoleScreen) -> Iterable[Choice]:
        context = screen.context()
        for action in ACTIONS:
            moves = action.scope is Scope.LIST and action.id.startswith("list.")
            here = (
                action.scope in screen.SCOPES and not moves and action.id not in ("palette", "back")
            )
            if here and not action.refusal(context):
                detail = f"{self.key_names.get(action.id, action.key_text):<6} {action.help}"
                yield Choice(action.label, detail, self._pick(screen, action.id))
        if isinstance(screen, ListScreen):
            for name, text in self.options.filters.items():
                yield Choice(f"filter {name}", text, partial(screen.set_filter, text))
        for wait in self.store.inbox()[:PALETTE_ROWS_MAX]:
            detail = f"{subject_of(wait)}  {wait.id}  {wait.correlation_id or ''}"
            yield Choice("wait", detail, partial(self.open_session, wait.session_id))
        for session in list(self.store.sessions.values())[:PALETTE_ROWS_MAX]:
            detail = f"{session.id}  {session.external_id or ''}  {session.task}"
            yield Choice(
                f"session {short_id(session.id)}",
                detail,
                partial(self.open_session, session.id),
            )
        for theme in THEMES:
            yield Choice(f"theme {theme}", "", partial(self.use_theme, theme))

    def _pick(self, screen: ConsoleScreen, action_id: str) -> Callable[[], None]:
        def pick() -> None:
            self.background(screen.perform(action_id), group="command", holds_keys=True)

        return pick

    def do_quit(self) -> None:
        """Leave; not while something is being sent."""
        if self.sending:
            self.say("Something is being sent; wait for what comes back", "warning")
            return
        self.exit(0)

    async def action_quit(self) -> None:
        """Ctrl+q, wherever the focus is."""
        self.do_quit()
