"""What the nouns of the service share: the ledger, the way to a session, the catalog, first receipts of operations.

- `Caller` is who asks, and under which operation id (S-51, S-61).
- `Router` brings a command to the host that holds its session, and the receipt back. It owns the map from session to
  host: a hot session costs one call from here, and the directory is asked only if the host isn't known, does not hold
  the session any more, or has died. Every try of a command carries the same operation id, so that one that ran before
  its host died is not run twice (S-61).
- `CatalogView` is the catalog as the service knows it. The process that imports the task modules at `up` writes it;
  user code never runs here, so a payload is checked against its JSON Schema. What a task's own validators refuse beyond
  that fails the run when it begins, as `schema_mismatch`.
- `Deduplicator` knows the first receipt of a repeated operation where a call is refused before it reaches what decides
  it: the task is gone from the catalog, the payload no longer fits, the wait is over. It asks the ledger before such a
  refusal is given. Sessions and the ledger look an operation up by themselves.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from helmr import ids
from helmr.errors import (
    BadCursor,
    BadSchema,
    HelmrError,
    Moved,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    StreamNotFound,
    TaskNotFound,
    Unavailable,
)
from helmr.models import Catalog, ListQuery, Page, StreamInfo, TaskInfo
from helmr.roles import Role
from helmr_runtime import faults, tracing
from helmr_runtime.clock import Clock
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.commands import AnswerWait, OperationKey, SessionCommand, TokenEnded
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.faults import Point
from helmr_runtime.ports import ClaimsKept, Directory, Host
from helmr_runtime.ports.ledger import Json, LedgerClient
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound, ActorOverloaded, CallError
from helmr_runtime.security.schemas import DataSchema
from helmr_runtime.security.secrets import SessionKeys

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """At most `size_max` pairs; those not used for `age_max_s` are forgotten.

    Args:
        size_max: Most pairs kept.
        age_max_s: A pair unused for longer is none. None keeps it until it is pushed out.
        monotonic: Seconds that only grow; the running loop's `time`.
    """

    def __init__(
        self,
        size_max: int,
        *,
        age_max_s: float | None = None,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._size_max = size_max
        self._age_max_s = age_max_s
        self._monotonic = monotonic
        self._pairs: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, key: K) -> V | None:
        """The value, which counts as used now."""
        found = self._pairs.get(key)
        if found is None:
            return None
        value, used_at_s = found
        now_s = self._monotonic()
        if self._age_max_s is not None and now_s - used_at_s > self._age_max_s:
            del self._pairs[key]
            return None
        self._pairs[key] = (value, now_s)
        self._pairs.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember the pair, in place of an older one with that key."""
        self._pairs[key] = (value, self._monotonic())
        self._pairs.move_to_end(key)
        if len(self._pairs) > self._size_max:
            self._pairs.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._pairs.clear()

    def drop(self, key: K) -> None:
        """Forget the key."""
        self._pairs.pop(key, None)


T = TypeVar("T")

COMMIT_TIMEOUT_S = 10.0
"""Longest that a caller waits for its commit."""

DRY_RUN_TIMEOUT_S = 25.0
"""Longest that a dry run takes with all that is around it, and another host's start; its code has ten seconds."""

DRY_RUN_AGAIN_S = 3.0

CLAIM_TOLD_S = 2.0
"""Longest that anyone who claims waits for the holder to know; a host that is stopped hears of it when it goes on."""

HOSTS_KNOWN_MAX = 10_000
HOST_KNOWN_S = 30.0
"""A session unused for as long as a waiting one stays hot has most likely parked: asking its old host would cost a
parked answer a fifth call."""

IN_FLIGHT_MAX = 1_000
"""Commands under way at once; more would wait longer than their callers do (S-64)."""

PAUSE_S = 0.05
PAUSE_MAX_S = 1.0
TRIES_PER_S = 500
"""While the directory or the ledger is away. Each command is tried again after the first of these times; where so many
are that together they would be tried more often than the last says, after up to the second."""


