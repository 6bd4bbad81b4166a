"""Commands that the ledger decides itself: tokens, their public tokens, API keys. Pure decisions over the index.

Each is one conditional write to the system stream. The caller has already answered a repeated operation (S-61) and
looked up what memory no longer holds.

Invariants: S-40, S-41 (the first completion wins, by the ledger's clock), S-45, S-46.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from helmr.errors import (
    Conflict,
    DelegationNotFound,
    KeyNotFound,
    Overloaded,
    TokenCancelled,
    TokenCompleted,
    TokenExpired,
    TokenNotFound,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import TokenStatus
from helmr.wire.ids import SYSTEM_STREAM
from helmr.wire.roles import ScopeType
from helmr_runtime.core import jsontext
from helmr_runtime.core.api_keys import CreateApiKey, RevokeApiKey
from helmr_runtime.core.claims import WaitClaim, overridden_by
from helmr_runtime.core.commands import (
    FeatureFact,
    OpenLedger,
    SessionCommand,
    TokenEnded,
    carrier,
    receipt,
)
from helmr_runtime.core.drafts import Decided
from helmr_runtime.core.entries import RUNTIME, Draft, Entry, EntryKind, decided_at, iso
from helmr_runtime.core.notices import MoveNotices
from helmr_runtime.core.people import (
    PEOPLE_MAX,
    AddSigningKey,
    BindPerson,
    Delegate,
    DisablePerson,
    EnablePerson,
    EndDelegation,
    RevokeSigningKey,
    UnbindPerson,
    bound_body,
    disabled_body,
    key_added_body,
    key_revoked_body,
)
from helmr_runtime.core.public_tokens import (
    CreateCompletionToken,
    RevokeCompletionToken,
    Scope,
    ScopedToken,
    check_complete,
    check_live,
    spend,
    unauthenticated,
)
from helmr_runtime.core.run import mode_of
from helmr_runtime.core.tokens import (
    CancelToken,
    CompleteToken,
    CreateToken,
    LedgerCommand,
    check_completion_size,
    who,
)
from helmr_runtime.ledger.index.keys import API_KEYS_MAX
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.tokens import TokenHead

PEOPLE = "people"
"""Key of commands that change people. A group decides nothing after one: later commands may be those people's."""


def token_of(fact: LedgerCommand) -> str | None:
    """The token that must be in memory, and that no other job of its group may touch."""
    match fact:
        case CompleteToken() | CancelToken() | CreateCompletionToken():
            return fact.token_id
        case _:
            return None


def touched_by(fact: LedgerCommand, features: Collection[str] = ()) -> frozenset[str]:
    """Return the ids that deciding this fact reads or changes; facts that share an id are decided one after the other.

    The index shows a fact only once it is stored, so facts of one transaction don't see each other.

    Args:
        fact: To be decided.
        features: Those of the ledger: they end what they have of a disabled person, so their facts come before.
    """
    match fact:
        case CreateToken():
            return frozenset()
        case CompleteToken(public_token_id=public_token_id, answers=answers):
            named = (public_token_id, answers[0] if answers is not None else None)
            return frozenset({fact.token_id, *(name for name in named if name is not None)})
        case CancelToken() | CreateCompletionToken():
            return frozenset({fact.token_id})
        case RevokeCompletionToken():
            return frozenset({fact.public_token_id})
        case CreateApiKey() | RevokeApiKey():
            return frozenset({"api keys"})
        case DisablePerson():
            return frozenset({PEOPLE, "api keys", *features})
        case BindPerson() | UnbindPerson() | EnablePerson():
            return frozenset({PEOPLE, "api keys"})
        case AddSigningKey() | RevokeSigningKey() | Delegate() | EndDelegation():
            return frozenset({PEOPLE})
        case FeatureFact():
            return frozenset({fact.feature})
        case MoveNotices():
            return frozenset({"notices"})
        case OpenLedger():
            return frozenset({"generation"})


def expired_end(token: TokenHead, wait_id: str, at: datetime) -> TokenEnded:
    """Build the command that tells a wait its token has expired."""
    return TokenEnded(
        principal=RUNTIME,
        wait_id=wait_id,
        token_id=token.id,
        status=TokenStatus.EXPIRED.value,
        ended_at=at,
        ended_by=RUNTIME,
    )


def repeated(index: LedgerIndex, fact: SessionCommand, entry: Entry) -> Mapping[str, Any]:
    """The first receipt of a repeated operation.

    Raises:
        OperationConflict: The id was used with another request.
    """
    first = index.features.first(entry)
    assert first is not None
    assert fact.operation is not None
    return first.again(fact.operation, fact.principal)


