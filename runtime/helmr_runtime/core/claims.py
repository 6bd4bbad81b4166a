"""Claims: who works on a pending wait, until when, and who may answer it meanwhile (S-81). Pure.

A claim is not an entry: making one wakes no session and writes nothing. The ledger remembers it with its unwritten
entries (`WaitClaims.unwritten`), and the writer of the session's next entry writes those first. The writer is the host
that holds the session, which hears of every change, or the ledger itself. A session has at most one pending wait, and
so one claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import WaitClaimed
from helmr_runtime.core.entries import RUNTIME, Draft, Entry, EntryKind, Principal, from_iso, iso

UNWRITTEN_MAX = 50
"""Unwritten entries remembered for one wait; the oldest is forgotten first."""

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedWait:
    """The pending wait, as entries name it."""

    wait_id: str
    run_id: str
    op: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitClaim:
    """Someone works on a wait. `since` names the claim: no two claims of a session have the same."""

    by: Principal
    since: datetime
    until: datetime

    def is_of(self, principal: Principal) -> bool:
        """True if that principal made it, for the same person."""
        return _who(self.by) == _who(principal)

    def to_json(self) -> dict[str, Any]:
        """A `ClaimInfo`."""
        return {
            "principal": self.by.to_json(),
            "on_behalf_of": self.by.person,
            "since": iso(self.since),
            "until": iso(self.until),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitClaims:
    """The claims of one pending wait that its session's transcript does not hold yet.

    Attributes:
        wait: Which wait.
        as_of: Time of the last change; rises with every change, so that an older value can be recognized.
        claim: The newest claim, which may have lapsed by now.
        unwritten: Entries to write before the session's next entry, in order.
    """

    wait: ClaimedWait
    as_of: datetime
    claim: WaitClaim | None = None
    unwritten: tuple[Draft, ...] = ()

    def live(self, wait_id: str | None, now: datetime) -> WaitClaim | None:
        """The claim of that wait, if it has not lapsed."""
        is_live = self.claim is not None and now < self.claim.until
        return self.claim if is_live and wait_id == self.wait.wait_id else None

    def pending(self, now: datetime) -> tuple[Draft, ...]:
        """Return the entries to write before an entry made now; a claim that has lapsed adds its end."""
        return self._lapsed(now).unwritten

    def claimed(
        self, by: Principal, now: datetime, *, for_s: float, override: bool = False
    ) -> WaitClaims:
        """Claim the wait for that principal for `for_s` seconds, or renew its claim.

        Raises:
            WaitClaimed: Another principal has claimed it, and is not overridden.
        """
        known = self._lapsed(now)
        lasts = timedelta(seconds=for_s)
        if known.claim is not None and known.claim.is_of(by):
            return known._changed(now, replace(known.claim, until=now + lasts))
        if known.claim is not None:
            refuse_unless_overridden(self.wait.wait_id, known.claim, override=override)
            known = known._ended("overridden", by, now)
        at = known._next(now)
        until = at + lasts
        body = {"wait_id": self.wait.wait_id, "at": iso(at), "until_at": iso(until)}
        fact = known._draft(EntryKind.WAIT_CLAIMED, body, by)
        return known._changed(at, WaitClaim(by=by, since=at, until=until), fact)

    def released(self, by: Principal, now: datetime) -> WaitClaims:
        """End that principal's claim; without a claim nothing changes.

        Raises:
            WaitClaimed: The claim is another principal's.
        """
        known = self._lapsed(now)
        if known.claim is None:
            return known
        if not known.claim.is_of(by):
            refuse_unless_overridden(self.wait.wait_id, known.claim, override=False)
        return known._ended("released", by, now)

    def overridden(self, by: Principal, at: datetime) -> WaitClaims:
        """End the claim, since that principal has answered over it."""
        known = self._lapsed(at)
        return known if known.claim is None else known._ended("overridden", by, at)

    def given_back(self, by: Principal, now: datetime) -> WaitClaims:
        """End a disabled person's claim, on that principal's order (S-117)."""
        known = self._lapsed(now)
        return known if known.claim is None else known._ended("released", by, now)

    def written(self, entry: Entry) -> WaitClaims:
        """Return the claims once that entry of a claim is on its way to disk."""
        at = from_iso(entry.body["at"])
        rest = tuple(fact for fact in self.unwritten if from_iso(fact.body["at"]) > at)
        is_end = entry.kind is EntryKind.WAIT_CLAIM_ENDED
        since = iso(self.claim.since) if self.claim is not None else None
        is_over = is_end and entry.body["since_at"] == since
        return replace(self, unwritten=rest, claim=None if is_over else self.claim)

    def without_written(self, through: datetime | None) -> WaitClaims:
        """Drop the entries written up to that time."""
        if through is None:
            return self
        rest = tuple(fact for fact in self.unwritten if from_iso(fact.body["at"]) > through)
        return replace(self, unwritten=rest)

    # --- changes --------------------------------------------------------------------------------

    def _next(self, now: datetime) -> datetime:
        return max(now, self.as_of + _TICK)

    def _lapsed(self, now: datetime) -> WaitClaims:
        claim = self.claim
        if claim is None or now < claim.until:
            return self
        at = self._next(claim.until)
        return self._changed(at, None, claim_ended(self.wait, claim, "lapsed", RUNTIME, at))

    def _ended(self, reason: str, by: Principal, now: datetime) -> WaitClaims:
        assert self.claim is not None
        at = self._next(now)
        return self._changed(at, None, claim_ended(self.wait, self.claim, reason, by, at))

    def _changed(self, now: datetime, claim: WaitClaim | None, *facts: Draft) -> WaitClaims:
        unwritten = (*self.unwritten, *facts)[-UNWRITTEN_MAX:]
        as_of = self._next(now) if not facts else now
        return replace(self, as_of=as_of, claim=claim, unwritten=unwritten)

    def _draft(self, kind: EntryKind, body: Mapping[str, Any], by: Principal) -> Draft:
        return Draft(kind, body, run_id=self.wait.run_id, op=self.wait.op, principal=by)


def claim_ended(
    wait: ClaimedWait, claim: WaitClaim, reason: str, by: Principal, at: datetime
) -> Draft:
    """The entry of a claim's end. `reason`: released, lapsed, overridden."""
    body = {
        "wait_id": wait.wait_id,
        "reason": reason,
        "at": iso(at),
        "claimed_by": claim.by.to_json(),
        "since_at": iso(claim.since),
    }
    return Draft(EntryKind.WAIT_CLAIM_ENDED, body, run_id=wait.run_id, op=wait.op, principal=by)


def overridden_by(
    wait_id: str, claim: WaitClaim | None, by: Principal, *, override: bool
) -> WaitClaim | None:
    """The claim that an answer of that principal overrides; None if no other's is in its way.

    Raises:
        WaitClaimed: Another's is, and the answer does not say that it overrides one.
    """
    if claim is None or claim.is_of(by):
        return None
    refuse_unless_overridden(wait_id, claim, override=override)
    return claim


def refuse_unless_overridden(wait_id: str, claim: WaitClaim, *, override: bool) -> None:
    """Refuse an answer if someone else has claimed the wait, unless it overrides the claim.

    Raises:
        WaitClaimed: Unless it is overridden.
    """
    if override:
        return
    by = claim.by
    who = by.person or by.name or by.id or by.type
    raise WaitClaimed(
        f"{wait_id} is claimed by {who} until {claim.until.strftime('%Y-%m-%dT%H:%M:%SZ')}",
        wait_id=wait_id,
        claim=claim.to_json(),
    )


def _who(principal: Principal) -> tuple[str, str | None, str | None]:
    return principal.type, principal.id, principal.on_behalf_of
