"""Live tokens in the ledger's memory: what preconditions, completions, expiry and deliveries ask. Pure.

A child session is among them under its own id: the end of its first run is its end, and waits on it are as waits on
tokens. One that its parent has ended is *cancelled* and an orphan until it is over (S-91).

Folded from entries of every session and of the system stream; the first end in feed order is the end (S-40). It
holds ids, numbers and times; texts and data stand in the entries that the offsets name. Both ledgers answer tokens,
public tokens and API keys as the dicts that are made here and fit `helmr.models`.

Invariants: S-13 (whichever comes second, the wait or the end, makes the delivery), S-40, S-41, S-53.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from helmr.models import TokenStatus
from helmr.wire.ids import SYSTEM_STREAM
from helmr_runtime.core.children import CHILD_ENDS, Parent
from helmr_runtime.core.entries import Entry, EntryKind, decided_at, from_iso, iso
from helmr_runtime.ledger.index.keys import ApiKey, OwnedPublicToken
from helmr_runtime.ledger.index.views import UNREADABLE

ENDED_TOKENS_MAX = 10_000
"""Ended tokens that stay in memory; older ones are read from the tables."""

ENDS = {
    EntryKind.TOKEN_COMPLETED: TokenStatus.COMPLETED,
    EntryKind.TOKEN_EXPIRED: TokenStatus.EXPIRED,
    EntryKind.TOKEN_CANCELLED: TokenStatus.CANCELLED,
}
OF_TOKENS = frozenset(
    {
        EntryKind.TOKEN_CREATED,
        EntryKind.SESSION_CREATED,
        EntryKind.SESSION_CANCELLED,
        EntryKind.RUN_REWOUND,
        EntryKind.WAIT_OPENED,
        EntryKind.WAIT_FULFILLED,
        EntryKind.WAIT_TIMED_OUT,
        EntryKind.WAIT_CANCELLED,
        *CHILD_ENDS,
        *ENDS,
    }
)
"""Kinds of entries that change this index."""

GENERATIONS_MAX = 100
"""Most generations of a session's ancestors that are followed."""

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Expiry of a child session."""

WAIT_ENDS = frozenset(
    {EntryKind.WAIT_FULFILLED, EntryKind.WAIT_TIMED_OUT, EntryKind.WAIT_CANCELLED}
)


@dataclass(slots=True)
class TokenHead:
    """One token.

    Attributes:
        session_id: Whose transcript its first entry stands in; the system stream if a client made it.
        ended_offset: Feed offset of the entry that ended it, 0 while it is pending.
        pin_offset: Feed offset of the newest `wait.opened` that pinned a schema, 0 without one (S-43).
        waits: Pending waits on it, with their sessions.
        parent: Whose child it is; None of a token.
    """

    id: str
    session_id: str
    created_offset: int
    created_at: datetime
    expires_at: datetime
    callback_hash: str
    has_schema: bool = False
    status: TokenStatus = TokenStatus.PENDING
    ended_at: datetime | None = None
    ended_offset: int = 0
    pin_offset: int = 0
    waits: dict[str, str] = field(default_factory=dict)
    parent: Parent | None = None

    @property
    def owner_id(self) -> str:
        """The session that ends it with its own end."""
        return self.parent.session_id if self.parent is not None else self.session_id

    @property
    def is_orphan(self) -> bool:
        """A child session that its parent has ended."""
        return self.parent is not None and self.status is TokenStatus.CANCELLED

    @property
    def is_pending(self) -> bool:
        """It can still be completed, unless its time is over."""
        return self.status is TokenStatus.PENDING

    @property
    def schema_offsets(self) -> tuple[int, ...]:
        """Feed offsets of the entries whose schemas a completion must fit; the newest pin last."""
        own = (self.created_offset,) if self.has_schema else ()
        return (*own, self.pin_offset) if self.pin_offset else own


class TokenIndex:
    """The tokens that live, those that ended lately, and the pending waits on any of them."""

    def __init__(self) -> None:
        self._tokens: dict[str, TokenHead] = {}
        self._by_callback: dict[str, str] = {}
        self._of_session: dict[str, set[str]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self.expiries: list[tuple[datetime, str]] = []
        """Heap of expiries; ended tokens in it are skipped."""
        self._awaited: dict[str, tuple[str, ...]] = {}
        self.orphans: list[str] = []
        """Children whose parents ended them but whose end is not requested yet; the reader takes them."""
        self.touched: set[str] = set()
        """Tokens whose numbers changed since the tables were last asked to follow."""

    def get(self, token_id: str) -> TokenHead | None:
        """The token, if it is in memory."""
        return self._tokens.get(token_id)

    def first_ended(self, awaited: Iterable[str]) -> TokenHead | None:
        """Return the one of these tokens that ended first."""
        found = (self._tokens.get(one) for one in awaited)
        ended = [token for token in found if token is not None and not token.is_pending]
        return min(ended, key=lambda token: token.ended_offset, default=None)

    def ended_facts(self, awaited: tuple[str, ...]) -> dict[str, Any]:
        """The first of these that has ended, or that there is not, if any; anyone who answers adds what its entry
        says."""
        ended = self.first_ended(awaited)
        if ended is not None:
            named = {"token_id": ended.id, "status": ended.status.value}
            return {**named, "ended_offset": ended.ended_offset}
        unknown = next((one for one in awaited if one not in self._tokens), None)
        return {"token_id": unknown, "status": "unknown"} if unknown is not None else {}

    def family_of(self, session_id: str) -> str | None:
        """The session that this one descends from; None if no task started it, as far as memory knows."""
        top = session_id
        for _ in range(GENERATIONS_MAX):
            child = self._tokens.get(top)
            if child is None or child.parent is None:
                break
            top = child.parent.session_id
        return top if top != session_id else None

    def by_callback(self, callback_hash: str) -> TokenHead | None:
        """The token whose callback secret has this hash, if it is in memory."""
        token_id = self._by_callback.get(callback_hash)
        return self._tokens[token_id] if token_id is not None else None

    def __iter__(self) -> Iterator[TokenHead]:
        return iter(self._tokens.values())

    def __len__(self) -> int:
        return len(self._tokens)

    # --- folding --------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> list[tuple[str, str]]:
        """Fold one stored entry; returns (session, wait) of the waits that have a delivery to get."""
        assert entry.feed_offset is not None
        match entry.kind:
            case EntryKind.TOKEN_CREATED:
                self.admit(
                    TokenHead(
                        id=entry.body["token_id"],
                        session_id=entry.session_id,
                        created_offset=entry.feed_offset,
                        created_at=entry.recorded_at,
                        expires_at=from_iso(entry.body["expires_at"]),
                        callback_hash=entry.body["callback_hash"],
                        has_schema="schema" in entry.body,
                    )
                )
                self.touched.add(entry.body["token_id"])
            case EntryKind.SESSION_CREATED if "parent" in entry.body:
                self._child_created(entry, entry.feed_offset)
            case EntryKind.WAIT_OPENED if "token_id" in entry.body:
                return self._wait_opened(entry, entry.feed_offset)
            case EntryKind.WAIT_OPENED if "session_ids" in entry.body:
                return self._children_awaited(entry)
            case EntryKind.SESSION_CANCELLED:
                owned = self._owned(entry.session_id)
                return self._cancel([t.id for t in owned if t.parent is None or _ends(t)], entry)
            case EntryKind.RUN_REWOUND:
                return self._cancel([*entry.body["tokens"], *self._set_aside(entry)], entry)
            case kind if kind in CHILD_ENDS:
                return self._run_ended(entry)
            case kind if kind in ENDS:
                return self._end(entry.body["token_id"], ENDS[kind], entry)
            case kind if kind in WAIT_ENDS:
                self._wait_resolved(entry.body["wait_id"])
            case _:
                pass
        return []

    def _wait_opened(self, entry: Entry, feed_offset: int) -> list[tuple[str, str]]:
        wait_id, token_id = entry.body["wait_id"], entry.body["token_id"]
        token = self._tokens.get(token_id)
        if token is None:
            return []
        self.note_wait(token, wait_id, entry.session_id)
        if token.is_pending and "schema" in entry.body:
            token.pin_offset = feed_offset
            self.touched.add(token_id)
        return [] if token.is_pending else [(entry.session_id, wait_id)]

    def note_wait(self, token: TokenHead, wait_id: str, session_id: str) -> None:
        """A pending wait on the token."""
        token.waits[wait_id] = session_id
        self._awaited[wait_id] = (*self._awaited.get(wait_id, ()), token.id)

    def _wait_resolved(self, wait_id: str) -> None:
        for awaited_id in self._awaited.pop(wait_id, ()):
            self._tokens[awaited_id].waits.pop(wait_id, None)

    # --- children -------------------------------------------------------------------------------

    def _child_created(self, entry: Entry, feed_offset: int) -> None:
        child_id = entry.session_id
        self.admit(
            TokenHead(
                id=child_id,
                session_id=child_id,
                created_offset=feed_offset,
                created_at=entry.recorded_at,
                expires_at=NEVER,
                callback_hash="",
                parent=Parent.from_json(entry.body["parent"]),
            )
        )
        self.touched.add(child_id)

    def _children_awaited(self, entry: Entry) -> list[tuple[str, str]]:
        wait_id, children = entry.body["wait_id"], entry.body["session_ids"]
        found = [child for one in children if (child := self._tokens.get(one)) is not None]
        for child in found:
            self.note_wait(child, wait_id, entry.session_id)
        return [(entry.session_id, wait_id)] if any(not one.is_pending for one in found) else []

    def _run_ended(self, entry: Entry) -> list[tuple[str, str]]:
        """A run ended: its session's first, if none has before; and it may have children.

        A run that goes on as the next has not ended: that one's end is the child's.
        """
        due: list[tuple[str, str]] = []
        child = self._tokens.get(entry.session_id)
        goes_on = "continued_by" in entry.body
        if child is not None and child.parent is not None and not goes_on:
            due += self._end(child.id, TokenStatus.COMPLETED, entry)
        if entry.kind is EntryKind.RUN_CANCELLED:
            owned = self._owned(entry.session_id)
            due += self._cancel([t.id for t in owned if _ends(t, entry.run_id)], entry)
        return due

    def _set_aside(self, rewound: Entry) -> list[str]:
        """The children that ops made which a rewind has set aside."""
        if rewound.body.get("keep_children"):
            return []
        gone = set(rewound.body["set_aside"])
        return [
            token.id
            for token in self._owned(rewound.session_id)
            if token.parent is not None
            and token.parent.run_id == rewound.run_id
            and token.parent.op in gone
        ]

    def _owned(self, session_id: str) -> list[TokenHead]:
        """Return the session's pending tokens, oldest first."""
        owned = [self._tokens[token_id] for token_id in self._of_session.get(session_id, ())]
        return sorted(owned, key=lambda token: token.created_offset)

    def _end(self, token_id: str, status: TokenStatus, entry: Entry) -> list[tuple[str, str]]:
        token = self._tokens.get(token_id)
        if token is None or not token.is_pending:
            return []  # the first end is the end
        assert entry.feed_offset is not None
        token.status = status
        token.ended_at = decided_at(entry)
        token.ended_offset = entry.feed_offset
        self._leave_session(token)
        self._ended[token.id] = None
        self.touched.add(token.id)
        if token.is_orphan:
            self.orphans.append(token.id)
        return [(session_id, wait_id) for wait_id, session_id in token.waits.items()]

    def _cancel(self, token_ids: Iterable[str], entry: Entry) -> list[tuple[str, str]]:
        return [
            due
            for token_id in token_ids
            for due in self._end(token_id, TokenStatus.CANCELLED, entry)
        ]

    def _leave_session(self, token: TokenHead) -> None:
        of_session = self._of_session.get(token.owner_id)
        if of_session is not None:
            of_session.discard(token.id)
            if not of_session:
                del self._of_session[token.owner_id]

    # --- what tables bring and take ---------------------------------------------------------------

    def admit(self, token: TokenHead) -> TokenHead:
        """Take a token in; one that is here already wins."""
        known = self._tokens.get(token.id)
        if known is not None:
            return known
        self._tokens[token.id] = token
        if token.parent is None:
            self._by_callback[token.callback_hash] = token.id
        if token.is_pending:
            self._of_session.setdefault(token.owner_id, set()).add(token.id)
            if token.parent is None:
                heapq.heappush(self.expiries, (token.expires_at, token.id))
        else:
            self._ended[token.id] = None
        return token

    def evict(self) -> None:
        """Forget the tokens that ended first, beyond `ENDED_TOKENS_MAX`, unless a wait awaits them."""
        for token_id in list(self._ended)[: max(0, len(self._ended) - ENDED_TOKENS_MAX)]:
            token = self._tokens[token_id]
            if not token.waits and token_id not in self.touched:
                del self._tokens[token_id], self._ended[token_id]
                self._by_callback.pop(token.callback_hash, None)

    def forget(self, sessions: Collection[str]) -> None:
        """Forget the tokens of sessions that were pruned, and those among them that were children."""
        for token in [one for one in self._tokens.values() if one.session_id in sessions]:
            del self._tokens[token.id]
            self._ended.pop(token.id, None)
            self._by_callback.pop(token.callback_hash, None)
            self.touched.discard(token.id)

    # --- expiry -----------------------------------------------------------------------------------

    def next_expiry_at(self) -> datetime | None:
        """Return the earliest expiry of a pending token."""
        while self.expiries:
            at, token_id = self.expiries[0]
            token = self._tokens.get(token_id)
            if token is not None and token.is_pending:
                return at
            heapq.heappop(self.expiries)
        return None

    def due(self, now: datetime, count_max: int) -> list[TokenHead]:
        """Pending tokens whose time is over, earliest first. They stay due until their end is folded."""
        found: list[TokenHead] = []
        kept: list[tuple[datetime, str]] = []
        while self.expiries and self.expiries[0][0] <= now and len(found) < count_max:
            item = heapq.heappop(self.expiries)
            token = self._tokens.get(item[1])
            if token is not None and token.is_pending:
                found.append(token)
                kept.append(item)
        for item in kept:
            heapq.heappush(self.expiries, item)
        return found


