"""A pending wait's escalation: which of its escalation steps have fired, which is next and when (S-82). Pure.

What an escalation step is stands in `wait.opened`. Each entry after which another escalation step is next, or the same
at another time, says so (`times`): so the ledger knows when to look at a parked session, and need not know at what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr_runtime.core.entries import Entry, EntryKind, from_iso, iso


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """An escalation that is being run.

    Attributes:
        steps: As in the body of `wait.opened`; one that is named by number is `escalation_steps[number]`.
        opened_at: What escalation steps are counted from.
        assigned_at: What escalation steps from the newest assignment are counted from; None while the wait concerns
            nobody.
        ends_at: The wait's deadline, its token's expiry too; what would come then or later never does.
        fired: The escalation steps that have fired, in that order.
    """

    steps: Sequence[Mapping[str, Any]]
    opened_at: datetime
    assigned_at: datetime | None
    ends_at: datetime | None
    fired: tuple[int, ...] = ()

    @classmethod
    def of(cls, opened: Mapping[str, Any]) -> Escalation | None:
        """The escalation in the body of a `wait.opened`; None if it has none, or is of before they were run."""
        if "counted_at" not in opened:
            return None
        opened_at, ends_at = from_iso(opened["counted_at"]), opened.get("deadline_at")
        return cls(
            steps=opened["escalation"],
            opened_at=opened_at,
            assigned_at=opened_at if "assignee" in opened else None,
            ends_at=from_iso(ends_at) if ends_at is not None else None,
        )

    def time_of(self, number: int) -> datetime | None:
        """When the escalation step fires, as things are; None if it has fired or won't."""
        step = self.steps[number]
        since = self.assigned_at if step["from"] == "assigned" else self.opened_at
        if number in self.fired or since is None:
            return None
        at = since + timedelta(seconds=step["after_s"])
        return at if self.ends_at is None or at < self.ends_at else None

    def next(self) -> tuple[datetime, int] | None:
        """When which escalation step is next; of several at once the first that was written."""
        times = ((self.time_of(number), number) for number in range(len(self.steps)))
        return min(((at, number) for at, number in times if at is not None), default=None)

    @property
    def next_at(self) -> datetime | None:
        """When the next escalation step fires."""
        found = self.next()
        return found[0] if found is not None else None

    @property
    def default_at(self) -> datetime | None:
        """When the default answers if every escalation step before it comes in time: nobody can then."""
        escalated = self
        while (found := escalated.next()) is not None:
            at, number = found
            if self.steps[number]["do"] == "default":
                return at
            escalated = escalated.fires(number, at)
        return None

    def fires(self, number: int, at: datetime) -> Escalation:
        """The escalation once that escalation step has fired."""
        is_assignment = self.steps[number]["do"] == "assign"
        return replace(
            self,
            fired=(*self.fired, number),
            assigned_at=at if is_assignment else self.assigned_at,
        )

    def assigned(self, assignee: str | None, at: datetime) -> Escalation:
        """The escalation once somebody has assigned the wait, or taken it from whom it concerned."""
        return replace(self, assigned_at=at if assignee is not None else None)

    def after(self, entry: Entry) -> Escalation:
        """The escalation once a `wait.reminded` or `wait.assigned` is written."""
        body = entry.body
        number = body.get("escalation_step")
        if number is not None:
            at = from_iso(body["counted_at"]) if "counted_at" in body else entry.recorded_at
            return self.fires(number, at)
        if entry.kind is EntryKind.WAIT_ASSIGNED and "counted_at" in body:
            return self.assigned(body.get("assignee"), from_iso(body["counted_at"]))
        return self

    def due(self, now: datetime) -> Iterator[tuple[int, Escalation]]:
        """The escalation steps that have come by now, in order, each with the escalation as it is then; the default is
        the last.

        One that is counted from an assignment that has only come now has not come.
        """
        escalated = self
        while (found := escalated.next()) is not None and found[0] <= now:
            number = found[1]
            escalated = escalated.fires(number, now)
            yield number, escalated
            if self.steps[number]["do"] == "default":
                return

    def times(self) -> dict[str, Any]:
        """What an entry says of what comes next: `next_escalation`, `next_escalation_at`, `default_at`, as far as there
        is any."""
        found = self.next()
        if found is None:
            return {}
        said = {"next_escalation": found[1], "next_escalation_at": iso(found[0])}
        default_at = self.default_at
        return said | ({"default_at": iso(default_at)} if default_at is not None else {})


def opening(body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What a `wait.opened` with that body says beside its escalation, if any: since when it counts, and what is
    next."""
    if not body.get("escalation"):
        return {}
    counted = {"counted_at": iso(now)}
    escalation = Escalation.of({**body, **counted})
    assert escalation is not None
    return counted | escalation.times()
