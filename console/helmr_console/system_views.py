"""Notice targets and limits as rows and words. Pure.

Errors of targets leave here as safe text.
"""

from __future__ import annotations

from datetime import datetime

from helmr.models import LimitInfo, NoticeTargetInfo
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr_console.views import Cell, Row


def target_row(one: NoticeTargetInfo, now: datetime) -> Row:
    """sign, name, type, queued, late, taken, failing, error."""
    fails = one.failing_since is not None
    return (
        Cell("!" if fails else " ", "error"),
        Cell(one_line(one.name, 100)),
        Cell(one.type, "muted"),
        Cell(str(one.queued), "warning" if one.queued else "muted"),
        Cell(str(one.late), "warning" if one.late else "muted"),
        Cell(_age(one.last_taken_at, now), "muted"),
        Cell(_age(one.failing_since, now), "error"),
        Cell(one_line(one.last_error or "", 300), "error" if fails else "muted"),
    )


def target_state(one: NoticeTargetInfo) -> tuple[str, str]:
    """A target's state in a few words, and its role."""
    if one.failing_since is not None:
        return "takes nothing", "error"
    if one.late:
        return "has some yet to take", "warning"
    return "takes notices", "success"


def trying_again(one: NoticeTargetInfo) -> tuple[str, ...]:
    """Effects of trying a target again."""
    waiting = one.queued + one.late
    return (
        f"try now the {waiting} event{'' if waiting == 1 else 's'} that {one.name} has not taken",
        "one that it took without saying so may reach it twice",
    )


def targets_line(found: dict[str, NoticeTargetInfo], now: datetime) -> tuple[str, str]:
    """All notice targets in a few words, and the role."""
    if not found:
        return "none", ""
    failing = [one.failing_since for one in found.values() if one.failing_since]
    if not failing:
        return f"{len(found)}, all take notices", ""
    return f"{len(found)}, {len(failing)} failing, for {_age(min(failing), now)}", "error"


def limit_line(one: LimitInfo, now: datetime) -> tuple[str, str]:
    """A limit's use and queue in a few words, and the role."""
    in_use = f"{one.in_use} of {one.at_once}" if one.at_once is not None else str(one.in_use)
    parts = [f"{in_use} in use"]
    if one.begun is not None and one.within_s is not None:
        parts.append(f"{one.begun} of {one.per} begun in {words.span(one.within_s)}")
    if one.waiting:
        oldest = f", the oldest for {_age(one.oldest_at, now)}" if one.oldest_at else ""
        parts.append(f"{one.waiting} wait{oldest}")
    if one.closed_until is not None and one.closed_until > now:
        left = words.span((one.closed_until - now).total_seconds())
        return ", ".join([f"closed by its provider for {left}", *parts]), "warning"
    return ", ".join(parts), ""


def _age(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else words.span((now - moment).total_seconds())