def _ends(token: TokenHead, run_id: str | None = None) -> bool:
    """True for a child that ends with its parent, or with the named run of it."""
    parent = token.parent
    return parent is not None and not parent.leaves and run_id in (None, parent.run_id)


Json = dict[str, Any]


def token_json(
    token: TokenHead, created: Entry, ended: Entry | None, pinned: Entry | None, *, in_full: bool
) -> Json:
    """A `TokenInfo`; in full also what the service needs to complete it.

    Args:
        token: Its numbers.
        created: Its `token.created`.
        ended: The entry that ended it.
        pinned: The newest `wait.opened` that pinned a schema; None if none did.
        in_full: With texts, schema, data, and `schemas` (offset and schema of each that a completion must
            fit), `waits`, `key_id`, `verify_sealed`, `nonce_id`, `completed_by_public_token`.
    """
    body = created.body
    verify = body.get("verify")
    found: Json = {
        "id": token.id,
        "status": token.status.value,
        "session_id": None if token.session_id == SYSTEM_STREAM else token.session_id,
        "run_id": created.run_id,
        "tags": body["tags"],
        "metadata": body["metadata"],
        "subject": _asked(body, pinned, "subject"),
        "raw": bool(body.get("raw")),
        "verify": verify["scheme"] if verify is not None else None,
        "public_token_id": body["public_token_id"],
        "created_at": iso(token.created_at),
        "created_by": created.principal.to_json(),
        "expires_at": iso(token.expires_at),
        "ended_at": iso(token.ended_at) if token.ended_at is not None else None,
        "ended_by": ended.principal.to_json() if ended is not None else None,
    }
    if not in_full:
        return found
    schemas = [
        {"offset": entry.feed_offset, "schema": entry.body["schema"]}
        for entry in (created, pinned)
        if entry is not None and "schema" in entry.body
    ]
    found |= {
        "body": _asked(body, pinned, "body"),
        "schema": schemas[-1]["schema"] if schemas else None,
        "initial": _asked(body, pinned, "initial"),
        "evidence": _asked(body, pinned, "evidence"),
        "escalation": body.get("escalation", []),
        "schemas": schemas,
        "waits": sorted(token.waits.items()),
        "key_id": body["key_id"],
        "verify_sealed": verify,
        "data": None,
        "nonce_id": None,
        "completed_by_public_token": None,
    }
    if ended is not None and ended.kind is EntryKind.TOKEN_COMPLETED:
        found |= {
            "data": ended.body["data"],
            "nonce_id": ended.body.get("nonce_id"),
            "completed_by_public_token": ended.body.get("public_token_id"),
        }
    return found