def decide(
    index: LedgerIndex, fact: LedgerCommand, now: datetime, ended_by: Entry | None
) -> Decided:
    """Decide a command.

    Args:
        index: The ledger's memory; `token_of(fact)` has been looked up.
        fact: What is asked.
        now: The time that its entries will have.
        ended_by: The entry that ended the token, if it has ended.

    Raises:
        HelmrError: It is refused and leaves nothing.
    """
    index.people.disabled.check(fact.principal)
    match fact:
        case CreateToken(new=new):
            return _written(EntryKind.TOKEN_CREATED, new.to_body(now), fact)
        case CompleteToken():
            return _complete(index, fact, now, ended_by)
        case CancelToken():
            return _cancel(index, fact, now, ended_by)
        case CreateCompletionToken():
            return _create_public(index, fact, now)
        case RevokeCompletionToken():
            return _revoke_public(index, fact)
        case CreateApiKey():
            return _create_key(index, fact)
        case RevokeApiKey():
            return _revoke_key(index, fact)
        case BindPerson():
            bound = _written(EntryKind.PERSON_BOUND, bound_body(fact), fact)
            return bound if index.people.check_binding(fact) else replace(bound, drafts=())
        case UnbindPerson():
            person = index.people.by_id.get(fact.person)
            return _person_changed(
                EntryKind.PERSON_UNBOUND,
                fact,
                is_news=person is not None and person.subject is not None,
            )
        case DisablePerson():
            return _disable(index, fact, now)
        case EnablePerson():
            is_disabled = fact.person in index.people.disabled.people
            return _person_changed(EntryKind.PERSON_ENABLED, fact, is_news=is_disabled)
        case AddSigningKey():
            added = _written(EntryKind.PERSON_KEY_ADDED, key_added_body(fact), fact)
            return added if index.people.check_new_key(fact) else replace(added, drafts=())
        case RevokeSigningKey():
            revoked = _written(EntryKind.PERSON_KEY_REVOKED, key_revoked_body(fact), fact)
            return revoked if index.people.check_revocation(fact) else replace(revoked, drafts=())
        case Delegate(delegation=made):
            index.people.check_delegation(fact, now)
            return _written(EntryKind.PERSON_DELEGATED, made.body, fact)
        case EndDelegation():
            return _end_delegation(index, fact)
        case FeatureFact():
            drafts, reply = fact.decide(index.features[fact.feature], now)
            return Decided(tuple(drafts), reply)
        case MoveNotices(positions=positions):
            body = {"positions": dict(positions)}
            return Decided((Draft(EntryKind.NOTICES_MOVED, body, principal=fact.principal),))
        case OpenLedger():
            generation = max(index.generation, fact.above) + 1
            return Decided((fact.draft(generation),), {"generation": generation})


def expired_drafts(tokens: Sequence[TokenHead]) -> tuple[Draft, ...]:
    """The entries of tokens whose time is over."""
    return tuple(Draft(EntryKind.TOKEN_EXPIRED, {"token_id": token.id}) for token in tokens)


# --- tokens ---------------------------------------------------------------------------------------


def _complete(
    index: LedgerIndex, fact: CompleteToken, now: datetime, ended_by: Entry | None
) -> Decided:
    public_token = _completing(index, fact, now)
    token = _token(index, fact.token_id)
    if token.status is TokenStatus.COMPLETED:
        return _again(fact, token, ended_by)
    _require_pending(token, now, ended_by)
    overridden = None
    if fact.answers is not None:
        _require_waiting(index, *fact.answers, now)
        overridden = _overridden(index, fact, *fact.answers, now)
    if not set(token.schema_offsets) <= set(fact.checked):
        return Decided(reply={"token_id": token.id, "outcome": "recheck"})
    check_completion_size(fact.data)
    mode = mode_of(fact.principal, is_page=fact.nonce_id is not None)
    details = replace(fact.details, mode=mode).recorded()
    body: dict[str, Any] = {"token_id": token.id, "data": fact.data, **details}
    if fact.nonce_id is not None:
        body["nonce_id"] = fact.nonce_id
    if overridden is not None:
        body["overrides"] = {
            "claimed_by": overridden.by.to_json(),
            "since_at": iso(overridden.since),
        }
    if fact.public_token_id is not None:
        body["public_token_id"] = fact.public_token_id
    written = _written(EntryKind.TOKEN_COMPLETED, body, fact, at=now)
    if public_token is None:
        return written
    spent = {"public_token_id": public_token.id, "uses": spend(public_token, now).uses}
    use = Draft(EntryKind.PUBLIC_TOKEN_SPENT, spent, principal=fact.principal)
    return replace(written, drafts=(*written.drafts, use))


