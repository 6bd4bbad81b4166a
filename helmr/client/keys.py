"""`client.keys` makes, lists and revokes API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from helmr.client.calls import given
from helmr.client.http import ClientPart, all_pages
from helmr.durations import Duration, seconds
from helmr.models import ApiKeyInfo, ApiKeyReceipt, FileKeyInfo, Page
from helmr.operations import CREATE_API_KEY, LIST_API_KEYS, LIST_FILE_KEYS, REVOKE_API_KEY


class AsyncKeys(ClientPart):
    """API keys; for an admin."""

    async def create(
        self,
        role: str | None = None,
        *,
        name: str | None = None,
        person: str | None = None,
        expires_in: Duration | None = None,
        operation_id: str | None = None,
    ) -> ApiKeyReceipt:
        """Make an API key, of a service or of a person. Its secret is shown here only.

        Args:
            role: Of a service's: admin, operator, sender, viewer or asker. A person's key may do what the person may.
            name: Who uses it.
            person: Whose it is, by id or e-mail.
            expires_in: Afterwards it opens nothing.

        Raises:
            PersonNotFound: The runtime knows no such person.
        """
        body = given({"role": role, "name": name, "person": person})
        if expires_in is not None:
            body["expires_in"] = seconds(expires_in)
        return await self._ask(CREATE_API_KEY, body=body, operation_id=operation_id)

    def list(self, *, limit: int | None = None) -> AsyncIterator[ApiKeyInfo]:
        """API keys, newest first, revoked ones too."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[ApiKeyInfo]:
        """One page of `list`."""
        return await self._ask(LIST_API_KEYS, query={"limit": limit, "cursor": cursor})

    async def revoke(self, key_id: str, *, operation_id: str | None = None) -> ApiKeyInfo:
        """Revoke an API key; it opens nothing from now on.

        Raises:
            KeyNotFound: There is none.
        """
        return await self._ask(REVOKE_API_KEY, key_id, operation_id=operation_id)

    async def public(self) -> Page[FileKeyInfo]:
        """The public keys by which session files of this runtime are verified, the newest first; for a viewer too."""
        return await self._ask(LIST_FILE_KEYS)
