"""A row of a transcript: which stretches of text it is made of, each with its role. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rich.cells import cell_len

from helmr.models import EntryInfo
from helmr.review import words
from helmr_console.entry_lines import EntryLine
from helmr_console.widgets.lines import fit

Parts = list[tuple[str, str]]

FIXED_CELLS = 26
"""Signs, number, time and word."""
BY_FROM_WIDTH = 70


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands before a row: the cursor's sign, whether it is marked, folded, set aside."""

    sign: str = " "
    is_marked: bool = False
    fold: str = " "
    is_aside: bool = False


class Times(StrEnum):
    """How the time of an entry is shown."""

    CLOCK = "clock"
    AGE = "age"
    ELAPSED = "elapsed"


def time_text(
    times: Times, entry: EntryInfo, before: EntryInfo | None, now: Callable[[], datetime]
) -> str:
    """The time of an entry; `before` is the one in front of it, if that is here."""
    if times is Times.CLOCK:
        return words.clock(entry.recorded_at)
    if times is Times.AGE:
        return words.span((now() - entry.recorded_at).total_seconds())
    if before is None:
        return "" if entry.seq > 1 else "0s"
    gap_s = (entry.recorded_at - before.recorded_at).total_seconds()
    return f"+{gap_s:.3f}s" if gap_s < 10 else f"+{words.span(gap_s)}"


def row(line: EntryLine, time: str, marks: Marks, width: int) -> Parts:
    """The row in at most `width` cells; the text gives way to who did it and how long it took."""
    by = f"  {line.by}" if line.by and width >= BY_FROM_WIDTH else ""
    by = fit(by, min(cell_len(by), width // 3))
    took = f"  {line.took}" if line.took else ""
    room = max(0, width - FIXED_CELLS - cell_len(by) - cell_len(took))
    text, text_role, word_role = line.text, "", line.role or "muted"
    if line.rule:
        text = f"── {text} "
        text += "─" * max(0, room - cell_len(text))
        text_role = "muted"
    elif line.role in ("error", "warning") or line.is_live:
        text_role = line.role
    if marks.is_aside:
        word_role = text_role = "muted"
    return [
        (marks.sign, "accent"),
        ("*" if marks.is_marked else " ", "strong"),
        (f"{line.seq:>5}", "muted"),
        (f"{marks.fold}{time:>8}{'~' if marks.is_aside else ' '}", "muted"),
        (f"{line.word:<8} ", word_role),
        (fit(text, room), text_role),
        (took, "muted"),
        (by, "muted" if marks.is_aside else "strong"),
    ]