def unreadable_token_json(token: TokenHead, created: Entry, tags: list[str], problem: str) -> Json:
    """A `TokenInfo` for a list, when the body of one of its entries can't be read."""
    return {
        "id": token.id,
        "status": token.status.value,
        "session_id": None if token.session_id == SYSTEM_STREAM else token.session_id,
        "run_id": created.run_id,
        "tags": tags,
        "subject": UNREADABLE,
        "problem": problem,
        "created_at": iso(token.created_at),
        "created_by": created.principal.to_json(),
        "expires_at": iso(token.expires_at),
        "ended_at": iso(token.ended_at) if token.ended_at is not None else None,
    }


def _asked(body: Any, pinned: Entry | None, name: str) -> Any:
    """Return the text to ask with: the token's own, else that of the wait that pinned its schema."""
    own = body.get(name)
    return own if own is not None or pinned is None else pinned.body.get(name)


def public_token_json(owned: OwnedPublicToken) -> Json:
    """A `PublicTokenInfo`, with the hash of its secret and `session_id` of the session that decides it."""
    token = owned.token
    scope = {
        "type": token.scope.type.value,
        "session": token.scope.session_id,
        "stream": token.scope.stream,
        "token": token.scope.token_id,
        "correlation_id": token.scope.correlation_id,
        "wait": token.scope.wait_id,
        "person": token.scope.person,
    }
    return {
        "id": token.id,
        "scope": {name: value for name, value in scope.items() if value is not None},
        "max_uses": token.max_uses,
        "uses": token.uses,
        "uses_left": token.uses_left,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "last_used_at": iso(token.last_used_at) if token.last_used_at is not None else None,
        "revoked_at": iso(token.revoked_at) if token.revoked_at is not None else None,
        "allowed_origins": list(token.allowed_origins),
        "state": token.to_json(),
        "session_id": owned.session_id,
        "created_offset": owned.created_offset,
    }


def api_key_json(key: ApiKey) -> Json:
    """An `ApiKeyInfo`."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "person": key.person,
        "expires_at": iso(key.expires_at) if key.expires_at is not None else None,
        "created_at": iso(key.created_at),
        "revoked_at": iso(key.revoked_at) if key.revoked_at is not None else None,
    }
