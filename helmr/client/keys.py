"""`client.keys` makes, lists and revokes API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from helmr.client.calls import given
from helmr.client.http import ClientPart, all_pages
from helmr.models import ApiKeyInfo, ApiKeyReceipt, FileKeyInfo, Page
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import CREATE_API_KEY, LIST_API_KEYS, LIST_FILE_KEYS, REVOKE_API_KEY


class AsyncKeys(ClientPart):
    """API keys; admins only."""

    async def create(
        self,
        role: str | None = None,
        *,
        name: str | None = None,
        person: str | None = None,
        expires_in: Duration | None = None,
        operation_id: str | None = None,
    ) -> ApiKeyReceipt:
        """Make an API key for a service or a person. Only this answer shows its secret.

        Args:
            role: For a service: admin, operator, sender, viewer or asker. A person's key has that person's rights.
            name: Name of its user.
            person: Its person, by id or e-mail.
            expires_in: Its lifetime.

        Raises:
            PersonNotFound: There is no such person.
        """
        body = given({"role": role, "name": name, "person": person})
        if expires_in is not None:
            body["expires_in"] = seconds(expires_in)
        return await self._ask(CREATE_API_KEY, body=body, operation_id=operation_id)

    def list(self, *, limit: int | None = None) -> AsyncIterator[ApiKeyInfo]:
        """API keys, newest first, including revoked ones."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[ApiKeyInfo]:
        """One page of `list`."""
        return await self._ask(LIST_API_KEYS, query={"limit": limit, "cursor": cursor})

    async def revoke(self, key_id: str, *, operation_id: str | None = None) -> ApiKeyInfo:
        """Revoke an API key at once.

        Raises:
            KeyNotFound: There is none.
        """
        return await self._ask(REVOKE_API_KEY, key_id, operation_id=operation_id)

    async def public(self) -> Page[FileKeyInfo]:
        """Return the public keys that verify this runtime's session files, newest first; viewers may read them too."""
        return await self._ask(LIST_FILE_KEYS)
