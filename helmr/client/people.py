"""`client.people` reads people, disables and enables them, and registers their signing keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from helmr.client.calls import given
from helmr.client.http import ClientPart, all_pages
from helmr.models import Page, PersonInfo, SignInInfo, WhoAmI
from helmr.wire.operations import (
    ADD_SIGNING_KEY,
    DISABLE_PERSON,
    ENABLE_PERSON,
    GET_PERSON,
    HOW_TO_SIGN_IN,
    LIST_PEOPLE,
    REVOKE_SIGNING_KEY,
    UNBIND_PERSON,
    WHO_AM_I,
)


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

    async def unbind(self, person: str, *, operation_id: str | None = None) -> PersonInfo:
        """Forget what a person has signed in as; the next sign-in with their e-mail binds them.

        Raises:
            PersonNotFound: There is no such person.
        """
        return await self._ask(UNBIND_PERSON, person, operation_id=operation_id)
