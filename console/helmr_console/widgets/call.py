"""Leave for a tool's call, as content: the tool, a row for each argument, what was changed, what an answer does."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual.content import Content

from helmr.forms import MISSING, Argument, ToolCall
from helmr.safe_text import one_line
from helmr_console import safe
from helmr_console.widgets.lines import fit

ROWS_MAX = 12
NAME_CELLS = 24
VALUE_CELLS = 200
WHOLE_ROWS, WHOLE_CELLS = 5_000, 20_000
"""Of a card above the decision about it: nothing of the call is left out there."""


def call_content(call: ToolCall, answer: Any = MISSING, *, is_whole: bool = False) -> list[Content]:
    """The call under this answer. Where there is no room for all rows, those that were changed come first.

    Args:
        is_whole: It is decided below it, so there is room.
    """
    rows_max, cells = (WHOLE_ROWS, WHOLE_CELLS) if is_whole else (ROWS_MAX, VALUE_CELLS)
    rows = call.arguments(answer)
    shown = rows if len(rows) <= rows_max else sorted(rows, key=lambda one: not one.is_changed)
    shown = shown[:rows_max]
    names = [one_line(one.name, 100) for one in shown]
    width = min(NAME_CELLS, max([len("tool"), *map(cell_len, names)]))
    parts = [_row("tool", width, safe.line(call.tool, "bold", limit=100))]
    parts += [_row(name, width, _value(one, cells)) for name, one in zip(names, shown, strict=True)]
    if len(rows) > len(shown):
        parts.append(Content.styled(f"… {len(rows) - len(shown)} more", "$c-muted"))
    effect = call.effect(answer)
    if effect:
        return [*parts, safe.line(effect, "$c-accent", limit=300)]
    width = max(len(decision) for decision, _ in call.outcomes())
    return [*parts, *(_row(name, width, safe.line(does)) for name, does in call.outcomes())]


def call_effects(call: ToolCall | None, answer: Any) -> tuple[str, ...]:
    """What sending this answer does to the call, a line for each value that it changes; nothing without a call."""
    if call is None:
        return ()
    changed = (f"{one_line(one.name, 60)}: {change_text(one)}" for one in call.changed(answer))
    return (one_line(call.effect(answer), 300), *changed)


def change_text(one: Argument, cells: int = VALUE_CELLS) -> str:
    """`4200 -> 1000`; safe text."""
    was = "not asked for" if one.asked is None else one_line(one.asked, cells)
    now = "left out" if one.now is None else one_line(one.now, cells)
    return f"{was} -> {now}"


def _value(one: Argument, cells: int) -> Content:
    if one.is_changed:
        return Content.styled(change_text(one, cells), "$c-warning")
    return safe.line(one.now or "", limit=cells)


def _row(name: str, width: int, value: Content) -> Content:
    return Content.assemble((f"{fit(name, width)}  ", "$c-muted"), value)
