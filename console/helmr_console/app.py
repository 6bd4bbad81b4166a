"""The app: areas as modes, the terminal, the actions that work anywhere, and the palette's commands."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial, partialmethod

from rich.console import RenderableType
from textual import events
from textual.app import App
from textual.filter import LineFilter
from textual.theme import Theme

from helmr.client.aio import AsyncClient
from helmr.person.review.words import short_id, subject_of
from helmr_console import actions, background, look
from helmr_console.actions import ACTIONS, ActionScope
from helmr_console.clock import ConsoleClock
from helmr_console.console import Console, Options
from helmr_console.look import THEMES
from helmr_console.safe import AsciiSigns, LineGuard
from helmr_console.screens.areas import ActivityScreen, SystemScreen
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.inbox import InboxScreen
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import MenuItem, PickScreen, TextScreen, help_content
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.sessions import SessionsScreen
from helmr_console.screens.since import SinceScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_console.widgets.panes import lines

ROWS_MAX = 500
"""Most waits that the palette lists, and most sessions."""


def commands(screen: ConsoleScreen) -> Iterable[MenuItem]:
    """Yield the palette's items while this screen is in front."""
    console, context = screen.console, screen.context()
    for action in ACTIONS:
        moves = action.scope is ActionScope.LIST and action.id.startswith("list.")
        here = action.scope in screen.SCOPES and not moves and action.id not in ("palette", "back")
        if here and not action.refusal(context):
            detail = f"{console.key_names.get(action.id, action.key_text):<6} {action.help}"
            yield MenuItem(action.label, detail, partial(_perform, screen, action.id))
    if isinstance(screen, ListScreen):
        for name, text in screen.filters().items():
            yield MenuItem(f"filter {name}", text, partial(screen.set_filter, text))
    for wait in console.store.inbox()[:ROWS_MAX]:
        detail = f"{subject_of(wait)}  {wait.id}  {wait.correlation_id or ''}"
        yield MenuItem("wait", detail, partial(_open, screen, wait.session_id))
    for session in list(console.store.sessions.values())[:ROWS_MAX]:
        detail = f"{session.id}  {session.external_id or ''}  {session.task}"
        yield MenuItem(
            f"session {short_id(session.id)}", detail, partial(_open, screen, session.id)
        )
    for theme in THEMES:
        yield MenuItem(f"theme {theme}", "", partial(console.use_theme, theme))


def _perform(screen: ConsoleScreen, action_id: str) -> None:
    work = screen.perform(action_id)
    screen.console.background.start(work, group="command", holds_keys=True)


def _open(screen: ConsoleScreen, session_id: str) -> None:
    screen.app.push_screen(SessionScreen(session_id))


CLOSE_S = 10.0
"""Longest wait for background work when the console ends.

A call that is cancelled while it connects leaves its socket to the client. The client is closed last; closed
earlier, it would leak that socket.
"""
GONE_S = CLOSE_S + 5.0
"""Seconds that a console without a terminal has to release its claims."""


