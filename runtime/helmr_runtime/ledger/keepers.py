"""What stays with a ledger: claims, in its memory, and the master keys, of which it gives only what follows from them.

Claims are made, renewed and released there, shown with their waits, never written alone.

Invariants: S-81.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from helmr.errors import BadRequest, WaitResolved, WaitTimedOut
from helmr.models import ANSWERABLE
from helmr_runtime.core.claims import ClaimedWait, WaitClaims
from helmr_runtime.core.entries import Principal, iso
from helmr_runtime.core.session_file import FileSignature
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ports import ClaimsKept
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.session_keys import SessionKeys
from helmr_runtime.security.signatures import public_keys, sign


class ClaimKeeper:
    """The claims of one ledger.

    Args:
        now: The ledger's time.
        head: A session's head, admitted to the index; None if there is no such session.
        heads: Those in memory.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        head: Callable[[str], Awaitable[Head | None]],
        heads: Callable[[], Mapping[str, Head]],
    ) -> None:
        self._now = now
        self._head = head
        self._heads = heads

    async def claim_wait(
        self, session_id: str, wait_id: str, by: Principal, *, for_s: float, override: bool
    ) -> ClaimsKept:
        """As `helmr_runtime.ports.ledger.LedgerClient`."""
        head, now = await self._waiting(session_id, wait_id), self._now()
        known = head.claims or _no_claim(head, now)
        head.claims = known.claimed(by, now, for_s=for_s, override=override)
        return _kept(head)

    async def release_wait(self, session_id: str, wait_id: str, by: Principal) -> ClaimsKept:
        """As `helmr_runtime.ports.ledger.LedgerClient`."""
        head = await self._waiting(session_id, wait_id)
        if head.claims is not None:
            head.claims = head.claims.released(by, self._now())
        return _kept(head)

    async def _waiting(self, session_id: str, wait_id: str) -> Head:
        head = await self._head(session_id)
        wait = head.wait if head is not None else None
        if head is None or wait is None or wait.id != wait_id:
            raise WaitResolved(f"{wait_id} is no longer pending", wait_id=wait_id)
        if wait.kind not in ANSWERABLE:
            raise BadRequest(f"{wait_id} waits for a {wait.kind}, which no one answers")
        # The time counts, whether or not the entry that says so is written yet.
        if wait.default_at is not None and self._now() >= wait.default_at:
            raise WaitResolved(
                f"{wait_id} was answered by its escalation's default at {iso(wait.default_at)}",
                wait_id=wait_id,
            )
        if wait.deadline_at is not None and self._now() >= wait.deadline_at:
            raise WaitTimedOut(
                f"{wait_id} timed out at {iso(wait.deadline_at)}",
                hint="No one can answer it any more.",
                wait_id=wait_id,
                deadline_at=iso(wait.deadline_at),
            )
        return head

    def with_claim(self, wait: Mapping[str, Any]) -> dict[str, Any]:
        """A `WaitInfo` with who has claimed it now."""
        head = self._heads().get(wait["session_id"])
        claims = head.claims if head is not None else None
        claim = claims.live(wait["id"], self._now()) if claims is not None else None
        return {**wait, "claim": claim.to_json() if claim is not None else None}

    def count(self) -> int:
        """How many waits someone is at now."""
        now = self._now()
        return sum(
            head.claims is not None
            and head.wait is not None
            and head.claims.live(head.wait.id, now) is not None
            for head in self._heads().values()
        )


def _no_claim(head: Head, now: datetime) -> WaitClaims:
    assert head.wait is not None
    assert head.run_id is not None
    wait = ClaimedWait(wait_id=head.wait.id, run_id=head.run_id, op=head.wait.op)
    # What was written of earlier claims of this wait is older than its session's last entry.
    as_of = now if head.last_at is None else max(now, head.last_at)
    return WaitClaims(wait=wait, as_of=as_of)


def _kept(head: Head) -> ClaimsKept:
    return ClaimsKept(claims=head.claims, holder=head.held_by)


class KeyKeeper:
    """What a ledger derives of its key ring.

    Args:
        ring: The master keys; None if there are none.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self.ring = ring

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys; None without master keys."""
        return self.ring.session_keys(session_id) if self.ring is not None else None

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """The signature of a session file, by the newest master key; None without master keys."""
        return sign(self.ring, signed) if self.ring is not None else None

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """The id of each master key and the public key that its signatures are checked by, the newest first."""
        return public_keys(self.ring) if self.ring is not None else ()
