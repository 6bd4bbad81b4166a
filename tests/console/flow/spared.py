"""What a console under test is spared of Textual's work: half of its processor time, and most of its waiting.

- It draws no frame for a terminal that is not there: a third of the time. What stands on the screen is drawn when a
  test looks (`tests/console/golden.py`), by the same widgets.
- It reads the style sheets once for all consoles, not anew for each.
- It sleeps for no 20 ms after each key: the console says itself when a key has had all of its effects.
- People read and type faster than any: what they have to read may be confirmed, and a draft is kept, after 20 ms.

`tests/console/flow/terminal.py` and `make perf` drive the console as it is.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual import app as textual_app
from textual import pilot as textual_pilot
from textual._compositor import Compositor  # what is drawn, and for which screens
from textual._context import visible_screen_stack
from textual.css.stylesheet import Stylesheet
from textual.screen import Screen

from helmr.person.review import sending
from helmr_console.screens import entry, submit

SOON_S = 0.02
TURNS = 5
"""Of the event loop, for what the last message has set off."""

_sheets: dict[frozenset[tuple[str, str]], Any] = {}
"""What was read of style sheets, by the variables that they were read with."""
_read_sheets = Stylesheet.parse


def spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what no assert of a test sees."""
    monkeypatch.setattr(textual_app, "wait_for_idle", _turns)
    monkeypatch.setattr(textual_pilot, "wait_for_idle", _turns)
    monkeypatch.setattr(Screen, "_compositor_refresh", _draw_nothing)
    monkeypatch.setattr(Stylesheet, "parse", _parse_once)
    for module, name in (
        (sending, "READS_S"),
        (submit, "READS_S"),
        (entry, "DRAFT_DELAY_S"),
    ):
        monkeypatch.setattr(module, name, SOON_S)


async def _turns(min_sleep: float = 0.0, max_sleep: float = 0.0) -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _draw_nothing(screen: Screen[Any]) -> None:
    """As `Screen._compositor_refresh`, but that nothing is drawn."""
    app, compositor = screen.app, screen._compositor
    assert isinstance(compositor, Compositor)
    if screen is app.screen:
        visible_screen_stack.set(app._background_screens)
        compositor._dirty_regions.clear()
        screen._dirty_widgets.clear()
        app._display(screen, None)
    elif screen in app._background_screens and compositor._dirty_regions:
        app.screen.refresh(*compositor._dirty_regions)
        screen._repaint_required = True
        compositor._dirty_regions.clear()
        screen._dirty_widgets.clear()
    app._update_mouse_over(screen)


def _parse_once(sheet: Stylesheet) -> None:
    own = sheet._parse_cache
    sheet._parse_cache = _sheets.setdefault(frozenset(sheet._variables.items()), {})
    try:
        _read_sheets(sheet)
    finally:
        sheet._parse_cache = own