class ConsoleApp(App[int]):
    """Helmr's operator console.

    Args:
        client: Talks to the gateway; closed by the app.
        options: How it was started.
        clock: Source of time; the machine's if None.
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
    VERTICAL_BREAKPOINTS = [(0, "-low"), (44, "-tall")]
    CSS = """
    Screen { background: $c-background; color: $c-foreground; }
    """

    def __init__(
        self, client: AsyncClient, options: Options, clock: ConsoleClock | None = None
    ) -> None:
        self.fatal = ""
        """The console's own fatal error, in one line; the trace is in the log."""
        self.options = options
        self._last_mode = "sessions"
        self._left_behind = 0
        """Number of pending answers in the last warning; the app may end while there are no more than that."""
        self._guard = LineGuard()
        self._themes: dict[str, Theme] = {}
        super().__init__()
        self.shared = Console(self, client, options, clock)
        self._giving: asyncio.Task[None] | None = None

    # --- start and end

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return our variables, which the style sheet needs before our theme is set."""
        return look.default_variables()

    def get_theme(self, theme_name: str) -> Theme | None:
        """Return a theme by name, cached: Textual asks for every line it draws and rebuilds its list each time."""
        if theme_name not in self._themes:
            found = super().get_theme(theme_name)
            if found is None:
                return None
            self._themes[theme_name] = found
        return self._themes[theme_name]

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Add the guard after all other filters, and the ASCII signs behind it."""
        signs = [AsciiSigns()] if self.options.ascii_only else []
        return [*super().get_line_filters(), self._guard, *signs]

    def on_mount(self) -> None:
        """Set colours and keys, then start the connection and the clock."""
        for theme in look.themes():
            self.register_theme(theme)
        self.theme = self.options.theme
        self.animation_level = "none"
        self.set_keymap(dict(self.options.keys))
        self.shared.keys.confirming = actions.keys_of("review", self.options.keys)
        if self.options.handle_signals:
            # A killed console must leave the terminal as it was.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 128 + number)
            threading.Thread(target=self._end_with_terminal, args=(loop,), daemon=True).start()
        self._giving = asyncio.create_task(self.shared.keys.run())
        self._giving.add_done_callback(self._no_more_keys)
        self.shared.start()

    def _end_with_terminal(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the app when its terminal is gone, like a SIGHUP, which only the terminal's own session gets.

        Textual would read such a terminal in a busy loop that takes a whole core, and hang once it can't write there.
        """
        terminal = select.poll()
        terminal.register(sys.stdin, 0)  # for the hang-up only
        if any(event & select.POLLHUP for _, event in terminal.poll()):
            loop.call_soon_threadsafe(self.exit, 128 + signal.SIGHUP)
            time.sleep(GONE_S)
            os._exit(128 + signal.SIGHUP)

    def panic(self, *renderables: RenderableType) -> None:
        """End the app when Textual's input thread fails: one line instead of a trace on the terminal."""
        self.fatal = self.fatal or background.of_renderables(renderables)
        self._return_code = 1
        self._close_messages_no_wait()

    def _handle_exception(self, error: Exception) -> None:
        self.fatal = self.fatal or background.of_error(error)
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        # Textual would print the trace with its local values, which include session text.
        self._close_messages_no_wait()

    async def on_unmount(self) -> None:
        """End background work, release claims, then close the connections."""
        if self._giving is not None:
            self._giving.cancel()
        running = list(self.workers)
        self.workers.cancel_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                waits = (worker.wait() for worker in running)
                await asyncio.gather(*waits, return_exceptions=True)
        await self.shared.give_back()
        await self.shared.client.close()

    # --- keys

    async def on_event(self, event: events.Event) -> None:
        """Queue keys, pastes and clicks so that they arrive one at a time."""
        if not self.shared.keys.takes(event):
            if isinstance(event, events.Key | events.Paste | events.MouseDown):
                self.shared.line.key(event.time)
            await super().on_event(event)

    def _no_more_keys(self, giving: asyncio.Task[None]) -> None:
        """End the console, in one line, when the key queue has stopped."""
        error = None if giving.cancelled() else giving.exception()
        if isinstance(error, Exception):
            self._handle_exception(error)

    # --- actions that work anywhere

    async def _go(self, mode: str) -> None:
        """Go to an area, or back to its list from the screens opened over it. A form being composed stays."""
        if self.current_mode != mode:
            self._last_mode = self.current_mode
            await self.switch_mode(mode)
            return
        while len(self.screen_stack) > 1 and not isinstance(self.screen, SubmitScreen):
            await self.pop_screen()

    do_area_inbox = partialmethod(_go, "inbox")
    do_area_sessions = partialmethod(_go, "sessions")
    do_area_activity = partialmethod(_go, "activity")
    do_area_system = partialmethod(_go, "system")

    async def do_failed(self) -> None:
        """Show the sessions that failed or are blocked."""
        for _ in range(2):  # there, and to its list
            await self._go("sessions")
        if isinstance(self.screen, SessionsScreen):
            self.screen.show_failed()

    async def do_last(self) -> None:
        """Go back to the previous area."""
        await self._go(self._last_mode)

    def do_pause(self) -> None:
        """Hold new rows back, or let them in."""
        shared = self.shared
        shared.paused_at_s = shared.store.mono() if shared.paused_at_s is None else None

    def do_refresh(self) -> None:
        """Ask the gateway now."""
        self.shared.ask_again()

    def do_theme(self) -> None:
        """Switch to the next theme."""
        self.shared.use_theme(THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)])

    def do_help(self) -> None:
        """Show help for the screen in front."""
        screen = self.screen
        if isinstance(screen, ConsoleScreen) and not isinstance(screen, TextScreen):
            content = help_content(
                screen.focus_help(), screen.HELP_TEXT, screen.SCOPES, self.shared.key_names
            )
            self.push_screen(TextScreen("Help", content))

    def do_palette(self) -> None:
        """Open the palette: commands that can run now, waits, sessions, filters, themes."""
        screen = self.screen
        if isinstance(screen, ConsoleScreen):
            self.push_screen(PickScreen("Commands", list(commands(screen)), typed=True))

    def do_undo(self) -> None:
        """Take back the answer that was confirmed last."""
        self.shared.take_back()

    def do_since(self) -> None:
        """List the waits that ended since the operator was last here."""
        self.push_screen(SinceScreen())

    def do_lost(self) -> None:
        """Show pending answers to waits that others answered first, beside theirs, newest first."""
        self.push_screen(TextScreen("Conflicts", lines(list(self.shared.lost))))

    def do_quit(self) -> None:
        """Leave, but not while something is being sent, and only after a warning while answers are pending."""
        if self.shared.sending:
            self.shared.say("Something is being sent; wait for what comes back", "warning")
            return
        if len(self.shared.outbox) > self._left_behind:
            self._left_behind = len(self.shared.outbox)
            self.shared.say(
                f"{self._left_behind} pending: wait until sent, or leave once more and keep it as a draft",
                "warning",
            )
            return
        self.exit(0)

    async def action_quit(self) -> None:
        """Handle ctrl+q, wherever the focus is."""
        self.do_quit()
