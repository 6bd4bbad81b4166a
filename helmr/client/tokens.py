"""`client.tokens` makes, lists, completes and cancels tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from helmr.client.calls import given
from helmr.client.http import ClientPart, all_pages
from helmr.escalation import EscalationStep, escalation_json
from helmr.evidence import Diff, Links, evidence
from helmr.models import CompleteReceipt, Page, TokenInfo, TokenReceipt
from helmr.tokens import Verify
from helmr.wait_details import metadata_object, tag_list
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import CANCEL_TOKEN, COMPLETE_TOKEN, CREATE_TOKEN, GET_TOKEN, LIST_TOKENS
from helmr.wire.schema import codec_of, json_schema


class AsyncTokens(ClientPart):
    """Tokens of all sessions, and those that programs make."""

    async def create(
        self,
        *,
        timeout: Duration | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        schema: Any = None,
        raw: bool = False,
        verify: Verify | None = None,
        subject: str | None = None,
        body: str | None = None,
        initial: Any = None,
        facts: Mapping[str, Any] | None = None,
        links: Links | None = None,
        diff: Diff | None = None,
        escalation: Iterable[EscalationStep] = (),
        allowed_origins: Iterable[str] = (),
        operation_id: str | None = None,
    ) -> TokenReceipt:
        """Make a token; any task may wait on it by its id (S-40).

        `escalation` (`helmr.escalation`) applies to waits on it that have neither one nor a schema of their own;
        `facts`, `links` and `diff` are evidence above its body, and that of waits on it without evidence of their own.

        Returns:
            The token with its callback URL and public token, which only this answer shows.

        Raises:
            BadSchema, BadRequest: Schema, verification, tag or origin is invalid.
            BadEscalation, SchemaMismatch: The escalation is invalid, or its default does not fit.
            UsageError: Evidence is too long, or no evidence.
        """
        timeout_s = seconds(timeout) if timeout is not None else None
        steps = escalation_json(
            escalation, codec_of(schema, what="the escalation's default"), timeout_s
        )
        body_parts = {
            "timeout": timeout_s,
            "tags": list(tag_list(tags)) or None,
            "metadata": metadata_object(metadata) or None,
            "schema": json_schema(schema),
            "raw": raw or None,
            "verify": _verification(verify),
            "subject": subject,
            "body": body,
            "initial": initial,
            "evidence": evidence(facts, links, diff),
            "escalation": list(steps) or None,
            "allowed_origins": list(allowed_origins) or None,
        }
        return await self._ask(CREATE_TOKEN, body=given(body_parts), operation_id=operation_id)

    async def get(self, token_id: str) -> TokenInfo:
        """The token in full, with its data once it is completed.

        Raises:
            TokenNotFound: There is none.
        """
        return await self._ask(GET_TOKEN, token_id)

    def list(
        self, *, status: str | None = None, tag: str | None = None, limit: int | None = None
    ) -> AsyncIterator[TokenInfo]:
        """Yield every matching token, newest first, page by page."""
        return all_pages(
            lambda cursor: self.page(status=status, tag=tag, limit=limit, cursor=cursor)
        )

    async def page(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[TokenInfo]:
        """One page of `list`."""
        query = {"status": status, "tag": tag, "limit": limit, "cursor": cursor}
        return await self._ask(LIST_TOKENS, query=query)

    async def complete(
        self,
        token_id: str,
        data: Any,
        *,
        public_access_token: str | None = None,
        operation_id: str | None = None,
    ) -> CompleteReceipt:
        """Complete a token; the first one wins (S-41).

        Raises:
            TokenNotFound: There is none.
            SchemaMismatch: The data does not fit its schema; nothing is stored.
            TokenCompleted, TokenExpired, TokenCancelled: It has ended; the facts say when and by whom.
        """
        return await self._ask(
            COMPLETE_TOKEN,
            token_id,
            body={"data": data},
            operation_id=operation_id,
            bearer=public_access_token,
        )

    async def cancel(self, token_id: str, *, operation_id: str | None = None) -> TokenInfo:
        """Cancel a token and the waits on it; cancelling a cancelled one has no effect."""
        return await self._ask(CANCEL_TOKEN, token_id, operation_id=operation_id)


def _verification(verify: Verify | None) -> dict[str, Any] | None:
    if verify is None:
        return None
    return {
        "scheme": verify.scheme,
        "secret": verify.secret,
        "tolerance_s": verify.tolerance_s,
    }
