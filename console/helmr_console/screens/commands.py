"""What the palette offers: the commands that can be done now, filters, waits, sessions, colours."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from helmr.review.words import short_id, subject_of
from helmr_console.actions import ACTIONS, ActionScope
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import MenuItem
from helmr_console.screens.session import SessionScreen
from helmr_console.themes import THEMES

ROWS_MAX = 500
"""Waits, and as many sessions."""


def commands(screen: ConsoleScreen) -> Iterable[MenuItem]:
    """Everything that can be picked while this screen is in front."""
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
