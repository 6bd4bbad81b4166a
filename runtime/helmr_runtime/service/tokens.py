"""Tokens from outside: make, read, complete, cancel (S-40…S-43)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helmr import escalation
from helmr.current import TokenCall
from helmr.errors import BadEscalation, NotReady
from helmr.evidence import evidence
from helmr.models import (
    CompleteReceipt,
    CompleteRequest,
    Evidence,
    Page,
    TokenInfo,
    TokenReceipt,
    TokenRequest,
    TokensQuery,
)
from helmr.wait_options import JSON
from helmr.wire import ids
from helmr.wire.durations import seconds
from helmr_runtime import tracing
from helmr_runtime.core.commands import NO_DETAILS, AnswerDetails, OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import check_complete
from helmr_runtime.core.tokens import CancelToken, CompleteToken, CreateToken
from helmr_runtime.ports.ledger import Json
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.payloads import PayloadCipher
from helmr_runtime.security.schemas import complete, data_schema
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.security.webhook_signatures import Verification
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.shared import Shared

ALL_TOKENS = TokensQuery()
LOCAL_KEY = "local"
"""The name of this machine's key."""


class TokenOperations:
    """Tokens: made by clients, read, completed, cancelled.

    Args:
        shared: Its keys for the system stream, which owns tokens made by clients.
        ring: The master keys; callbacks need them.
    """

    def __init__(self, shared: Shared, ring: KeyRing | None) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._repeats = shared.repeats
        self._keys = shared.keys
        self._ring = ring
        self._base_url = shared.base_url

    async def create(self, caller: Caller, request: TokenRequest) -> TokenReceipt:
        """Make a token; a repeated operation shows the same secrets.

        Raises:
            BadSchema, BadRequest: Schema, verification, tag or origin can't be used.
            BadEscalation, SchemaMismatch: Its escalation can't run, or its default does not fit.
            UsageError: A part of its evidence is out of bounds.
        """
        verify, timeout_s = request.verify, seconds(request.timeout)
        secrets = TaskSecrets(await self._keys(ids.SYSTEM_STREAM), self._base_url)
        new = secrets.new_token(
            TokenCall(
                timeout_s=timeout_s,
                tags=tuple(request.tags),
                metadata=request.metadata,
                schema=request.json_schema,
                is_raw=request.raw,
                verify=verify.model_dump() if verify is not None else None,
                subject=request.subject or None,
                body=request.body or None,
                initial=request.initial,
                allowed_origins=tuple(request.allowed_origins),
                escalation=_escalation(request, timeout_s),
                evidence=_evidence(request),
            )
        )
        # The provider's secret is left out of the hash: it would help someone who guesses.
        asked = request.model_dump(mode="json", by_alias=True, exclude={"verify": {"secret"}})
        fact = CreateToken(
            principal=caller.principal, operation=caller.operation("tokens.create", asked), new=new
        )
        receipt = await self._router.write(lambda: self._ledger.fact(fact), what="a token")
        token_id, key_id = str(receipt["token_id"]), str(receipt["key_id"])
        token = await self._ledger.get_token(token_id)
        return TokenReceipt.model_validate(
            {
                **token,
                "callback_url": secrets.callback_url(token_id, key_id, is_raw=bool(token["raw"])),
                "public_access_token": secrets.secret("pat", token_id, key_id),
            }
        )

    async def get(self, token_id: str) -> TokenInfo:
        """A token with its texts, schema and, once it is completed, its data.

        Raises:
            TokenNotFound: No token with that id.
        """
        return TokenInfo.model_validate(await self.in_full(token_id))

    async def in_full(self, token_id: str) -> Json:
        """A token with everything that a completion needs."""
        ids.check_id(token_id, ids.TOKEN)
        return await self._ledger.get_token(token_id)

    async def list(self, wanted: TokensQuery = ALL_TOKENS) -> Page[TokenInfo]:
        """Tokens, newest first; without texts, schema and data."""
        return Page[TokenInfo].model_validate(await self._ledger.list_tokens(**wanted.given()))

    async def complete(
        self,
        caller: Caller,
        token_id: str,
        request: CompleteRequest,
        *,
        nonce_id: str | None = None,
        public_token_id: str | None = None,
        answers: tuple[str, str] | None = None,
        override_claim: bool = False,
        details: AnswerDetails = NO_DETAILS,
    ) -> CompleteReceipt:
        """Complete a token; the first one wins (S-41).

        Args:
            answers: Session and wait, if it is the answer to a wait.
            override_claim: Complete even if someone else has claimed that wait.
            details: Details of the answer, such as a reason.

        Raises:
            WaitResolved, WaitTimedOut: That wait is over.
            WaitClaimed: Someone else has claimed it.
            TokenNotFound: No token with that id.
            SchemaMismatch: The data does not fit; nothing happened and no use is spent.
            TokenCompleted, TokenExpired, TokenCancelled: It has ended.
            TokenExhausted: The public token's uses are spent.
            ScopeDenied: The caller's public token is for another token.
        """
        if caller.public_token is not None:
            check_complete(caller.public_token, token_id)
            public_token_id = caller.public_token.id
        ids.check_id(token_id, ids.TOKEN)
        operation = self.completing(caller, token_id, request)

        def make(checked: tuple[int, ...]) -> CompleteToken:
            return CompleteToken(
                principal=caller.principal,
                operation=operation,
                token_id=token_id,
                data=request.data,
                checked=checked,
                nonce_id=nonce_id,
                public_token_id=public_token_id,
                answers=answers,
                override_claim=override_claim,
                details=details,
                trace=tracing.current() if tracing.is_on else None,
            )

        async def write(fact: CompleteToken) -> Json:
            return await self._router.write(
                lambda: self._ledger.fact(fact), what=f"the completion of {token_id}"
            )

        receipt = await self._repeats.receipt(
            caller,
            operation,
            lambda: complete(lambda: self._ledger.get_token(token_id), write, make),
        )
        return CompleteReceipt.model_validate(receipt)

    def completing(self, caller: Caller, token_id: str, request: CompleteRequest) -> OperationKey:
        """The operation of a completion; an answer to a wait on the token is the same operation."""
        return caller.operation("tokens.complete", token_id, request.data)

    async def cancel(self, caller: Caller, token_id: str) -> TokenInfo:
        """Cancel a token; cancelling a cancelled one changes nothing.

        Raises:
            TokenNotFound: No token with that id.
            TokenCompleted, TokenExpired: It has ended otherwise.
        """
        ids.check_id(token_id, ids.TOKEN)
        fact = CancelToken(
            principal=caller.principal,
            operation=caller.operation("tokens.cancel", token_id),
            token_id=token_id,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what=f"cancelling {token_id}")
        return await self.get(token_id)

    # --- callbacks --------------------------------------------------------------------------------

    async def by_callback(self, callback_hash: str) -> Json | None:
        """The token, in full, whose callback secret has this hash."""
        return await self._ledger.find_callback(callback_hash)

    def verification(self, token: Json) -> Verification | None:
        """The check of the token's callback signatures; None if callbacks are unsigned."""
        sealed = token["verify_sealed"]
        if sealed is None:
            return None
        owner = token["session_id"] or ids.SYSTEM_STREAM
        cipher = PayloadCipher(self.require_ring().session_keys(owner))
        return Verification.unsealed(sealed, cipher, token["id"])

    def require_ring(self) -> KeyRing:
        """The master keys.

        Raises:
            NotReady: This runtime has none.
        """
        if self._ring is None:
            raise NotReady("this runtime has no master key")
        return self._ring

    async def asked(self, token: Json) -> dict[str, Any]:
        """Return `{asked_by, subject, body, evidence}` of the token, else of a wait on it."""
        found: dict[str, Any] = {
            "asked_by": _asker(token["created_by"]),
            "subject": token["subject"],
            "body": token["body"],
            "evidence": token["evidence"],
        }
        if token["session_id"] is not None:
            found["asked_by"] = (await self._ledger.brief(token["session_id"]))["task"]
        if found["subject"] is None and token["waits"]:
            wait_id, session_id = token["waits"][0]
            wait = await self._ledger.get_wait(wait_id)
            found["subject"] = wait.get("subject")
            for name in ("body", "evidence"):
                found[name] = found[name] if found[name] is not None else wait.get(name)
            if token["session_id"] is None:
                found["asked_by"] = (await self._ledger.brief(session_id))["task"]
        if found["evidence"] is not None:
            found["evidence"] = Evidence.model_validate(found["evidence"])
        return found