class Router:
    """Calls hosts; see the module.

    Args:
        directory: Who is asked where a session lives.
        host: The host with that name.
        at_work: Raises if this runtime stands by: its directory serves no one, and would be asked until the time is
            over.
        commit_timeout_s: Longest that a command may take.
    """

    def __init__(
        self,
        directory: Directory,
        host: Callable[[str], Host],
        *,
        at_work: Callable[[], Awaitable[None]],
        commit_timeout_s: float = COMMIT_TIMEOUT_S,
    ) -> None:
        self._directory = directory
        self._host = host
        self._at_work = at_work
        self._commit_timeout_s = commit_timeout_s
        self._hosts: LruCache[str, str] = LruCache(
            HOSTS_KNOWN_MAX, age_max_s=HOST_KNOWN_S, monotonic=_monotonic
        )
        self.in_flight = 0
        self._trying_again = 0

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        """Have the command decided; returns its receipt when it is on disk (S-60).

        Raises:
            OutcomeUnknown: No answer in time, and the command may have run.
            Unavailable: No answer in time, and it has not run.
            Overloaded: Too many commands are under way; this one was not tried.
            Standby: Another runtime is at work.
            HelmrError: What the session answered.
        """
        if tracing.is_on:
            command = replace(command, trace=tracing.current())

        async def ask() -> Mapping[str, Any]:
            await self._at_work()
            if faults.on_point is not None:
                faults.reach(Point.GATEWAY_BEFORE_CALL)
            host = self._hosts.get(session_id)
            if host is None:
                return await self._route(session_id, command)
            try:
                return await self._host(host).command(session_id, command)
            except (Moved, CallError):
                self._hosts.drop(session_id)
                raise

        reply = await self._until_answered(ask, f"{session_id}: {type(command).__name__}")
        if faults.on_point is not None:
            faults.reach(Point.GATEWAY_AFTER_CALL)
        return reply

    async def dry_run(self, session_id: str, command: AnswerWait | TokenEnded) -> Mapping[str, Any]:
        """Have some host dry-run an answer.

        Raises:
            Unavailable: No host could, or it died over it. Nothing has happened.
            Overloaded: Too many dry runs are under way.
            Standby: Another runtime is at work.
            HelmrError: What answering would raise.
        """
        try:
            async with asyncio.timeout(DRY_RUN_TIMEOUT_S):
                await self._at_work()
                return await self._dry_run(session_id, command)
        except (TimeoutError, CallError) as error:
            raise Unavailable(
                f"{session_id}: no host could dry-run the answer",
                hint="Nothing has happened. The host of an earlier one may be ending, whose code did not: try again "
                "in a few seconds.",
                retry_after_s=DRY_RUN_AGAIN_S,
            ) from error

    async def _dry_run(
        self, session_id: str, command: AnswerWait | TokenEnded
    ) -> Mapping[str, Any]:
        """In another host if the first one ends meanwhile: code of an earlier dry run that went on may be why. Not in a
        third: it may be this one's that ends them.
        """
        crashes = 0
        while True:
            name = await self._directory.any_host()
            try:
                return await self._host(name).dry_run(session_id, command)
            except ActorNotFound:
                pass
            except ActorDied:
                crashes += 1
                if crashes > 1:
                    raise
            await asyncio.sleep(PAUSE_S)

    async def tell_claims(self, session_id: str, kept: ClaimsKept) -> None:
        """Tell the holder of the session who has claimed its wait. If that one has died or given it up, the next holder
        hears it from the ledger.
        """
        if kept.claims is None or kept.holder is None:
            return
        with suppress(TimeoutError, Moved, CallError):
            async with asyncio.timeout(CLAIM_TOLD_S):
                await self._host(kept.holder).note_claims(session_id, kept.claims)

    async def write(self, make: Callable[[], Awaitable[T]], *, what: str) -> T:
        """A write of the ledger that needs no host, again and again while the ledger is away.

        The write names its operation, so a repeated one is answered with the first receipt.

        Raises:
            OutcomeUnknown: No answer in time, and the write may have run.
            Unavailable: No answer in time, and it has not run.
            Overloaded: Too many commands are under way; this one was not tried.
        """
        return await self._until_answered(make, what)

    async def _route(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        routed = await self._directory.route(session_id, command)
        if routed.host is not None:
            self._hosts.put(session_id, routed.host)
        return routed.reply

    async def _until_answered(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """Ask again while no one answers; the first second try is at once: only the address was old."""
        has_run = may_have_run = False
        failed = 0
        async with self._admitted():
            try:
                async with asyncio.timeout(self._commit_timeout_s):
                    while True:
                        may_have_run = True
                        try:
                            return await ask()
                        except (Moved, ActorNotFound):
                            may_have_run = has_run
                        except ActorOverloaded:
                            if not has_run:
                                raise
                        except CallError:
                            has_run = True
                        failed += 1
                        await asyncio.sleep(self._pause_s(failed))
            except TimeoutError:
                if may_have_run:
                    raise OutcomeUnknown(
                        f"{what}: no answer in {self._commit_timeout_s:g} s"
                    ) from None
                raise Unavailable(
                    f"{what}: no host could take it within {self._commit_timeout_s:g} s",
                    hint="Nothing was stored; try again.",
                ) from None
            finally:
                self._trying_again -= failed > 0

    def _pause_s(self, failed: int) -> float:
        """Before the next try of a command that no one has answered so often."""
        if failed == 1:
            self._trying_again += 1
            return 0.0
        return min(PAUSE_MAX_S, max(PAUSE_S, self._trying_again / TRIES_PER_S))

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self.in_flight >= IN_FLIGHT_MAX:
            raise Overloaded(
                f"{self.in_flight} commands are under way", hint="Try again.", retry_after_s=1
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


logger = logging.getLogger(__name__)

NAMES_SHOWN_MAX = 50
"""Names that a message lists; the facts hold as many."""


class CatalogView:
    """The newest catalog, read once and again when a new one is written.

    Args:
        ledger: Where it is read.
        age_max_s: Read it again when it is older; None trusts `forget`.
    """

    def __init__(self, ledger: LedgerClient, *, age_max_s: float | None = None) -> None:
        self._ledger = ledger
        self._age_max_s = age_max_s
        self._read_at_s = 0.0
        self._known: Catalog | None = None
        self._payloads: dict[str, DataSchema | None] = {}

    def forget(self) -> None:
        """Read it again at the next use: a new one was written."""
        self._known = None
        self._payloads = {}

    async def get(self) -> Catalog:
        """The catalog.

        Raises:
            NotReady: None has been written.
        """
        now_s = asyncio.get_running_loop().time()
        if self._age_max_s is not None and now_s - self._read_at_s > self._age_max_s:
            self.forget()
        if self._known is None:
            self._read_at_s = now_s
            found = await self._ledger.catalog()
            if found is None:
                raise NotReady("no catalog has been written yet", retry_after_s=1)
            self._known = Catalog.model_validate(found)
        return self._known

    async def tasks(self, query: ListQuery) -> Page[TaskInfo]:
        """A page of the tasks, with the JSON Schemas of their payloads and results, by id."""
        found = sorted((await self.get()).tasks, key=lambda task: task.id)
        return Page[TaskInfo].model_validate(page_of(found, query))

    async def streams(self, query: ListQuery) -> Page[StreamInfo]:
        """A page of the streams, with their JSON Schemas, by name."""
        found = (await self.get()).streams
        ordered = sorted(found, key=lambda stream: (stream.name, stream.direction, stream.tasks))
        return Page[StreamInfo].model_validate(page_of(ordered, query))

    async def task(self, task_id: str) -> TaskInfo:
        """The task with that id.

        Raises:
            TaskNotFound: With the ids there are, and the nearest one.
        """
        catalog = await self.get()
        task = _find_task(catalog, task_id)
        if task is None:
            known = sorted(task.id for task in catalog.tasks)
            raise TaskNotFound(
                f"no task {task_id[:200]!r}; {_there_are(known)}",
                hint=_hint(task_id, known, empty="Start the runtime with the task's module."),
                tasks=known[:NAMES_SHOWN_MAX],
            )
        return task

    async def check_payload(self, task_id: str, payload: Any) -> None:
        """Return if the payload fits the task's schema.

        Raises:
            TaskNotFound: No such task.
            SchemaMismatch: With the failing paths (S-4).
        """
        task = await self.task(task_id)
        if task_id not in self._payloads:
            self._payloads[task_id] = _compiled(task)
        schema = self._payloads[task_id]
        if schema is not None:
            schema.check(payload)

    async def stream(self, task_id: str, name: str, direction: str) -> StreamInfo | None:
        """A stream of a task, None if the task is not in the catalog.

        Raises:
            StreamNotFound: The task has no such stream; lists those there are (S-20).
        """
        catalog = await self.get()
        task = _find_task(catalog, task_id)
        if task is None:
            return None
        names = sorted(task.inputs if direction == "input" else task.outputs)
        if name not in names:
            raise StreamNotFound(
                f"{task_id} has no {direction} stream {name[:128]!r}; it has {_listed(names)}",
                hint=_hint(name, names),
                streams=names[:NAMES_SHOWN_MAX],
            )
        return _find_stream(catalog, task_id, name, direction)

    async def input_schema(self, task_id: str, name: str) -> dict[str, Any] | bool | None:
        """The JSON Schema of an input stream, None if the catalog does not have it."""
        found = _find_stream(await self.get(), task_id, name, "input")
        return found.json_schema if found is not None else None


def page_of(items: Sequence[Any], query: ListQuery) -> dict[str, Any]:
    """A page of a list that is whole in memory; its cursor is the number of items before it."""
    start = 0
    if query.cursor is not None:
        if not (query.cursor.isascii() and query.cursor.isdecimal()) or len(query.cursor) > 9:
            raise BadCursor(f"{query.cursor[:40]!r} is not a cursor of this list")
        start = int(query.cursor)
    end = start + query.limit
    return {
        "items": items[start:end],
        "next_cursor": str(end) if end < len(items) else None,
    }


def _find_task(catalog: Catalog, task_id: str) -> TaskInfo | None:
    return next((task for task in catalog.tasks if task.id == task_id), None)


def _find_stream(catalog: Catalog, task_id: str, name: str, direction: str) -> StreamInfo | None:
    return next(
        (
            stream
            for stream in catalog.streams
            if stream.name == name and stream.direction == direction and task_id in stream.tasks
        ),
        None,
    )


def _compiled(task: TaskInfo) -> DataSchema | None:
    try:
        return DataSchema(task.payload_schema)
    except BadSchema as error:
        # A pattern that only a backtracking engine can run, say. The run checks the payload anyway.
        logger.warning("payloads of %s are checked only when a run begins: %s", task.id, error)
        return None


def _there_are(names: list[str]) -> str:
    return f"there {'is' if len(names) == 1 else 'are'} {_listed(names)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN_MAX]) or "none"


def _hint(name: str, known: Iterable[str], *, empty: str | None = None) -> str | None:
    known = list(known)
    near = difflib.get_close_matches(name[:200], known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return empty if not known else None


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's principal and operation id, and what its secret lets it do.

    A caller that gave no id gets a fresh one: tries of the runtime itself then act once, though the
    caller can't repeat the call.

    Attributes:
        principal: Who acts.
        operation_id: Under which the call acts once; well formed, as whatever has read it from a request has seen.
        role: Of its key; None without one.
        public_token: That it came with instead, which is for one thing only.
        identity: The person, if it is proven that it is one.
    """

    principal: Principal
    operation_id: str = field(default_factory=partial(ids.new_id, ids.OPERATION))
    role: Role | None = None
    public_token: ScopedToken | None = None
    identity: Identity | None = None

    def operation(self, name: str, *parts: Any) -> OperationKey:
        """The operation of this call; its hash covers what is asked, of what, and with what.

        Args:
            name: The operation's name in the service.
            parts: Ids of what it is about, then what the request holds, JSON types only.
        """
        return OperationKey(
            id=self.operation_id, request_hash=jsontext.same_data_hash([name, *parts])
        )

    def fresh(self) -> Caller:
        """The caller under an operation id of its own: one request may write several entries."""
        return Caller(self.principal, role=self.role, identity=self.identity)

    @property
    def may_override(self) -> bool:
        """The caller may answer what others are to answer, with a reason (S-112)."""
        return self.role is Role.ADMIN

    @property
    def public_token_id(self) -> str | None:
        """The public token that the call came with."""
        return self.public_token.id if self.public_token is not None else None


class Deduplicator:
    """What the ledger knows of operations."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def first(self, caller: Caller, operation: OperationKey) -> Json | None:
        """The first receipt, None if the operation is new.

        Raises:
            OperationConflict: The id was used with another request.
            Unavailable: The ledger does not answer: no one knows.
        """
        known = await self._ledger.known_operation(operation.id)
        return known.again(operation, caller.principal) if known is not None else None

    async def receipt(
        self, caller: Caller, operation: OperationKey, write: Callable[[], Awaitable[Json]]
    ) -> Json:
        """What `write` gives; if it is refused, the first receipt of the operation if there is one.

        Raises:
            OperationConflict: The id was used with another request.
            HelmrError: The refusal.
        """
        try:
            return await write()
        except Unavailable:
            raise  # no refusal: the caller is to repeat it
        except HelmrError:
            first = await self.first(caller, operation)
            if first is None:
                raise
            return first


KeysOf = Callable[[str], Awaitable[SessionKeys | None]]
"""The keys of a session, that secrets of its tokens are derived from; None without master keys."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of the runtime that operations of every noun need.

    Attributes:
        ledger: Reads, and the start of sessions.
        router: Commands, to the host that has the session.
        catalog: Tasks and streams.
        repeats: First receipts of repeated operations.
        clock: Tells the time.
        keys: Of a session.
        base_url: What callback URLs and links begin with.
    """

    ledger: LedgerClient
    router: Router
    catalog: CatalogView
    repeats: Deduplicator
    clock: Clock
    keys: KeysOf
    base_url: str = ""

    def now(self) -> datetime:
        """The time."""
        return self.clock.now()
