"""The gateway's process: what HTTP's routes do, without HTTP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from helmr.errors import NotFound
from helmr.models import (
    AmendPreviewRequest,
    AmendRequest,
    AnswerLinkRequest,
    AnswerRequest,
    AssignRequest,
    ClaimRequest,
    CloseRequest,
    CompleteRequest,
    DisableRequest,
    ForkRequest,
    NoteRequest,
    PruneRequest,
    PublicTokenRequest,
    RewindPreviewRequest,
    RewindRequest,
    RunRequest,
    RunsQuery,
    SendRequest,
    StartRequest,
    TokenRequest,
    WaitsQuery,
)
from helmr.wire.roles import Role, ScopeType
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import DisablePerson
from helmr_runtime.core.public_tokens import Scope, ScopedToken
from helmr_runtime.security.secrets import secret_hash
from helmr_runtime.service import Service
from helmr_runtime.service.caller import Caller
from tests.programs.simulation.users import PEOPLE


class Gateway:
    """A request by name, and its receipt."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def perform(
        self, kind: str, principal: Principal, operation_id: str, target: str, parts: dict[str, Any]
    ) -> Any:
        """Have the service do it."""
        service, caller = self._service, Caller(principal, operation_id, Role.ADMIN)
        if principal.type == "person":  # who may be disabled: this gateway has not heard of it
            caller = _as_person(caller)
        match kind:
            case "start":
                return await service.sessions.start(caller, StartRequest(**parts))
            case "send" | "public_send":
                stream, parts = parts["stream"], parts["request"]
                if principal.type == "public_token":
                    caller = replace(caller, role=None, public_token=_token(caller, target, stream))
                return await service.sessions.send(caller, target, stream, SendRequest(**parts))
            case "withdraw":
                return await service.waits.withdraw(caller, target)
            case "disable" if parts:  # and ends before it takes anything back
                return await service.people._ledger.fact(
                    DisablePerson(
                        principal=caller.principal,
                        operation=caller.operation("people.disable", target, None),
                        person=target,
                        names=(target,),
                    )
                )
            case "disable":
                return await service.people.disable(caller, target, DisableRequest())
            case "enable":
                return await service.people.enable(caller, target)
            case "answer" | "answer_batch" | "vote":
                return await service.waits.answer(caller, target, AnswerRequest(**parts))
            case "complete":
                return await service.tokens.complete(caller, target, CompleteRequest(**parts))
            case "make_token":
                return await service.tokens.create(caller, TokenRequest(**parts))
            case "cancel_token":
                return await service.tokens.cancel(caller, target)
            case "cancel_run":
                return await service.runs.cancel(caller, target)
            case "cancel_session":
                return await service.sessions.cancel(caller, target)
            case "close":
                return await service.sessions.close(caller, target, CloseRequest(**parts))
            case "retry":
                return await service.runs.retry(caller, target)
            case "start_run":
                return await service.sessions.run(caller, target, RunRequest(**parts))
            case "note":
                return await service.sessions.note(caller, target, NoteRequest(**parts))
            case "share":
                return await service.public_tokens.create(caller, PublicTokenRequest(**parts))
            case "claim":
                return await service.claims.claim(caller, target, ClaimRequest(**parts))
            case "release":
                return await service.claims.release(caller, target)
            case "assign":
                return await service.claims.assign(caller, target, AssignRequest(**parts))
            case "link":
                return await service.links.create(caller, target, AnswerLinkRequest(**parts))
            case "revoke_link":
                return await service.links.revoke(caller, target, parts["link_id"])
            case "answer_link":
                return await self._through_link(caller, target, AnswerRequest(**parts))
            case "prune":
                asked = PruneRequest.model_construct(
                    older_than_s=parts["older_than_s"], archive=False, dry_run=False, reason=None
                )
                return await service.pruning.prune(caller, asked)
            case "preview_rewind":
                return await service.corrections.preview_rewind(
                    target, RewindPreviewRequest(**parts)
                )
            case "rewind":
                return await service.corrections.rewind(caller, target, RewindRequest(**parts))
            case "preview_amend":
                return await service.corrections.preview_amend(target, AmendPreviewRequest(**parts))
            case "amend":
                return await service.corrections.amend(caller, target, AmendRequest(**parts))
            case "fork":
                return await service.corrections.fork(caller, target, ForkRequest(**parts))
            case "pause":
                return await service.part("schedules").pause(caller, target)
            case "resume":
                return await service.part("schedules").resume(caller, target)
            case "run_schedule":
                return await service.part("schedules").run(caller, target)
            case "waits":
                return (await service.waits.list(caller, WaitsQuery())).items
            case "runs":
                return (await service.runs.list(RunsQuery())).items
            case _:
                raise AssertionError(kind)

    async def _through_link(self, caller: Caller, secret: str, request: AnswerRequest) -> Any:
        """What the page behind an answer link does."""
        link = await self._service.links.find(secret_hash(secret))
        if link is None:
            raise NotFound("there is nothing under this link")
        caller = Caller(link.principal, caller.operation_id)
        return await self._service.waits.answer(caller, link.wait_id, request, link_id=link.id)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command as it was sent."""

    kind: str
    principal: Principal
    operation_id: str
    target: str
    parts: dict[str, Any]


def _as_person(caller: Caller) -> Caller:
    """The person, as their key proves them."""
    name = caller.principal.id or ""
    identity = Identity(id=name, groups=PEOPLE[name])
    return replace(caller, role=Role.OPERATOR, identity=identity)


def _token(caller: Caller, session_id: str, stream: str) -> ScopedToken:
    """The public token that a gateway would have found by its secret."""
    scope = Scope(type=ScopeType.SESSION_INPUT_SEND, session_id=session_id, stream=stream)
    return ScopedToken(
        id=caller.principal.id or "",
        scope=scope,
        secret_hash="",
        created_at=datetime.min.replace(tzinfo=UTC),
        expires_at=datetime.max.replace(tzinfo=UTC),
    )
