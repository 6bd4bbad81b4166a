"""Standing grants: given at a call of an agent, listed, revoked (S-107).

Each call that no rule decides reads the ledger, so a revocation counts from its commit on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from helmr.errors import BadRequest, Conflict
from helmr.gate import GatedCall
from helmr.gate.claude_code import asks_itself, decision_of
from helmr.gate.grant_scope import GrantScope
from helmr.gate.grants import (
    VALID_FOR,
    VALID_FOR_MAX,
    asker_of,
    check_matches,
    covers,
    exact_matches,
)
from helmr.models import GrantInfo, GrantRequest, ListQuery, Page, RunStatus
from helmr.wire import ids
from helmr.wire.durations import seconds
from helmr_runtime.features.gate.facts import (
    CreateGrant,
    GetGrant,
    GrantsOf,
    ListGrants,
    RevokeGrant,
)
from helmr_runtime.features.gate.gated_calls import GatedCalls
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.shared import Shared


class GrantOperations:
    """Give, list and revoke grants.

    Args:
        shared: The ledger, the router and the clock.
        calls: The calls at which grants are given.
    """

    def __init__(self, shared: Shared, calls: GatedCalls) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._now = shared.now
        self._calls = calls

    async def list(self, query: ListQuery) -> Page[GrantInfo]:
        """Grants, newest first."""
        found = await self._ledger.ask(ListGrants(**query.given()))
        return Page[GrantInfo].model_validate(found)

    async def get(self, grant_id: str) -> GrantInfo:
        """A grant.

        Raises:
            GrantNotFound: None with that id.
        """
        return GrantInfo.model_validate(await self._ledger.ask(GetGrant(grant_id=grant_id)))

    async def create(self, caller: Caller, request: GrantRequest) -> GrantInfo:
        """Allow an agent's calls like this one for a while.

        Raises:
            SessionNotFound: No call with that id.
            Conflict: A person denied the call, or no grant may allow such calls.
            BadRequest: The globs or the time can't be used.
        """
        scope, expires_at = await self._what(request)
        fact = CreateGrant(
            principal=caller.principal,
            operation=caller.operation("grants.create", request.model_dump(mode="json")),
            grant_id=ids.new_id(ids.GRANT),
            scope=scope.to_json(),
            session_id=request.session_id,
            expires_at=expires_at,
        )
        receipt = await self._router.write(lambda: self._ledger.fact(fact), what="a grant")
        return await self.get(str(receipt["grant_id"]))

    async def check(self, request: GrantRequest) -> None:
        """Raise if `create` would: for a page that answers the call first.

        Raises:
            HelmrError: As `create` does.
        """
        await self._what(request)

    async def _what(self, request: GrantRequest) -> tuple[GrantScope, datetime]:
        """The scope of a requested grant and its expiry."""
        ids.check_id(request.session_id, ids.SESSION)
        expires_at = self._until(request)
        call, asker = await self._grantable(request.session_id)
        return _scope(call, asker, request), expires_at

    async def given_at(self, session_id: str) -> Sequence[GrantInfo]:
        """The grants given at a call that still count."""
        session = await self._calls.session(session_id)
        client, agent = (session.metadata.get(name, "") for name in ("client", "agent"))
        found = await self._ledger.ask(GrantsOf(client=client, agent=agent))
        given = map(GrantInfo.model_validate, found)
        return [one for one in given if one.session_id == session_id]

    async def revoke(self, caller: Caller, grant_id: str) -> GrantInfo:
        """Revoke a grant; revoking again changes nothing.

        Raises:
            GrantNotFound: None with that id.
        """
        fact = RevokeGrant(
            principal=caller.principal,
            operation=caller.operation("grants.revoke", grant_id),
            grant_id=grant_id,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what="a revocation")
        return await self.get(grant_id)

    async def _grantable(self, session_id: str) -> tuple[GatedCall, str]:
        """The call, with the input that a person decided on, and the asker of its agent."""
        session = await self._calls.session(session_id)
        call = await self._calls.payload(session_id)
        if call is None or asks_itself(call):
            raise Conflict("this asks something that no one can allow for later")
        if await self._calls.restriction(session_id):
            raise Conflict(
                "a rule says who answers this call, and such calls are asked about one by one",
                session_id=session_id,
            )
        run = await self._calls.run_of(session_id)
        if run.status is RunStatus.SUCCEEDED:
            decided = decision_of(call, run.result)
            if not decided.is_allowed:
                raise Conflict("a person has denied this call", session_id=session_id)
            call = call if decided.input is None else replace(call, input=decided.input)
        if session.parent is not None:
            return call, session.parent.session_id
        by = await self._calls.maker(session_id)
        return call, asker_of(by.type, by.id)

    def _until(self, request: GrantRequest) -> datetime:
        now = self._now()
        if request.expires_in is None:
            return now + VALID_FOR
        valid_s = seconds(request.expires_in)
        if not 0 < valid_s <= VALID_FOR_MAX.total_seconds():
            raise BadRequest(
                f"expires_in: a grant counts for at most {VALID_FOR_MAX.days} days",
                hint="A rule in helmr.toml has no end.",
            )
        return now + timedelta(seconds=valid_s)


def _scope(call: GatedCall, asker: str, request: GrantRequest) -> GrantScope:
    matches = (
        check_matches(request.matches)
        if request.matches is not None
        else check_matches({name: list(one) for name, one in exact_matches(call.input).items()})
    )
    scope = GrantScope(call.client, call.agent, asker, call.tool, matches)
    if not covers(scope, call, asker):
        raise Conflict(
            "the grant would not allow the call at which it is given",
            hint="`*` in a glob stands for any text; name arguments as the call has them.",
        )
    return scope
