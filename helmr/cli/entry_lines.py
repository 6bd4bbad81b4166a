"""Entries of a transcript as lines of text."""

from __future__ import annotations

import shutil
import sys
from datetime import date
from typing import TYPE_CHECKING, Any

from helmr.cli import printing
from helmr.cli.describe import value_text
from helmr.wire.safe_text import cells, one_line

if TYPE_CHECKING:
    from helmr.models import EntryInfo, PrincipalInfo

WIDE_CELLS = 100
"""A terminal from this width on has room for ops, and for milliseconds."""
KIND_CELLS = 17
WHO_CELLS = 14
WHO_CELLS_MAX = 34
INDENT = " " * 7
UNTOLD = ("operation", "copied_from", "kind", "seq", "attempt")
"""Keys without news in a body that has no telling part."""


class EntryTable:
    """Prints entries one after the other, to stdout."""

    def __init__(self) -> None:
        terminal = printing.is_terminal(sys.stdout)
        self._width = max(20, shutil.get_terminal_size().columns) if terminal else None
        self._day: date | None = None

    def write(self, entry: EntryInfo) -> None:
        """Print one."""
        if self._width is None:
            moment = entry.recorded_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            printing.write(
                f"{_head(entry, moment, op=True)}{one_line(detail(entry), None)}".rstrip()
            )
            return
        if entry.recorded_at.date() != self._day:
            self._day = entry.recorded_at.date()
            printing.write(f"{INDENT}{self._day.isoformat()} UTC")
        for line in lines(entry, self._width):
            printing.write(line)


def lines(entry: EntryInfo, width: int) -> list[str]:
    """An entry on a terminal of that width: one line, or two if what happened does not fit into the first."""
    is_wide = width >= WIDE_CELLS
    moment = entry.recorded_at.strftime("%H:%M:%S.%f")[:-3]
    head = _head(entry, moment if is_wide else moment[:8], op=is_wide)
    what = one_line(detail(entry), None)
    if not what or cells(head) + cells(what) <= width:
        return [one_line((head + what).rstrip(), width)]
    return [one_line(head.rstrip(), width), INDENT + one_line(what, width - len(INDENT))]


def acted(principal: PrincipalInfo) -> str:
    """Name the principal that acted, and the person it acted for."""
    if principal.type == "person":
        return principal.label
    name = principal.type if principal.type == "task" else principal.name or principal.type
    return f"{name} for {principal.on_behalf_of}" if principal.on_behalf_of else name


def detail(entry: EntryInfo) -> str:
    """The part of an entry that tells most."""
    body = entry.body
    error = body.get("error")
    if isinstance(error, dict):
        return f"{error.get('type') or error.get('code')}: {error.get('message')}"
    for key in ("subject", "message", "text", "name", "task", "cause"):
        if isinstance(body.get(key), str) and body[key]:
            return str(body[key])
    for key in ("data", "result", "value"):
        if key in body:
            return value_text(body[key])
    if isinstance(body.get("stream"), str):
        return " ".join(str(body[key]) for key in ("stream", "correlation_id") if body.get(key))
    rest = {name: value for name, value in body.items() if _is_telling(name, value)}
    return value_text(rest) if rest else ""


def _is_telling(name: str, value: Any) -> bool:
    return bool(value or value == 0) and not (
        name in UNTOLD or name.endswith(("_id", "_hash", "_seq", "_offset"))
    )


def _head(entry: EntryInfo, moment: str, *, op: bool) -> str:
    by = one_line(acted(entry.principal), WHO_CELLS_MAX)
    parts = [f"{entry.seq:>5}", moment, entry.kind.ljust(KIND_CELLS)]
    if op:
        parts.append((f"op {entry.op}" if entry.op is not None else "").ljust(5))
    parts.append(by + " " * (WHO_CELLS - cells(by)))
    return "  ".join(parts) + "  "
