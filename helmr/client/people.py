"""`client.people` reads people, disables and enables them, registers their signing keys, and names their deputies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import TypedDict, Unpack

from helmr.client.calls import given
from helmr.client.http import ClientPart, all_pages
from helmr.models import DelegationInfo, Page, PersonInfo, SignInInfo, WhoAmI
from helmr.wire.operations import (
    ADD_SIGNING_KEY,
    DELEGATE,
    DISABLE_PERSON,
    ENABLE_PERSON,
    GET_PERSON,
    HOW_TO_SIGN_IN,
    LIST_DELEGATIONS,
    LIST_PEOPLE,
    REVOKE_SIGNING_KEY,
    UNBIND_PERSON,
    UNDELEGATE,
    WHO_AM_I,
)


class DelegationScope(TypedDict, total=False):
    """The waits that a delegation is for; of each that is given, one must match.

    Attributes:
        tasks: Of these tasks.
        streams: On these streams.
        tags: With one of these tags, or in a session with one.
    """

    tasks: Iterable[str]
    streams: Iterable[str]
    tags: Iterable[str]


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


class AsyncPeople(ClientPart):
    """People (S-111): the caller, the list of people, and disabled ones."""

    async def whoami(self) -> WhoAmI:
        """Return the runtime's view of this client: its principal, role and person."""
        return await self._ask(WHO_AM_I)

    async def sign_in(self) -> SignInInfo:
        """Return the settings for signing in; all null without an issuer. Needs no key."""
        return await self._ask(HOW_TO_SIGN_IN)

    def list(self, *, limit: int | None = None) -> AsyncIterator[PersonInfo]:
        """People by id."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[PersonInfo]:
        """One page of `list`."""
        return await self._ask(LIST_PEOPLE, query={"limit": limit, "cursor": cursor})

    async def get(self, person: str) -> PersonInfo:
        """A person, by id or e-mail.

        Raises:
            PersonNotFound: There is no such person.
        """
        return await self._ask(GET_PERSON, person)

    async def disable(
        self, person: str, *, reason: str | None = None, operation_id: str | None = None
    ) -> PersonInfo:
        """Disable a person at once; admins only.

        Their keys and answer links end, and their claims and assignments are released.

        Raises:
            PersonNotFound: There is no such person.
        """
        body = given({"reason": reason})
        return await self._ask(DISABLE_PERSON, person, body=body, operation_id=operation_id)

    async def enable(self, person: str, *, operation_id: str | None = None) -> PersonInfo:
        """Enable a person again; keys, links and claims that ended stay ended.

        Raises:
            PersonNotFound: There is no such person.
        """
        return await self._ask(ENABLE_PERSON, person, operation_id=operation_id)

    async def add_key(
        self, person: str, *, key: str, operation_id: str | None = None
    ) -> PersonInfo:
        """Register a public SSH key that signs a person's answers (S-115); admins only.

        Args:
            person: Its person, by id or e-mail.
            key: The line of a `.pub` file.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            PersonNotFound: There is no such person.
            BadRequest: It is not a key that can sign answers.
            Conflict: It belongs to another person, or was revoked.
        """
        return await self._ask(
            ADD_SIGNING_KEY, person, body={"key": key}, operation_id=operation_id
        )

    async def revoke_key(
        self,
        person: str,
        *,
        fingerprint: str,
        reason: str | None = None,
        operation_id: str | None = None,
    ) -> PersonInfo:
        """Revoke a key of `add_key` for further signatures. Earlier signatures stay valid; admins only.

        Raises:
            PersonNotFound: There is no such person.
            KeyNotFound: The person has no key with this fingerprint, `SHA256:…`.
        """
        body = given({"fingerprint": fingerprint, "reason": reason})
        return await self._ask(REVOKE_SIGNING_KEY, person, body=body, operation_id=operation_id)

    async def delegate(
        self,
        person: str,
        *,
        deputy: str,
        ends_at: datetime,
        starts_at: datetime | None = None,
        reason: str | None = None,
        operation_id: str | None = None,
        **scope: Unpack[DelegationScope],
    ) -> DelegationInfo:
        """Make a person another's deputy for a while (S-142): the person themselves does, or an admin with a reason.

        Args:
            person: The person who is away, by id or e-mail.
            deputy: The person who answers for them.
            ends_at: The end, at most 90 days from now.
            starts_at: The start; now if not given.
            reason: Why; an admin gives one.
            operation_id: Makes the call repeatable by a later process.
            **scope: Only for waits of these `tasks`, on these `streams`, with one of these `tags`.

        Raises:
            PersonNotFound: There is no such person.
            RoleDenied: The caller is neither the person nor an admin.
            BadRequest: The times are wrong, the two are one, or the deputy makes it.
            Conflict: One of the two is disabled.
        """
        body = given({"starts_at": _iso(starts_at), "reason": reason})
        body |= {name: list(value) for name, value in scope.items()}  # type: ignore[call-overload] # lists of texts
        body |= {"deputy": deputy, "ends_at": _iso(ends_at)}
        return await self._ask(DELEGATE, person, body=body, operation_id=operation_id)

    def delegations(self, *, limit: int | None = None) -> AsyncIterator[DelegationInfo]:
        """Yield delegations that hold now or will, the oldest first."""
        return all_pages(
            lambda cursor: self._ask(LIST_DELEGATIONS, query={"limit": limit, "cursor": cursor})
        )

    async def undelegate(
        self, delegation_id: str, *, operation_id: str | None = None
    ) -> DelegationInfo:
        """End a delegation before its time; ending it again has no effect. What the deputy answered stays.

        Raises:
            DelegationNotFound: There is none with this id, or its time is over.
            RoleDenied: The caller is neither of the two people, nor an admin.
        """
        return await self._ask(UNDELEGATE, delegation_id, operation_id=operation_id)

    async def unbind(self, person: str, *, operation_id: str | None = None) -> PersonInfo:
        """Forget what a person has signed in as; the next sign-in with their e-mail binds them.

        Raises:
            PersonNotFound: There is no such person.
        """
        return await self._ask(UNBIND_PERSON, person, operation_id=operation_id)
