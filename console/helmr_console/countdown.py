"""Time as an operator reads it: how long a wait has left, how urgent that is, how old something is.

Every urgency has a sign and a word, so that it reads without colour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from helmr.models import WaitInfo
from helmr.wait_words import next_end

NOW_S = 60
SOON_S = 600
DAY_S = 86_400


class Urgency(StrEnum):
    """How soon a wait is over; the value is the word for it."""

    NOW = "now"
    SOON = "soon"
    LATER = "later"
    NEVER = "no deadline"
    OVER = "ending"


SIGNS = {
    Urgency.NOW: "!",
    Urgency.SOON: "▲",
    Urgency.LATER: "·",
    Urgency.NEVER: "·",
    Urgency.OVER: "x",
}


@dataclass(frozen=True, slots=True)
class Due:
    """Time left: its text, and how urgent it is."""

    text: str
    urgency: Urgency
    then: str = ""
    """What is said when it is over, if that is not nothing: `then reject`."""

    @property
    def full_text(self) -> str:
        """`03:00 then reject`."""
        return f"{self.text} {self.then}".rstrip()

    def sign(self) -> str:
        """The sign that stands before the text."""
        return SIGNS[self.urgency]


def of_wait(wait: WaitInfo, now: datetime) -> Due:
    """How long a pending wait has, to the next thing that ends it, and what its escalation then says for people."""
    left, end = due(wait.ends_at, now), next_end(wait)
    return replace(left, then=f"then {end.then}") if end is not None and end.is_default else left


def due(deadline_at: datetime | None, now: datetime) -> Due:
    """What the due column says: `00:41` below ten minutes, then `12m`, `3h 05m`, `5d 2h`, else `none`.

    At and after the deadline it says `ending`: the wait is over, only its record may lag (S-14).
    """
    if deadline_at is None:
        return Due("none", Urgency.NEVER)
    left_s = (deadline_at - now).total_seconds()
    if left_s <= 0:
        return Due("ending", Urgency.OVER)
    whole = int(left_s)
    if whole < SOON_S:
        urgency = Urgency.NOW if whole < NOW_S else Urgency.SOON
        return Due(f"{whole // 60:02d}:{whole % 60:02d}", urgency)
    return Due(span(whole), Urgency.LATER)


def span(seconds: float) -> str:
    """A stretch of time in at most seven cells: `42s`, `12m`, `3h 05m`, `5d 2h`, `400d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m"
    if whole < DAY_S:
        return f"{whole // 3_600}h {whole % 3_600 // 60:02d}m"
    days, rest = divmod(whole, DAY_S)
    return f"{days}d {rest // 3_600}h" if days < 100 else f"{days}d"


def ago(moment: datetime, now: datetime) -> str:
    """`12m ago`; a moment in the future by a wrong clock is `now`."""
    passed_s = (now - moment).total_seconds()
    return "now" if passed_s < 1 else f"{span(passed_s)} ago"


def clock(moment: datetime) -> str:
    """`14:32:10`, UTC."""
    return moment.strftime("%H:%M:%S")


def day(moment: datetime, now: datetime) -> str:
    """`14:32`, and the day where it is another: `14:32 on 26 Nov`, `14:32 on 3 Jan 2027`; UTC."""
    text = moment.strftime("%H:%M")
    if moment.date() == now.date():
        return text
    year = "" if moment.year == now.year else f" {moment.year}"
    return f"{text} on {moment.day} {moment.strftime('%b')}{year}"


def moment(at: datetime, now: datetime) -> str:
    """`21:06 (14m)`: a time ahead, its day where it is another, and how far that is."""
    left_s = (at - now).total_seconds()
    return f"{day(at, now)} ({span(left_s)})" if left_s > 0 else f"{day(at, now)} (over)"


def stamp(moment: datetime) -> str:
    """`2026-11-24 14:32:10 UTC`."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int) -> str:
    """Bytes for people: `812 B`, `4.2 kB`, `1.3 MB`."""
    if count < 1_000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1_000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"
