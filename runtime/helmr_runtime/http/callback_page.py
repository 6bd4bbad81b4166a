"""The page behind a callback URL: what it shows of a token, and how a submitted form completes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from helmr.models import CompleteRequest
from helmr_runtime.core.entries import from_iso
from helmr_runtime.core.public_tokens import PublicToken
from helmr_runtime.http.answer_flow import who_answered
from helmr_runtime.http.answer_page import PageState
from helmr_runtime.rpc.ledger_client import Json
from helmr_runtime.service import Caller, Service

_BY_STATUS = {"expired": PageState.EXPIRED, "cancelled": PageState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Callback:
    """A token and the secret by which it was reached; implements `helmr_runtime.http.answer_flow.Asked`."""

    service: Service
    token: Json
    caller: Caller
    public_token: PublicToken | None = None

    @property
    def public_token_id(self) -> str | None:
        """The public token that completes it, if it was reached by one."""
        return self.public_token.id if self.public_token is not None else None

    @property
    def id(self) -> str:
        return str(self.token["id"])

    @property
    def schema(self) -> Any:
        return self.token["schema"]

    @property
    def initial(self) -> Any:
        return self.token["initial"]

    def state(self, now: datetime) -> PageState:
        token = self.token
        if token["status"] == "completed":
            return PageState.RECORDED if self._is_own else PageState.OVERTAKEN
        if token["status"] != "pending":
            return _BY_STATUS[token["status"]]
        if now >= from_iso(token["expires_at"]):
            return PageState.EXPIRED
        return PageState.SIGNED if token["verify"] is not None else PageState.OPEN

    @property
    def _is_own(self) -> bool:
        """Completed through the same secret: whoever holds it may see what was recorded."""
        if self.public_token is not None:
            return bool(self.token["completed_by_public_token"] == self.public_token.id)
        return bool(self.token["ended_by"]["type"] == "callback")

    async def texts(self) -> dict[str, Any]:
        token = self.token
        is_own = token["status"] == "completed" and self._is_own
        return {
            **await self.service.tokens.asked(token),
            "asked_at": from_iso(token["created_at"]),
            "deadline_at": from_iso(token["expires_at"]),
            "answer": token["data"] if is_own else None,
            "ended_at": from_iso(token["ended_at"]) if token["ended_at"] is not None else None,
            "ended_by": who_answered(token["ended_by"]),
        }

    async def take(self, data: Any, nonce_id: str | None) -> None:
        await self.service.tokens.complete(
            self.caller,
            self.id,
            CompleteRequest(data=data),
            nonce_id=nonce_id,
            public_token_id=self.public_token_id,
        )

    async def latest(self) -> Callback:
        return replace(self, token=await self.service.tokens.in_full(self.id))