def _completing(index: LedgerIndex, fact: CompleteToken, now: datetime) -> ScopedToken | None:
    if fact.public_token_id is None:
        return None
    owned = index.keys.public_tokens.get(fact.public_token_id)
    public_token = check_live(owned.token if owned is not None else None, now)
    if public_token.scope.type is ScopeType.WAIT_ANSWER:
        # A link answers a wait, which is once: nothing is spent.
        token = index.tokens.get(fact.token_id)
        if token is None or public_token.scope.wait_id not in token.waits:
            raise unauthenticated()
        return None
    check_complete(public_token, fact.token_id)
    return public_token


def _again(fact: CompleteToken, token: TokenHead, ended_by: Entry | None) -> Decided:
    """S-41: the same data again is fine, other data lost."""
    assert ended_by is not None
    completed_at = iso(decided_at(ended_by))
    if jsontext.is_same_data(ended_by.body["data"], fact.data):
        reply = {"token_id": token.id, "outcome": "already_completed", "completed_at": completed_at}
        return Decided(reply=reply)
    raise TokenCompleted(
        f"{token.id} was completed at {completed_at} by {who(ended_by.principal)}",
        hint="Nothing was stored.",
        token_id=token.id,
        completed_at=completed_at,
        completed_by=ended_by.principal.to_json(),
    )


def _require_waiting(index: LedgerIndex, session_id: str, wait_id: str, now: datetime) -> None:
    """S-18: an answer to a wait that is over leaves nothing, though its token might still be completed."""
    head = index.heads.get(session_id)
    wait = head.wait if head is not None else None
    if wait is None or wait.id != wait_id:
        raise WaitResolved(
            f"{wait_id} is no longer pending", hint="Nothing was stored.", wait_id=wait_id
        )
    # The time counts, whether or not the entry that says so is written yet.
    if wait.default_at is not None and now >= wait.default_at:
        raise WaitResolved(
            f"{wait_id} was answered by its escalation's default at {iso(wait.default_at)}",
            hint="Nothing was stored.",
            wait_id=wait_id,
        )
    if wait.deadline_at is not None and now >= wait.deadline_at:
        raise WaitTimedOut(
            f"{wait_id} timed out at {iso(wait.deadline_at)}; the answer was not stored",
            hint="Nothing was stored.",
            wait_id=wait_id,
            deadline_at=iso(wait.deadline_at),
        )


def _overridden(
    index: LedgerIndex, fact: CompleteToken, session_id: str, wait_id: str, now: datetime
) -> WaitClaim | None:
    """The claim that the answer overrides; links look at none (S-81)."""
    claims = index.heads[session_id].claims
    if claims is None or fact.public_token_id is not None:
        return None
    claim = claims.live(wait_id, now)
    return overridden_by(wait_id, claim, fact.principal, override=fact.override_claim)


def _require_pending(token: TokenHead, now: datetime, ended_by: Entry | None) -> None:
    if token.status is TokenStatus.CANCELLED:
        assert ended_by is not None
        raise TokenCancelled(
            f"{token.id} was cancelled at {iso(decided_at(ended_by))}",
            token_id=token.id,
            cancelled_at=iso(decided_at(ended_by)),
            cancelled_by=ended_by.principal.to_json(),
        )
    # The time counts, whether or not the entry that says so is written yet.
    if token.status is TokenStatus.EXPIRED or now >= token.expires_at:
        raise TokenExpired(
            f"{token.id} expired at {iso(token.expires_at)}",
            token_id=token.id,
            expired_at=iso(token.expires_at),
        )


def _cancel(
    index: LedgerIndex, fact: CancelToken, now: datetime, ended_by: Entry | None
) -> Decided:
    token = _token(index, fact.token_id)
    cancelled = _written(EntryKind.TOKEN_CANCELLED, {"token_id": token.id}, fact)
    if token.status is TokenStatus.CANCELLED:
        return replace(cancelled, drafts=())
    if token.status is TokenStatus.COMPLETED:
        assert ended_by is not None
        raise TokenCompleted(
            f"{token.id} was completed at {iso(decided_at(ended_by))} by {who(ended_by.principal)}",
            token_id=token.id,
            completed_at=iso(decided_at(ended_by)),
            completed_by=ended_by.principal.to_json(),
        )
    _require_pending(token, now, ended_by)
    return cancelled


def _token(index: LedgerIndex, token_id: str) -> TokenHead:
    token = index.tokens.get(token_id)
    if token is None:
        raise TokenNotFound(f"there is no token {token_id}", token_id=token_id)
    return token


# --- public tokens and keys -----------------------------------------------------------------------


