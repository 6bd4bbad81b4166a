"""Entries of the memory ledger, and rows for its lists and objects, in the shapes and order of the tables.

Reads fold the rows from the entries with the tables' own projection, so the test harness replies as a runtime does,
without SQL. Pruned entries leave gaps. The rule of pruning is that of the tables (`helmr_runtime.ledger.pruning`),
written again over the index; a test compares the two. A held session stays, and does not delay the others: a test has
no host that would park it in time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from helmr.models import Activity, RunsQuery, SessionsQuery, SessionStatus, TokensQuery, WaitsQuery
from helmr.wire.people import list_key, person_key
from helmr_runtime.core.delegations import DeputyFilter
from helmr_runtime.core.entries import PERSON, Entry, EntryKind, entry_json, from_iso
from helmr_runtime.core.nouns import RunRow, WaitRow
from helmr_runtime.ledger.attachments import MemoryPieces
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.heads import Head, fold
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.projection import Projection
from helmr_runtime.ledger.index.tokens import TokenHead, api_key_json, public_token_json, token_json
from helmr_runtime.ledger.index.views import FAR_FUTURE_US, Wanted


class KeptEntries(list[Entry]):
    """Entries in feed order. What was pruned leaves gaps: places in the list are no offsets."""

    @property
    def next_offset(self) -> int:
        """Feed offset of the next entry. The last entry is never pruned: it records the pruning."""
        return (self[-1].feed_offset or 0) + 1 if self else 1

    def at(self, offset: int) -> Entry:
        """The entry with that feed offset.

        Raises:
            KeyError: There is none.
        """
        place = self._place(offset)
        if place == len(self) or self[place].feed_offset != offset:
            raise KeyError(offset)
        return self[place]

    def behind(self, offset: int) -> list[Entry]:
        """All behind that feed offset."""
        return self[self._place(offset + 1) :]

    def remove_sessions(self, gone: Collection[str]) -> None:
        """Remove all entries of these sessions."""
        self[:] = [entry for entry in self if entry.session_id not in gone]

    def _place(self, offset: int) -> int:
        """Return the index of the first entry at or after this offset."""
        place = offset - 1
        if not self or self[-1].feed_offset == len(self):  # nothing is gone
            return min(place, len(self))
        return bisect_left(self, offset, key=lambda entry: entry.feed_offset or 0)


@dataclass(slots=True)
class Stored:
    """The data that a ledger on disk would store."""

    entries: KeptEntries = field(default_factory=KeptEntries)
    checkpoints: dict[tuple[str, int], str] = field(default_factory=dict)
    holdings: list[tuple[str, int, str | None]] = field(default_factory=list)
    files: MemoryPieces = field(default_factory=MemoryPieces)

    def remove(self, gone: Collection[str]) -> None:
        """Remove everything of these sessions."""
        self.entries.remove_sessions(gone)
        self.checkpoints = {at: one for at, one in self.checkpoints.items() if at[0] not in gone}
        self.holdings = [one for one in self.holdings if one[0] not in gone]


def prunable(
    index: LedgerIndex,
    entries: KeptEntries,
    before: datetime,
    only: Collection[str] | None = None,
) -> list[Head]:
    """Sessions that are over since before that time, and that nothing refers to which stays; children first.

    Args:
        only: What may be chosen; None for all.
    """
    old = {
        head.session_id: head
        for head in index.heads.values()
        if head is not index.system and _is_old(head, before)
        if only is None or head.session_id in only
    }
    kept = index.features.sessions_kept()
    kept |= {one for one, head in old.items() if head.is_held}
    families: dict[str, set[str]] = {}
    for token in index.tokens:
        if token.parent is not None:
            families.setdefault(token.session_id, set()).add(token.parent.session_id)
            families.setdefault(token.parent.session_id, set()).add(token.session_id)
            continue
        if token.is_pending:
            kept.add(token.session_id)
        if token.pin_offset:
            kept |= {entries.at(token.pin_offset).session_id} - {token.session_id}
    kept |= {kin for one, kins in families.items() if one not in old for kin in kins}
    unseen = list(kept)
    while unseen:
        for kin in families.get(unseen.pop(), set()) - kept:
            kept.add(kin)
            unseen.append(kin)
    return [head for one, head in reversed(old.items()) if one not in kept]


def _is_old(head: Head, before: datetime) -> bool:
    is_over = head.status is not SessionStatus.OPEN and not head.has_active_run
    return is_over and head.last_at is not None and head.last_at < before


T = TypeVar("T")
Json = dict[str, Any]


class MemoryRows:
    """Implements `helmr_runtime.ledger.index.views.Rows`.

    Args:
        entries: All that is stored, in feed order; grows.
        index: The ledger's, for tokens and keys.
    """

    def __init__(self, entries: KeptEntries, index: LedgerIndex) -> None:
        self._entries = entries
        self._index = index
        self._heads: dict[str, Head] = {}
        self._folded = Projection()

    @property
    def _rows(self) -> Projection:
        """The rows as of now."""
        for entry in self._entries.behind(self._folded.through):
            head = self._heads.setdefault(entry.session_id, Head(entry.session_id))
            fold(head, entry)
            head.tail.clear()
            self._folded.fold(entry, head)
        return self._folded

    # --- objects --------------------------------------------------------------------------------

    async def session(self, session_id: str) -> Json | None:
        return self._session(session_id) if session_id in self._rows.new_sessions else None

    async def run(self, run_id: str) -> Json | None:
        rows = self._rows
        return self._run(rows.run(run_id)) if run_id in rows.new_runs else None

    async def wait(self, wait_id: str) -> Json | None:
        rows = self._rows
        return self._wait(rows.wait(wait_id), in_full=True) if wait_id in rows.new_waits else None

    async def public_token(self, public_token_id: str) -> Json | None:
        return None  # the index has all

    def _session(self, session_id: str) -> Json:
        rows = self._rows
        row = rows.session(self._heads[session_id])
        wait = self._wait(rows.wait(row.wait_id), in_full=True) if row.wait_id else None
        run = rows.run(row.run_id) if row.run_id and views.needs_run(row) else None
        outcome = self._entry(run.outcome_offset) if run is not None else None
        return views.session_json(row, wait, run, outcome.body if outcome is not None else None)

    def _run(self, row: RunRow) -> Json:
        ended = self._entry(row.outcome_offset)
        created = self._entries.at(row.created_offset)
        return views.run_json(row, created.body, ended.body if ended is not None else None)

    def _waits(self) -> Iterable[tuple[tuple[int | str, ...], Json]]:
        rows = self._rows
        for row in map(rows.wait, rows.new_waits):
            yield _ends_first(row), self._wait(row, in_full=False)

    def _wait(self, row: WaitRow, *, in_full: bool) -> Json:
        resolved = self._entry(row.resolved_offset)
        return views.wait_json(
            row,
            self._entries.at(row.opened_offset).body,
            views.principal_of(self._sent(resolved)) if resolved is not None else None,
            outcome=resolved.body if resolved is not None else None,
            in_full=in_full,
        )

    def _sent(self, resolved: Entry) -> Entry:
        """The entry whose author resolved the wait: of one that an earlier record satisfied at once, that record."""
        if not views.was_at_once(resolved):
            return resolved
        return next(
            entry
            for entry in self._of(resolved.session_id, EntryKind.INPUT_ACCEPTED)
            if entry.body["record_id"] == resolved.body["record_id"]
        )

    def _token(self, token: TokenHead) -> Json:
        created, ended, pinned = (
            self._entry(o) for o in (token.created_offset, token.ended_offset, token.pin_offset)
        )
        assert created is not None
        return token_json(token, created, ended, pinned, in_full=False)

    def _entry(self, feed_offset: int | None) -> Entry | None:
        return self._entries.at(feed_offset) if feed_offset else None

    def _of(self, session_id: str, *kinds: EntryKind) -> list[Entry]:
        return [
            entry
            for entry in self._entries
            if entry.session_id == session_id and (not kinds or entry.kind in kinds)
        ]

    # --- lists ----------------------------------------------------------------------------------

    async def page(
        self,
        wanted: Wanted,
        *,
        resolving: Collection[str] = (),
        by_deputy: Sequence[DeputyFilter] = (),
    ) -> Json:
        rows = self._rows
        found: Iterable[tuple[tuple[int | str, ...], Json]]
        match wanted:
            case SessionsQuery():
                new = rows.new_sessions.values()
                found = (
                    ((-row.created_offset,), views.listed_session(self._session(row.session_id)))
                    for row in new
                )
            case RunsQuery():
                runs = (rows.run(run_id) for run_id in rows.new_runs)
                found = (((-row.created_offset,), self._run(row)) for row in runs)
            case WaitsQuery():
                found = self._waits()
            case TokensQuery():
                found = (
                    ((-one.created_offset,), self._token(one))
                    for one in self._index.tokens
                    if one.parent is None
                )
        fitting = _fitting(found, wanted.filters(), resolving, by_deputy)
        return _page(type(wanted).__name__, fitting, dict, wanted.cursor, wanted.limit)

    async def waits_by_task(
        self,
        wanted: WaitsQuery,
        *,
        resolving: Collection[str] = (),
        by_deputy: Sequence[DeputyFilter] = (),
    ) -> list[Json]:
        last = views.decode_cursor(WaitsQuery.__name__, wanted.cursor, (int, str))
        given = wanted.model_copy(update={"task": None}).filters()
        totals: dict[str, Json] = {}
        for key, wait in _fitting(self._waits(), given, resolving, by_deputy):
            task = wait["task"]
            total = totals.setdefault(task, {"task": task, "count": 0, "before": 0})
            total["count"] += 1
            total["before"] += last is not None and key <= tuple(last)
        return list(totals.values())

    async def wait_totals(self, resolving: Collection[str]) -> list[Json]:
        totals: dict[tuple[str, str | None], Json] = {}
        rows = self._rows
        for row in map(rows.wait, rows.new_waits):
            wait = self._wait(row, in_full=False)
            if wait["status"] != "pending" or row.is_backoff or row.wait_id in resolving:
                continue
            kind, stream = wait["kind"], wait["stream"]
            fresh = {"kind": kind, "stream": stream, "count": 0, "oldest_at": wait["opened_at"]}
            total = totals.setdefault((kind, stream), fresh)
            total["count"] += 1
            total["oldest_at"] = min(total["oldest_at"], wait["opened_at"])
        return list(totals.values())

    async def public_tokens(self, cursor: str | None, limit: int) -> Json:
        owned = self._index.keys.public_tokens.values()
        found = (((-one.created_offset,), one) for one in owned)
        return _page("public-tokens", found, public_token_json, cursor, limit)

    async def api_keys(self, cursor: str | None, limit: int) -> Json:
        keys = self._index.keys.api_keys.values()
        found = (((-key.created_offset,), key) for key in keys)
        return _page("api-keys", found, api_key_json, cursor, limit)

    async def transcript(
        self, head: Head, after: int | None, cursor: str | None, limit: int
    ) -> Json:
        start = (after or 0) if cursor is None else 0  # a cursor wins over `after`
        found = (((e.seq,), e) for e in self._of(head.session_id) if e.seq > start)
        return _page(f"transcript:{head.session_id}", found, entry_json, cursor, limit)

    async def records(
        self,
        head: Head,
        direction: str,
        stream: str,
        after: int | None,
        cursor: str | None,
        limit: int,
    ) -> Json:
        takers: dict[str, str | None] = {}
        for entry in self._of(head.session_id, EntryKind.WAIT_FULFILLED, EntryKind.INPUT_RETURNED):
            if "record_id" in entry.body:
                is_taken = entry.kind is EntryKind.WAIT_FULFILLED
                takers[entry.body["record_id"]] = entry.body["wait_id"] if is_taken else None
        start = (after or 0) if cursor is None else 0
        found = (
            ((int(entry.body["stream_seq"]),), entry)
            for entry in self._of(head.session_id, views.record_kind(direction))
            if entry.body["stream"] == stream and entry.body["stream_seq"] > start
        )
        return _page(
            f"{direction}:{head.session_id}:{stream}",
            found,
            lambda entry: views.record_json(entry, takers.get(entry.body["record_id"])),
            cursor,
            limit,
        )


def _ends_first(row: WaitRow) -> tuple[int | str, ...]:
    ends_at = row.default_at or row.deadline_at
    if ends_at is None:
        return FAR_FUTURE_US, row.wait_id
    return round(ends_at.timestamp() * 1_000_000), row.wait_id


def _fitting(
    found: Iterable[tuple[tuple[int | str, ...], Json]],
    given: Mapping[str, Any],
    resolving: Collection[str],
    by_deputy: Sequence[DeputyFilter] = (),
) -> Iterable[tuple[tuple[int | str, ...], Json]]:
    """Those of the objects that pass these filters, each with its key."""
    for key, info in found:
        if info["status"] == "pending" and info["id"] in resolving:
            continue
        if all(
            _holds(name, value, info) or any(_holds_by(name, one, info) for one in by_deputy)
            for name, value in given.items()
        ):
            yield key, info


def _holds_by(name: str, by: DeputyFilter, info: Json) -> bool:
    """True if the filter holds for a person whose deputy asks."""
    if name not in ("concerns", "answerable_by"):
        return False
    tags = {*info["tags"], *info["session_tags"]}
    is_covered = (
        (not by.tasks or info["task"] in by.tasks)
        and (not by.streams or info["stream"] in by.streams)
        and (not by.tags or not tags.isdisjoint(by.tags))
    )
    is_named = not {*by.delegator}.isdisjoint(info["answerers"])
    if name == "concerns":
        return is_covered and (is_named or list_key(info["assignee"] or "") in by.delegator)
    is_free = {*by.both}.isdisjoint(info["not_by"]) and {*by.people}.isdisjoint(info["voters"])
    return is_covered and is_named and is_free


def _holds(name: str, value: Any, info: Json) -> bool:
    match name:
        case "tag":
            return value in (*info["tags"], *info.get("session_tags", ()))
        case "resolved_since":
            return info["resolved_at"] is not None and bool(from_iso(info["resolved_at"]) >= value)
        case "kind":
            return info["kind"] in value
        case "concerns":
            keys = {list_key(name) for name in value}
            return list_key(info["assignee"] or "") in keys or bool(keys & {*info["answerers"]})
        case "answerable_by":
            keys = {list_key(name) for name in value}
            is_named = not info["answerers"] or bool(keys & {*info["answerers"]})
            return is_named and not keys & {*info["not_by"], *info["voters"]}
        case "answered_by":
            by, key = info["resolved_by"] or {}, person_key(value)
            named = (by.get("id") or "", by.get("on_behalf_of") or "")
            is_own = by.get("type") == PERSON and key in map(person_key, named)
            return is_own or key in info["voters"]
        case "voter":
            return person_key(value) in info["voters"]
        case "forked_from" | "parent":
            return info[name] is not None and info[name]["session_id"] == value
        case "activity" if value == Activity.IDLE.value:
            return bool(info["activity"] == value) and info["status"] == SessionStatus.OPEN.value
        case _:
            return bool(info[name] == value)


def _page(
    name: str,
    found: Iterable[tuple[tuple[int | str, ...], T]],
    view: Callable[[T], Json],
    cursor: str | None,
    limit: int,
) -> Json:
    """A page of what is behind the cursor, by key."""
    rows = sorted(found, key=lambda row: row[0])
    types = [type(part) for part in rows[0][0]] if rows else [int]
    last = views.decode_cursor(name, cursor, types)
    if last is not None:
        rows = [row for row in rows if row[0] > tuple(last)]
    following = views.encode_cursor(name, rows[limit - 1][0]) if len(rows) > limit else None
    return views.page([view(row) for _, row in rows[:limit]], following)
