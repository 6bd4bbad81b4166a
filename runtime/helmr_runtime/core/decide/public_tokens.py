"""Public tokens of a session: making, revoking and spending them is decided here, one after another (S-44, S-45)."""

from __future__ import annotations

from typing import Any

from helmr.errors import BadRequest, KeyNotFound, Overloaded, WaitResolved
from helmr.roles import ScopeType
from helmr_runtime.core.commands import (
    AnswerWait,
    CreatePublicToken,
    RevokePublicToken,
    Send,
    receipt,
)
from helmr_runtime.core.drafts import Decided, DecisionContext, carrier
from helmr_runtime.core.entries import Draft, EntryKind, Principal, iso
from helmr_runtime.core.public_tokens import ScopedToken, check_answer, check_live, spend
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.waits import ASKS_PEOPLE

PUBLIC_TOKENS_MAX = 1_000
"""Live ones of one session: they stand in each of its checkpoints."""


def create(state: SessionState, command: CreatePublicToken, context: DecisionContext) -> Decided:
    """Make a public token for one of the session's streams, or an answer link for its wait.

    Raises:
        Overloaded: The session has `PUBLIC_TOKENS_MAX` that live.
        WaitResolved: The link's wait is no longer pending.
    """
    scope = command.token["scope"]
    if scope["type"] == ScopeType.WAIT_ANSWER.value:
        _require_pending(state, scope["wait_id"])
    live = sum(_is_live(known, context) for known in state.public_tokens.values())
    if live >= PUBLIC_TOKENS_MAX:
        raise Overloaded(
            f"{state.id} has {live} public tokens", hint="Revoke some that are not needed."
        )
    draft = carrier(EntryKind.PUBLIC_TOKEN_CREATED, dict(command.token), command)
    return Decided((draft,), receipt(draft, state.id))


def revoke(state: SessionState, command: RevokePublicToken, context: DecisionContext) -> Decided:
    """Revoke one; revoking again changes nothing.

    Raises:
        KeyNotFound: The session has none with that id.
    """
    known = state.public_tokens.get(command.public_token_id)
    if known is None and command.is_link:
        # It died with its wait.
        return Decided(reply={"public_token_id": command.public_token_id, "status": "revoked"})
    if known is None:
        raise KeyNotFound(f"{state.id} has no public token {command.public_token_id}")
    body = {"public_token_id": command.public_token_id}
    draft = carrier(EntryKind.PUBLIC_TOKEN_REVOKED, body, command)
    return Decided(() if "revoked_at" in known else (draft,), receipt(draft, state.id))


def answering_link(state: SessionState, command: AnswerWait, context: DecisionContext) -> None:
    """Return if the answer came with a key, or through a link that lives and is for this wait (S-74).

    Raises:
        Unauthenticated: The link is unknown, revoked or expired by now (S-46).
        ScopeDenied: It is for another wait.
    """
    if command.link_id is None:
        return
    known = state.public_tokens.get(command.link_id)
    link = check_live(ScopedToken.from_json(known) if known is not None else None, context.now)
    check_answer(link, command.wait_id)


def _require_pending(state: SessionState, wait_id: str) -> None:
    wait = state.wait
    if wait is None or wait.id != wait_id:
        raise WaitResolved(f"{wait_id} is no longer pending", session_id=state.id)
    if wait.kind not in ASKS_PEOPLE:
        raise BadRequest(f"{wait.id} waits for a {wait.kind}, which no one answers")


def sending_token(
    state: SessionState, command: Send, context: DecisionContext
) -> ScopedToken | None:
    """The public token that a send came with, None if it came with a key.

    Raises:
        Unauthenticated: It is unknown, revoked or expired by now (S-46).
    """
    if command.public_token_id is None:
        return None
    known = state.public_tokens.get(command.public_token_id)
    return check_live(ScopedToken.from_json(known) if known is not None else None, context.now)


def spend_draft(token: ScopedToken, principal: Principal, context: DecisionContext) -> Draft:
    """One use, in the commit of what it accepts.

    Raises:
        TokenExhausted: None is left.
    """
    body = {"public_token_id": token.id, "uses": spend(token, context.now).uses}
    return Draft(EntryKind.PUBLIC_TOKEN_SPENT, body, principal=principal)


def _is_live(known: dict[str, Any], context: DecisionContext) -> bool:
    return "revoked_at" not in known and known["expires_at"] > iso(context.now)