def _create_public(index: LedgerIndex, fact: CreateCompletionToken, now: datetime) -> Decided:
    token = _token(index, fact.token_id)
    if not token.is_pending:
        raise Conflict(f"{token.id} is {token.status.value}", token_id=token.id)
    public_token = ScopedToken(
        id=fact.public_token_id,
        scope=Scope(type=ScopeType.TOKEN_COMPLETE, token_id=token.id),
        secret_hash=fact.secret_hash,
        created_at=now,
        expires_at=fact.expires_at,
        max_uses=fact.max_uses,
        allowed_origins=fact.allowed_origins,
        key_id=fact.key_id,
    )
    return _written(EntryKind.PUBLIC_TOKEN_CREATED, public_token.to_json(), fact)


def _revoke_public(index: LedgerIndex, fact: RevokeCompletionToken) -> Decided:
    owned = index.keys.public_tokens.get(fact.public_token_id)
    if owned is None:
        raise KeyNotFound(f"there is no public token {fact.public_token_id}")
    body = {"public_token_id": fact.public_token_id}
    revoked = _written(EntryKind.PUBLIC_TOKEN_REVOKED, body, fact)
    return revoked if owned.token.revoked_at is None else replace(revoked, drafts=())


def _create_key(index: LedgerIndex, fact: CreateApiKey) -> Decided:
    if len(index.keys.api_keys) >= API_KEYS_MAX:
        raise Overloaded(f"there are {API_KEYS_MAX} API keys", hint="That is the limit.")
    body = {
        "key_id": fact.key_id,
        "role": fact.role,
        "name": fact.name,
        "secret_hash": fact.secret_hash,
    }
    if fact.person is not None:
        if fact.person in index.people.disabled.people:
            raise Conflict(f"{fact.person} is disabled", hint="Enable them first.")
        body["person"] = fact.person
    if fact.expires_at is not None:
        body["expires_at"] = iso(fact.expires_at)
    return _written(EntryKind.API_KEY_CREATED, body, fact)


def _revoke_key(index: LedgerIndex, fact: RevokeApiKey) -> Decided:
    key = index.keys.api_keys.get(fact.key_id)
    if key is None:
        raise KeyNotFound(f"there is no API key {fact.key_id}", key_id=fact.key_id)
    revoked = _written(EntryKind.API_KEY_REVOKED, {"key_id": key.id}, fact)
    return revoked if key.revoked_at is None else replace(revoked, drafts=())


def _person_changed(
    kind: EntryKind, fact: UnbindPerson | EnablePerson, *, is_news: bool
) -> Decided:
    changed = _written(kind, {"person": fact.person}, fact)
    return changed if is_news else replace(changed, drafts=())


def _disable(index: LedgerIndex, fact: DisablePerson, now: datetime) -> Decided:
    """With the end of their keys, delegations and of what features have of them, in one commit (S-117, S-142)."""
    known = index.people.by_id.get(fact.person)
    if known is None and len(index.people.by_id) >= PEOPLE_MAX:
        raise Overloaded(f"there are {PEOPLE_MAX} people", hint="That is the limit.")
    disabled = _written(EntryKind.PERSON_DISABLED, disabled_body(fact), fact)
    if known is not None and known.disabled_at is not None:
        return replace(disabled, drafts=())
    ended = tuple(
        Draft(EntryKind.API_KEY_REVOKED, {"key_id": key.id}, principal=fact.principal)
        for key in index.keys.keys_of(fact.person)
    )
    delegations = tuple(
        Draft(
            EntryKind.PERSON_DELEGATION_ENDED, one.ended_body("disabled"), principal=fact.principal
        )
        for one in index.people.delegations_of(fact.person, now)
    )
    following = [one for draft in disabled.drafts for one in index.features.following(draft, now)]
    return replace(disabled, drafts=(*disabled.drafts, *ended, *delegations, *following))


def _end_delegation(index: LedgerIndex, fact: EndDelegation) -> Decided:
    """Ending it again changes nothing."""
    known = index.people.delegations.get(fact.delegation_id)
    if known is not None:
        return _written(EntryKind.PERSON_DELEGATION_ENDED, known.ended_body("ended"), fact)
    if fact.delegation_id in index.people.ended:
        return Decided(reply={"delegation_id": fact.delegation_id})
    raise DelegationNotFound(f"there is no delegation {fact.delegation_id[:80]}")


def _written(
    kind: EntryKind, body: dict[str, Any], fact: SessionCommand, *, at: datetime | None = None
) -> Decided:
    """One entry, and the receipt that it carries."""
    draft = carrier(kind, body, fact)
    return Decided((draft,), receipt(draft, SYSTEM_STREAM, at=at))
