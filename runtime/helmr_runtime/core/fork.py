"""A fork: a new session that begins with copies of another's entries up to an op (S-86). Pure.

Copies keep their times and name their originals. Facts that belong to one session only are left out: operations,
secrets' hashes, public tokens that clients made, the external id, the closing. Runs, waits and records get new ids.
Tokens, public tokens and children that code made stay the origin's. An op that has no outcome at the cut is left out
too: the fork asks for it again, so no copied step runs again. Answers that a rewind of the origin kept stay the
origin's as well: the fork asks every question from the op on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from helmr.errors import ForkRefused, OpNotFound
from helmr.wait_details import WaitDetails
from helmr.wire import ids
from helmr_runtime.core.answerers import Answerers, Identity, names_of
from helmr_runtime.core.attachments import stored_ids
from helmr_runtime.core.commands import OperationKey, operation_json
from helmr_runtime.core.corrections import accepted_for, answer_for, checked_reason, wait_at
from helmr_runtime.core.entries import (
    GENESIS,
    BodyCipher,
    Draft,
    Entry,
    EntryKind,
    Principal,
    stamp,
)
from helmr_runtime.core.run import mode_of
from helmr_runtime.core.state import SessionState

NOT_COPIED = frozenset(
    {
        EntryKind.SESSION_CLOSED,  # a run goes on after it, and no one could answer its fork
        EntryKind.PUBLIC_TOKEN_SPENT,
        EntryKind.PUBLIC_TOKEN_REVOKED,
        EntryKind.WAIT_CLAIMED,
        EntryKind.WAIT_CLAIM_ENDED,
        EntryKind.WAIT_REMINDED,
    }
)
KEYS_LEFT_OUT = frozenset(
    {
        "operation",
        "external_id",
        "parent",
        "idempotency_key_hash",
        "chain_key_id",
        "callback_hash",
        "public_token_hash",
        "secret_hash",
        "verify",
    }
)
USERS_DATA = frozenset(
    {
        *(one.name for one in fields(WaitDetails) if one.name != "tags"),
        "payload",
        "data",
        "value",
        "result",
        "error",
        "metadata",
        "from_assignee",
        "text",
        "reason",
        "correlation_id",
        "signature",
    }
)
"""Keys whose values are copied unchanged, even if they look like ids."""

NewId = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkSession:
    """Create a session that begins with copies of another's entries (S-86).

    Attributes:
        origin_id: The session whose entries are copied.
        session_id: The fork's id.
        to_op: The op of the origin's newest run that the fork asks for again.
        reason: The caller's reason.
        answer: The answer to that op's wait in the fork, in a tuple of one; None asks again.
        record_id: The id of that answer, if it is a record.
        identity: The person who forks, if proven.
        override_reason: An admin's reason for answering instead of the people who may (S-112).
        may_override: An admin asks.
    """

    origin_id: str
    session_id: str
    to_op: int
    reason: str
    answer: tuple[Any] | None
    record_id: str
    principal: Principal
    operation: OperationKey
    identity: Identity | None = None
    override_reason: str | None = None
    may_override: bool = False


def fork(
    entries: Sequence[Entry],
    to_op: int,
    *,
    session_id: str,
    new_id: NewId = ids.new_id,
    key: bytes | None = None,
    key_id: str | None = None,
    cipher: BodyCipher | None = None,
) -> tuple[Entry, ...]:
    """Return the entries that a fork begins with: all up to the newest run's op, which the fork asks for again.

    Args:
        entries: The origin's, from its first on.
        to_op: An op in the journal of its newest run.
        session_id: The fork's.
        new_id: Makes ids of a prefix.
        key: Of the fork's hash chain.
        key_id: The master key that it began with.
        cipher: Seals the copies.

    Raises:
        OpNotFound: The run's journal has no such op.
        ForkRefused: The cut lies behind an open wait on a token or on children, which only the origin can have.
    """
    whole = _folded(entries)
    run = whole.run
    opened = [e.seq for e in run.journal if e.op == to_op] if run is not None else []
    if run is None or not opened:
        raise OpNotFound(f"{whole.id} has no op {to_op} in its newest run", op=to_op)
    cut = _folded(entries[: opened[0] - 1])
    at = cut.run
    if at is None or at.id != run.id:
        raise OpNotFound(f"{whole.id} has no op {to_op} in its newest run", op=to_op)
    if at.wait is not None and at.wait.awaits:
        raise ForkRefused(
            f"at op {to_op} {whole.id} waits for {', '.join(at.wait.awaits[:3])}, which stays with that session",
            hint="Fork before that wait, or after it.",
            op=to_op,
        )
    unfinished = at.open_steps | ({at.wait.op} if at.wait is not None else set())
    since = {op: min(e.seq for e in at.journal if e.op == op) for op in unfinished}
    copied = [
        e
        for e in entries[: opened[0] - 1]
        if _is_copied(e) and not (e.run_id == run.id and e.op in since and e.seq >= since[e.op])
    ]
    origin = {"session_id": whole.id, "seq": cut.seq, "hash": cut.last_hash.hex()}
    names = _Names(entries, new_id)
    return _copies(copied, run.id, origin, session_id, names, key, key_id, cipher)


def fork_files(entries: Sequence[Entry], to_op: int) -> list[str]:
    """Return the ids of the files that the copies may name; with those that attempts set aside, some more."""
    run_id = next((e.run_id for e in reversed(entries) if e.kind is EntryKind.RUN_CREATED), None)
    cut = max((e.seq for e in entries if (e.run_id, e.op) == (run_id, to_op)), default=0)
    return stored_ids(entries[:cut])


def begin(
    origin: Sequence[Entry],
    copies: Sequence[Entry],
    asked: ForkSession,
    now: datetime,
) -> tuple[Draft, ...]:
    """Return the entries after the copies: the fork's principal and reason, and an answer to its first wait.

    Args:
        origin: The origin's entries.
        copies: What `fork` made of them.
        asked: What is asked.
        now: The time.

    Raises:
        BadRequest: The reason is empty or too long.
        NotAnAnswerer: There is an answer, and the wait is answered by others (S-112).
        NotAmendable: Likewise, and several people must agree, or sign it.
        OpNotFound: There is an answer, and the op is not a wait that a person answers.
    """
    state = _folded(copies)
    run, whole = state.run, _folded(origin).run
    assert run is not None
    assert whole is not None
    body: dict[str, Any] = {
        "origin": dict(copies[0].body["forked_from"]),
        "to_op": asked.to_op,
        "reason": checked_reason(asked.reason),
        "operation": operation_json(asked.operation),
    }
    if run.held:  # the origin's rewinds kept them; here everything is asked
        body["kept_unused"] = [one.to_json() for one in run.held]
    principal = asked.principal
    if starters := names_of(principal):
        body["starters"] = starters
    forked = Draft(EntryKind.SESSION_FORKED, body, run_id=run.id, principal=principal)
    if asked.answer is None:
        return (forked,)
    (data,) = asked.answer
    question = wait_at(whole, asked.to_op)
    rule = Answerers.of(question)
    told = rule.admit(
        question["wait_id"],
        asked.identity,
        principal,
        now,
        override_reason=asked.override_reason,
        may_override=asked.may_override,
    )
    if "override_reason" not in told:
        rule.require_one(question["wait_id"])
    body |= told
    given = answer_for(question, asked.to_op, state, asked.record_id, data, mode_of(principal))
    body["held"] = [given.to_json()]
    if given.stream is None:
        return (forked,)
    amends = {"wait_id": given.wait_id}
    return (forked, accepted_for(question, given, data, amends, principal))


def _is_copied(entry: Entry) -> bool:
    """False for facts of the origin alone, unless its code asked for them: a replay must find each op it meets."""
    if entry.kind is EntryKind.PUBLIC_TOKEN_CREATED:
        return entry.op is not None
    return entry.kind not in NOT_COPIED


def _folded(entries: Sequence[Entry]) -> SessionState:
    state = SessionState(entries[0].session_id)
    for entry in entries:
        state.apply(entry)
    return state


def _copies(
    copied: Sequence[Entry],
    newest_run_id: str,
    origin: Mapping[str, Any],
    session_id: str,
    names: _Names,
    key: bytes | None,
    key_id: str | None,
    cipher: BodyCipher | None,
) -> tuple[Entry, ...]:
    made: list[Entry] = []
    previous = GENESIS
    for seq, entry in enumerate(copied, start=1):
        body = {**names.renamed(entry.body), "copied_from": entry.seq}
        if seq == 1:
            body |= {"forked_from": dict(origin)}
            body |= {"chain_key_id": key_id} if key_id is not None else {}
        if entry.kind is EntryKind.RUN_CREATED and entry.run_id == newest_run_id:
            body["draws_from"] = entry.body.get("draws_from", newest_run_id)
        principal = entry.principal
        if principal.type == "task" and principal.id is not None:
            principal = replace(principal, id=names.of(principal.id))
        run_id = names.of(entry.run_id) if entry.run_id is not None else None
        stamped = stamp(
            Draft(entry.kind, body, run_id=run_id, op=entry.op, principal=principal),
            session_id=session_id,
            seq=seq,
            recorded_at=entry.recorded_at,
            previous=previous,
            key=key,
            cipher=cipher,
        )
        previous = stamped.hash
        made.append(stamped)
    return tuple(made)


class _Names:
    """New ids for what the origin's entries name, the same one each time.

    Args:
        entries: The origin's. Only ids that they declare as a run, wait or record count, not any text that looks like
            one.
        new_id: Makes ids of a prefix.
    """

    def __init__(self, entries: Sequence[Entry], new_id: NewId) -> None:
        self._new_id = new_id
        self._known: dict[str, str] = {}
        self._own = {
            identity
            for entry in entries
            for identity in (entry.run_id, entry.body.get("wait_id"), entry.body.get("record_id"))
        }

    def of(self, identity: str) -> str:
        """Return the fork's id for one of the origin's runs, waits or records; any other text unchanged."""
        if identity not in self._own:
            return identity
        if identity not in self._known:
            self._known[identity] = self._new_id(identity.partition("_")[0])
        return self._known[identity]

    def renamed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a body with the fork's ids, without the origin's own facts."""
        return {
            name: value if name in USERS_DATA else self._value(value)
            for name, value in body.items()
            if name not in KEYS_LEFT_OUT
        }

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.of(value)
        if isinstance(value, Mapping):
            return self.renamed(value)
        if isinstance(value, list | tuple):
            return [self._value(one) for one in value]
        return value
