"""A form page whose focus comes at the worst moment: between the layout that gives a scroll bar and the next one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from helmr_console.screens.submit import SubmitScreen
from tests.console.flow.bench import Bench

SIZES = [(80, 24), (120, 36)]
GROWN = ("it grows by a row", "and by one more")


async def opened_late(bench: Bench, patch: pytest.MonkeyPatch, key: str) -> Any:
    """Open the page behind this key so, as a busy machine does by chance, and let it grow two rows in that moment."""
    held: list[Callable[[], object]] = []
    lay_out = SubmitScreen._refresh_layout

    def call_later(
        screen: SubmitScreen, call: Callable[..., object], *args: Any, **named: Any
    ) -> bool:
        held.append(partial(call, *args, **named))
        return True

    def lay_out_then_call(screen: SubmitScreen, *args: Any, **named: Any) -> None:
        lay_out(screen, *args, **named)
        calls = held.copy()
        held.clear()
        for call in calls:
            call()
        if not screen.has_class("said"):
            screen.tell(GROWN, "warning")

    def is_focused() -> bool:
        screen = bench.app.screen
        return isinstance(screen, SubmitScreen) and screen.focused is not None

    with patch.context() as late:
        late.setattr(SubmitScreen, "call_later", call_later)
        late.setattr(SubmitScreen, "_refresh_layout", lay_out_then_call)
        with bench.app.batch_update():  # lays out nothing
            await bench.app._press_keys([key])
            await bench.until(is_focused)
        await bench.sees(GROWN[-1])
        await bench.rest()
    return bench.app.screen


def begins_at_the_top(bench: Bench) -> None:
    """The form on the terminal is longer than it, is shown from its first line, and has the focus in sight."""
    screen = bench.app.screen
    left = screen.query_one("#left")
    assert left.max_scroll_y > 0, f"this form is too short for the test:\n{bench.text()}"
    assert left.scroll_y == 0, f"it begins at line {left.scroll_y + 1:.0f}:\n{bench.text()}"
    assert screen.focused is not None
    assert screen.can_view_entire(screen.focused), f"{screen.focused} is out of\n{bench.text()}"
