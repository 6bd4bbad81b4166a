"""Browsers in which people have signed in (S-116), in the memory of one gateway, by the hash of their cookie.

A session keeps its person's proof of identity and checks it with each request: the key may be revoked, the account
unbound, the person disabled. It ends at sign-out, after 8 hours without a request that the person made, after 24 hours
in any case, and with the gateway's process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Union

from helmr.errors import Unauthenticated
from helmr.wire.roles import Role
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import person_principal
from helmr_runtime.core.public_tokens import unauthenticated
from helmr_runtime.security.people import NamedPerson
from helmr_runtime.security.secrets import secret_hash
from helmr_runtime.service.access import ApiKeys
from helmr_runtime.service.people import PeopleView
from helmr_runtime.service.sign_in import SignIns

if TYPE_CHECKING:
    from helmr_runtime.security.id_tokens import SignIn


@dataclass(frozen=True, slots=True)
class LocalLink:
    """Proof that a one-time link of the local admin key was opened."""


SignInProof = Union["SignIn", LocalLink, str]
"""The issuer's statement, an opened link of the local key, or the hash of a personal key."""

LOCAL_ADMIN = NamedPerson(id="", role=Role.ADMIN)
"""The holder of the local key, whom no configuration can name."""
LOCAL_NAME = "local"

IDLE_MAX = timedelta(hours=8)
AGE_MAX = timedelta(hours=24)
SESSIONS_MAX = 10_000
PER_PERSON_MAX = 20
"""A new one replaces the least recently used."""


@dataclass(slots=True)
class BrowserSession:
    """One browser.

    Attributes:
        id: Its name in forms, from which the cookie can't be derived.
        person: The id of the person who signed in.
        proof: The proof of their identity.
        began_at, seen_at: Times of the sign-in and of the person's last request.
        has_ended: The cookie opens nothing any more.
    """

    id: str
    person: str
    proof: SignInProof
    began_at: datetime
    seen_at: datetime
    has_ended: bool = False

    def is_over(self, now: datetime) -> bool:
        """True if it was ended, or has been open or unused for too long."""
        is_old = now - self.began_at >= AGE_MAX or now - self.seen_at >= IDLE_MAX
        return self.has_ended or is_old


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenPerson:
    """The person behind a request.

    Attributes:
        person: The person, as configured.
        identity, principal: As commands and entries have them.
        session: The browser's; None behind a proxy that signs people in.
    """

    person: NamedPerson
    identity: Identity
    principal: Principal
    session: BrowserSession | None = None

    @property
    def is_local(self) -> bool:
        """True for the holder of the local key, who is no configured person."""
        return self.person is LOCAL_ADMIN


class BrowserSessions:
    """The open browser sessions.

    Args:
        sign_ins: Finds the person of a sign-in at the issuer.
        api_keys: Finds the person of a personal key.
        view: The people there are.
        now: Tells the time.
    """

    def __init__(
        self, sign_ins: SignIns, api_keys: ApiKeys, view: PeopleView, now: Callable[[], datetime]
    ) -> None:
        self._sign_ins = sign_ins
        self._api_keys = api_keys
        self._view = view
        self._now = now
        self._open: dict[str, BrowserSession] = {}
        """By the cookie's hash, least recently used first."""

    def __len__(self) -> int:
        return len(self._open)

    async def begin(self, secret: str, proof: SignInProof) -> ProvenPerson:
        """Open a session under a fresh secret; returns its person.

        Raises:
            Unauthenticated: The proof belongs to no person who may act.
            PersonBound: The person is bound to another account of the issuer.
        """
        person, identity, principal = await self._proven(proof, None)
        now, hashed = self._now(), secret_hash(secret)
        session = BrowserSession(secret_hash(hashed)[:32], person.id, proof, now, now)
        self._make_room(person.id, now)
        self._open[hashed] = session
        return ProvenPerson(person=person, identity=identity, principal=principal, session=session)

    async def find(self, secret: str, *, is_used: bool) -> ProvenPerson | None:
        """Return the person whose browser has this cookie; None without a session or if they may not act.

        Args:
            secret: The cookie.
            is_used: The person made the request, not the page by itself: it extends the session.
        """
        hashed, now = secret_hash(secret), self._now()
        session = self._open.get(hashed)
        if session is None:
            return None
        try:
            if session.is_over(now):
                raise unauthenticated()
            person, identity, principal = await self._proven(session.proof, session.person)
        except Unauthenticated:
            self._drop(hashed)
            return None
        if session.has_ended:
            return None  # meanwhile
        if is_used:
            session.seen_at = now
            self._open[hashed] = self._open.pop(hashed)
        return ProvenPerson(person=person, identity=identity, principal=principal, session=session)

    def end(self, secret: str) -> None:
        """Sign out."""
        self._drop(secret_hash(secret))

    def end_of(self, person_id: str) -> None:
        """End all sessions of a person; enabling the person again restores none."""
        for key in [key for key, one in self._open.items() if one.person == person_id]:
            self._drop(key)

    def _make_room(self, person_id: str, now: datetime) -> None:
        over = [key for key, one in self._open.items() if one.is_over(now)]
        own = [key for key, one in self._open.items() if one.person == person_id]
        for key in (*over, *own[: max(0, len(own) - PER_PERSON_MAX + 1)]):
            self._drop(key)
        while len(self._open) >= SESSIONS_MAX:
            self._drop(next(iter(self._open)))

    def _drop(self, hashed: str) -> None:
        session = self._open.pop(hashed, None)
        if session is not None:
            session.has_ended = True

    async def _proven(
        self, proof: SignInProof, person_id: str | None
    ) -> tuple[NamedPerson, Identity, Principal]:
        if isinstance(proof, LocalLink):
            return LOCAL_ADMIN, Identity(id=""), Principal("api_key", None, LOCAL_NAME)
        if not isinstance(proof, str):
            return await self._sign_ins.proven(proof, person_id)
        key = self._api_keys.known(proof) or await self._api_keys.find(proof)
        if key is None or key.person is None or not key.is_good(self._now()):
            raise unauthenticated()
        person = await self._view.acting(key.person)
        if person is None:
            raise unauthenticated()
        return person, self._view.identity(person), person_principal(person.id, key.id)