def _asker(principal: Json) -> str:
    """The asker's name for people to read; empty for the key of this machine, whose name says nothing."""
    name = _name(principal)
    return "" if name == LOCAL_KEY and not principal.get("on_behalf_of") else name


def _name(principal: Json) -> str:
    acted = Principal.from_json(principal)
    return acted.person or acted.name or acted.type


def _evidence(request: TokenRequest) -> Mapping[str, Any] | None:
    """The evidence of a client's token, checked like that of a task's.

    Raises:
        UsageError: A part of it is out of bounds.
    """
    said = request.evidence
    if said is None:
        return None
    return evidence(said.facts, [(one.label, one.url) for one in said.links], said.diff)


def _escalation(request: TokenRequest, timeout_s: float) -> tuple[Mapping[str, Any], ...]:
    """The escalation steps of a client's token, checked like those of a task's token.

    Raises:
        BadEscalation: They can't run.
        SchemaMismatch: A default does not fit the token's schema.
    """
    steps = []
    for step in request.escalation:
        given = step.model_fields_set
        if ("to" in given) != (step.do == "assign") or ("value" in given) != (step.do == "default"):
            raise BadEscalation(
                "an escalation step that assigns needs `to`, a default needs a value, and other steps take neither",
                hint='{"do": "assign", "after_s": 3600, "to": "lead"}',
            )
        match step.do:
            case "assign":
                steps.append(escalation.assign(step.after_s, to=step.to or "", from_=step.from_))
            case "default":
                steps.append(escalation.default(step.after_s, step.value, from_=step.from_))
                if request.json_schema is not None:
                    data_schema(request.json_schema).check(step.value)
            case _:
                steps.append(escalation.remind(step.after_s, from_=step.from_))
    return escalation.escalation_json(steps, JSON, timeout_s)
