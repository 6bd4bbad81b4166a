"""Runs the code of one run: calls the task's function, and is the `DurableRun` of the durable calls in it.

Each call is checked here and made into a request, and its outcome into the value that the code gets. The driver carries
requests and outcomes. Invariants: S-4 (payload and result go through the task's types), S-10 (one wait at a time), S-16
(a timer's bounds), S-21 (recorded data that no longer fits blocks the run).
"""

from __future__ import annotations

import contextvars
import logging
import uuid
from asyncio import wrap_future
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from random import Random  # noqa: TID251 - seeded by the place in the run
from threading import Lock
from typing import Any, Protocol

from helmr.context import TaskContext
from helmr.current import (
    ChildCall,
    DurableRun,
    MadeCalls,
    PublicTokenCall,
    PublicTokenMade,
    Record,
    RunRef,
    SessionRef,
    StepCall,
    StepRef,
    TokenCall,
    TokenMade,
    WaitCall,
    WaitOutcome,
    current_step,
)
from helmr.errors import (
    BadDefinition,
    BadDuration,
    ConcurrentWaitError,
    HelmrSignal,
    NotReady,
    SchemaMismatch,
    StepFailed,
    TooLarge,
    Unavailable,
    UsageError,
)
from helmr.models import CHUNK_BYTES_MAX, RECORD_BYTES_MAX, VALUE_BYTES_MAX
from helmr.models.attachments import STORE_STEP
from helmr.tasks import Task
from helmr.wait_details import UNSET, WaitDetails
from helmr.wire.durations import TEN_YEARS_S
from helmr.wire.ids import RECORD, WAIT, new_id
from helmr_runtime import tracing
from helmr_runtime.clock import Clock
from helmr_runtime.core import jsontext
from helmr_runtime.core.children import CHILD_STEP
from helmr_runtime.core.public_tokens import Scope, check_correlation_id, scope_of_request
from helmr_runtime.core.requests import (
    NOT_HASHED,
    AskedHashes,
    HistoryRequest,
    OpRequest,
    OutputRequest,
    PeekRequest,
    PublicTokenOp,
    StepRequest,
    TokenOp,
    WaitRequest,
)
from helmr_runtime.core.run import RESUME_LONG_S, WAY_OUT
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import NewToken
from helmr_runtime.host_status import SlotMark
from helmr_runtime.replay.cursor import JournalCursor, arguments_text
from helmr_runtime.replay.ends import Unreadable
from helmr_runtime.replay.replay_log import (
    MadeToken,
    RecordsLost,
    ReplayLog,
    StepError,
    StepValue,
    make_replay_log,
)
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig
from helmr_runtime.security.schemas import data_schema

log = logging.getLogger("helmr.run")

LEDGER_CALL_RETRIES = 5
"""Retries of a task's call to the ledger: it outlasts a restart of the ledger."""

ORIGINS_URL = "http://helmr.invalid/known-to-the-session-that-this-is-a-fork-of"
ORIGINS_SECRET = "known-to-the-session-that-this-is-a-fork-of"
"""Placeholder for secrets of a fork's origin: a text that opens nothing and says so (S-86)."""

TIMEOUT_MAX = timedelta(seconds=TEN_YEARS_S)
"""Longest timeout (S-16)."""

SILENCE_S = 30.0
"""Seconds after which a replay with idle code that has not asked for the next op differs from the journal."""


class OpRequests(Protocol):
    """The driver as the code sees it. In an aborted run its calls raise the run's signal (S-34)."""

    wait_op: int | None
    """The op of the wait that the code awaits."""

    async def perform(self, ask: OpRequest) -> Any:
        """Ask for the next op and await its outcome."""
        ...

    async def perform_step(
        self, ask: StepRequest, call: StepCall
    ) -> tuple[int, StepValue | StepError]:
        """Ask for a step; return its op and its outcome."""
        ...

    def read_clock(self) -> datetime:
        """Return the time and record it."""
        ...

    def patched(self, name: str) -> bool:
        """True if the code takes a patch's new way here; recorded at the end of the journal."""
        ...

    def ledger_call(
        self, call: str, named: str | None, arguments: Mapping[str, Any], step: StepRef
    ) -> Future[Any]:
        """Ask the ledger, unrecorded; `step` names the call. On any thread."""
        ...

    def continued(self, payload: Any) -> HelmrSignal:
        """End this run, and begin the next with that payload; raise what this returns."""
        ...

    def blocked(self, end: Unreadable) -> HelmrSignal:
        """Block the run; raise what this returns."""
        ...

    def check_aborted(self) -> None:
        """Raise the signal of an aborted run, before a call reads anything."""
        ...


class SessionSecrets(Protocol):
    """Makes tokens from the session's keys; see `helmr_runtime.security.task_secrets`."""

    @property
    def asked_keys(self) -> Mapping[str, bytes]:
        """Keys for hashes of steps' arguments, by their tags, the newest last."""
        ...

    def new_token(self, call: TokenCall) -> NewToken:
        """Return the token that the code asks for, with a fresh id."""
        ...

    def new_public_token(
        self, scope: Scope, allowed_origins: tuple[str, ...]
    ) -> tuple[str, str, str, tuple[str, ...]]:
        """Return id, key id, secret's hash and origins of a fresh public token."""
        ...

    def secret(self, kind: str, object_id: str, key_id: str) -> str:
        """Return the secret of an object of this session."""
        ...

    def callback_url(self, token_id: str, key_id: str, *, is_raw: bool) -> str:
        """Return the URL at which an outside system completes the token."""
        ...


class EmissionSink(Protocol):
    """Takes the chunks of a run; called on any thread."""

    def emit(self, stream: str, op: int | None, data: str) -> None:
        """Take JSON text that the code emits in that step or outside of steps; returns at once."""
        ...


@dataclass(frozen=True, slots=True)
class RunCode:
    """One attempt of a run, as its code is executed."""

    task: Task[..., Any]
    payload: Any
    session: SessionRef
    run: RunRef
    replay_log: ReplayLog
    hashes: AskedHashes = NOT_HASHED
    attachments: frozenset[str] = frozenset()
    """Ids of the session's files when it began."""

    @classmethod
    def of(
        cls,
        task: Task[..., Any],
        state: SessionState,
        histories: Mapping[int, Sequence[Any]],
        hashes: AskedHashes = NOT_HASHED,
    ) -> RunCode:
        """Return the current attempt of a state's newest run.

        Args:
            task: The code.
            state: The session; it is not changed.
            histories: Op → the records of each `history.read` in the journal.
        """
        run = state.run
        assert run is not None
        return cls(
            task,
            run.payload,
            SessionRef(state.id, state.external_id, tuple(state.tags), state.metadata),
            RunRef(run.id, run.attempt),
            make_replay_log(state, histories),
            hashes,
            frozenset(state.attachments),
        )


def _no_turn() -> None:
    """No span is above those of the run's steps."""


class Resumes:
    """CPU time of one host's resumes since it was last read; noted on the runs' threads."""

    KEPT_MAX = 1_000
    """Resumes remembered between two reads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._took_s: list[float] = []
        self._long: str | None = None

    def note(self, took_s: float, run: str, ops: int) -> None:
        """Note that a run's code has caught up through `ops` ops in `took_s` CPU seconds."""
        told = f"the resume of {run} took {took_s:.1f} s of CPU, for {ops:,} ops: {WAY_OUT}"
        is_long = took_s >= RESUME_LONG_S
        if is_long:
            log.warning("%s", told)
        with self._lock:
            self._long = told if is_long else self._long
            if len(self._took_s) < self.KEPT_MAX:
                self._took_s.append(took_s)

    def taken(self) -> tuple[tuple[float, ...], str | None]:
        """Return the CPU seconds of each, and a message about the newest long one; then forget them."""
        with self._lock:
            took_s, long = tuple(self._took_s), self._long
            self._took_s.clear()
            self._long = None
        return took_s, long


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The services that a run's code uses.

    Attributes:
        clock: Tells the code the time.
        silence_s: Seconds of silence after which a replay counts as different from the journal.
        secrets: Makes the secrets of the session's tokens; None: it makes no tokens.
        mark: Notes what the code does.
        emissions: Takes the chunks that the code emits.
        turn: Names the span above those of the run's steps; called on the run's own thread.
        context: Makes the context that the code begins with; called on the run's own thread.
        resumes: Notes the CPU time until the code has caught up with its journal.
        people: The known people: a wait that too few of them may answer is refused.
    """

    clock: Clock
    silence_s: float = SILENCE_S
    secrets: SessionSecrets | None = None
    mark: SlotMark = field(default_factory=SlotMark)
    emissions: EmissionSink | None = None
    turn: Callable[[], str | None] = _no_turn
    context: Callable[[], contextvars.Context] = contextvars.copy_context
    resumes: Resumes = field(default_factory=Resumes)
    people: PeopleConfig = NO_PEOPLE


class DurableContext(DurableRun):
    """The durable calls of one run's code."""

    def __init__(
        self,
        code: RunCode,
        around: Surroundings,
        *,
        cursor: JournalCursor,
        asking: OpRequests,
        made: MadeCalls,
        is_trying: Callable[[StepRef], bool],
        is_tried: bool,
    ) -> None:
        self.session = code.session
        self.run = code.run
        self.made = made
        self._task = code.task
        self._payload = code.payload
        self._cursor = cursor
        self._asking = asking
        self._secrets = around.secrets
        self._emissions = around.emissions
        self._people = around.people
        self._turn = around.turn
        self._attachments = set(code.attachments)
        self._is_trying = is_trying
        self._is_tried = is_tried

    async def execute(self) -> Any:
        """Call the task's function; return its result as JSON."""
        try:
            payload = self._task.payload_codec.decode(self._payload)
        except SchemaMismatch as error:
            raise self.unreadable(0, error.message, error) from error
        arguments = (payload, TaskContext(self, self._task.id))
        result = await self._task.function(*arguments[: 2 if self._task.takes_context else 1])
        encoded = self._task.result_codec.encode(result)
        _check_size(encoded, "the result")
        return encoded

    @property
    def replaying(self) -> bool:
        """True while recorded outcomes are being delivered again."""
        return self._cursor.is_replaying

    @property
    def has_been_here(self) -> bool:
        """The run has passed this place before."""
        return self._cursor.has_been_here

    @property
    def is_muted(self) -> bool:
        """True while logs are dropped: the code has logged them before, or runs as a trial."""
        return self._is_tried or self.replaying

    def look_at_run(self) -> RunRef:
        """Return the run; from now on requests may differ from those of earlier attempts."""
        self._cursor.knows_attempt = self.run.attempt > 1
        return self.run

    def now(self) -> datetime:
        """Return the time and record it."""
        return self._asking.read_clock()

    def patched(self, name: str) -> bool:
        """True if the code takes a patch's new way here."""
        return self._asking.patched(name)

    def uuid(self) -> uuid.UUID:
        """Return a UUID drawn from the place in the run."""
        return uuid.UUID(bytes=self._draw()[:16], version=4)

    def random(self) -> Random:
        """Return a generator seeded by the place in the run."""
        return Random(self._draw())

    def _draw(self) -> bytes:
        self._asking.check_aborted()
        return self._cursor.draw()

    async def wait(self, call: WaitCall) -> WaitOutcome:
        """Open a wait and await its outcome."""
        self._asking.check_aborted()
        if self._asking.wait_op is not None:
            raise ConcurrentWaitError(
                f"{self.run.id} already waits (op {self._asking.wait_op}); a run has one active wait"
            )
        if call.stream is not None:
            self._check_declared(call.stream, "input")
        if call.until is not None and call.until > self._cursor.known_at + TIMEOUT_MAX:
            raise BadDuration(
                f"{call.until.isoformat()} is more than ten years away",
                hint="A timer lasts at most ten years; begin the next one when it has ended.",
            )
        if call.kind == "input" and call.details.schema is not None:
            _check_own_schema(call.details)
        ask = WaitRequest(
            wait_kind=call.kind,
            wait_id=new_id(WAIT),
            stream=call.stream,
            correlation_id=call.correlation_id or None,
            token_id=call.token_id,
            session_ids=call.session_ids,
            timeout_s=call.timeout_s,
            until=call.until,
            details=call.details,
            trace_id=tracing.trace_id_of(self._turn()) if tracing.is_on else None,
        )
        if call.correlation_id == "" and not self._cursor.holds_next(ask):
            raise UsageError(
                f"a wait on {call.stream} with an empty correlation id would take any record",
                hint="Find out why the id is empty; if the wait may take any record, pass none.",
            )
        if not self._cursor.holds_next(ask):  # a wait opened before keeps its rule
            self._people.check_rule(call.details)
            self._check_attached(call.details)
        outcome: WaitOutcome = await self._asking.perform(ask)
        return outcome

    async def step(self, call: StepCall) -> Any:
        """Run a step once, or return its recorded value."""
        ask = StepRequest(
            step=call.name,
            retries=call.retries,
            backoff_s=call.backoff_s,
            timeout_s=call.timeout_s,
            formerly=call.formerly,
            dry_run_safe=call.dry_run_safe,
            arguments=arguments_text(*call.arguments) if call.arguments is not None else None,
            limit=call.limit,
        )
        op, outcome = await self._asking.perform_step(ask, call)
        if isinstance(outcome, StepError):
            raise _step_failure(call.name, op, outcome)
        if not self.is_muted and self._cursor.holds_given(outcome.value):
            log.warning(
                "%s: step %s (op %s) returned a token's URL or secret, which the transcript shows from now on: return "
                "something else, the task has it from tokens.create()",
                *(self.run.id, call.name, op),
            )
        if call.name == STORE_STEP:
            self._attachments.add(outcome.value["id"])
        try:
            return call.decode(outcome.value)
        except SchemaMismatch as error:
            message = f"the recorded value of step {call.name} no longer fits: {error.message}"
            raise self.unreadable(op, message, error) from error

    async def append(self, stream: str, data: Any, *, compare: bool = True) -> int:
        """Append to an output stream; return the record's seq."""
        self._check_declared(stream, "output")
        _check_size(data, f"the record for stream {stream}", RECORD_BYTES_MAX)
        seq: int = await self._asking.perform(OutputRequest(stream, new_id(RECORD), data, compare))
        return seq

    def emit(self, stream: str, data: Any) -> None:
        """Emit a chunk, unless the code has been here before or the step's try is over (S-90)."""
        text = jsontext.encode(data)
        if (size := len(text.encode("utf-8"))) > CHUNK_BYTES_MAX:
            raise TooLarge(
                f"the chunk for stream {stream} has {size} bytes of JSON, the limit is {CHUNK_BYTES_MAX}",
                hint="Emit it in pieces.",
            )
        step = current_step.get()
        if step is None:
            self._asking.check_aborted()
        is_past = self._cursor.has_been_here if step is None else not self._is_trying(step)
        if self._emissions is not None and not is_past:
            self._emissions.emit(stream, step.op if step is not None else None, text)

    async def create_token(self, call: TokenCall) -> TokenMade:
        """Make a token. A replay gets the same one with the same secrets; a fork gets none of its origin's secrets."""
        self._asking.check_aborted()
        secrets = self._require_secrets()
        made: MadeToken = await self._asking.perform(TokenOp(secrets.new_token(call)))
        if made.is_copied:
            url = f"{ORIGINS_URL}/{made.id}"
        else:
            url = secrets.callback_url(made.id, made.key_id, is_raw=made.is_raw)
        self._cursor.name(url)
        return TokenMade(
            id=made.id,
            expires_at=made.expires_at,
            callback_url=url,
            public_access_token=self._public_secret(made, secrets),
        )

    def _public_secret(self, made: MadeToken, secrets: SessionSecrets) -> str:
        if made.is_copied:
            secret = f"{ORIGINS_SECRET}/{made.id}"
        else:
            secret = secrets.secret("pat", made.id, made.key_id)
        self._cursor.name(secret)
        return secret

    async def create_public_token(self, call: PublicTokenCall) -> PublicTokenMade:
        """Make a public token. A replay gets the same one with its secret; a fork does not get its origin's secret."""
        self._asking.check_aborted()
        secrets = self._require_secrets()
        scope = scope_of_request(call.scope, own_session=self.session.id)
        public_token_id, key_id, hashed, origins = secrets.new_public_token(
            scope, call.allowed_origins
        )
        ask = PublicTokenOp(
            public_token_id, key_id, hashed, scope, call.max_uses, call.expires_in_s, origins
        )
        if not self._cursor.holds_next(ask):
            check_correlation_id(call.scope)
        made: MadeToken = await self._asking.perform(ask)
        secret = self._public_secret(made, secrets)
        return PublicTokenMade(id=made.id, expires_at=made.expires_at, public_access_token=secret)

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        """Ask the ledger about tokens; recorded once, as a step is."""
        call = f"tokens.{method}"
        return await self._ledger_call(call, call, token_id, arguments)

    async def start_child(self, call: ChildCall) -> str:
        """Start a child session; recorded once, as a step is."""
        self._asking.check_aborted()
        _check_size(call.payload, "the payload")
        session_id: str = await self._ledger_call(
            f"{CHILD_STEP}{call.task}", "sessions.start", None, asdict(call)
        )
        return session_id

    async def store_piece(self, attachment_id: str, number: int, data: bytes) -> None:
        """Store a piece of a file beside the ledger; the step's value names the file."""
        await wrap_future(self._piece("put", attachment_id, number=number, data=data))

    async def load_piece(self, attachment_id: str, number: int) -> bytes:
        """Return a piece of a file."""
        found: bytes = await wrap_future(self._piece("get", attachment_id, number=number))
        return found

    def load_piece_now(self, attachment_id: str, number: int) -> bytes:
        """Return a piece of a file, in a thread that waits for it."""
        found: bytes = self._piece("get", attachment_id, number=number).result()
        return found

    def _piece(self, method: str, attachment_id: str, **arguments: Any) -> Future[Any]:
        step = current_step.get()
        assert step is not None
        return self._asking.ledger_call(f"attachments.{method}", attachment_id, arguments, step)

    async def _ledger_call(
        self, name: str, call: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        async def ask() -> Any:
            step = current_step.get()
            assert step is not None
            return await wrap_future(self._asking.ledger_call(call, token_id, arguments, step))

        return await self.step(
            StepCall(
                name=name,
                call=ask,
                is_async=True,
                encode=lambda value: value,
                decode=lambda value: value,
                retries=LEDGER_CALL_RETRIES,
                backoff_s=1.0,
                retry_on=(Unavailable,),
                timeout_s=None,
                loop="run",
                arguments=((token_id, dict(arguments)), {}),
            )
        )

    def _check_declared(self, stream: str, direction: str) -> None:
        """Refuse an undeclared stream, unless the journal has used it (S-20)."""
        if not self._cursor.has_been_here and not self._task.has_stream(stream):
            raise BadDefinition(
                f"{stream} is not a stream of task {self._task.id}: no one can send to it or follow it",
                hint=f"Declare streams.{direction}({stream!r}) in the task's module, outside of functions, "
                f"or name the stream in @task(streams=[…]).",
            )

    def _check_attached(self, details: WaitDetails) -> None:
        """Refuse files that the session has not stored: no one could look at them."""
        for one in (details.evidence or {}).get("attachments", ()):
            if one["id"] not in self._attachments:
                raise UsageError(
                    f"{self.session.id} has no file {ascii(one['id'])[:80]}",
                    hint="Store it in this session: ref = await attachments.store(…).",
                )

    def _require_secrets(self) -> SessionSecrets:
        if self._secrets is None:
            raise NotReady("this runtime makes no tokens: it has no master key")
        return self._secrets

    async def peek(self, stream: str) -> list[Record]:
        """The unconsumed records of an input stream."""
        records: list[Record] = await self._asking.perform(PeekRequest(stream))
        return records

    async def history(
        self, stream: str, *, direction: str, from_seq: int = 1, last: int | None = None
    ) -> list[Record]:
        """The records of a stream from a seq on, or the last of them."""
        ask = HistoryRequest(stream, direction, from_seq, last)
        found: list[Record] | RecordsLost = await self._asking.perform(ask)
        if isinstance(found, RecordsLost):
            raise self._asking.blocked(Unreadable(found.op, found.message))
        return found

    async def continue_as(self, payload: Any) -> None:
        """End this run and begin the next; does not return."""
        self._asking.check_aborted()
        codec = self._task.payload_codec
        encoded = codec.encode(codec.decode(payload) if _is_json(payload) else payload)
        _check_size(encoded, "the payload")
        raise self._asking.continued(encoded)

    def unreadable(self, op: int, message: str, refused: SchemaMismatch) -> BaseException:
        """Block the run: recorded data no longer fits."""
        path = refused.errors[0]["path"] if refused.errors else ""
        return self._asking.blocked(Unreadable(op or None, message, path))


def _check_own_schema(details: WaitDetails) -> None:
    """Check that the wait's schema can be used and that its automatic answers fit it (S-71, S-82).

    Raises:
        BadSchema, SchemaMismatch: In the code, before the wait opens.
    """
    schema = data_schema(details.schema)
    if details.on_decline is not UNSET:
        schema.check(details.on_decline)
    for escalation_step in details.escalation:
        if "value" in escalation_step:
            schema.check(escalation_step["value"])


_REFUSALS: Mapping[Any, type[SchemaMismatch | TooLarge]] = {
    one.code: one for one in (SchemaMismatch, TooLarge)
}
"""Errors of a step's value, by the recorded code."""


def _step_failure(name: str, op: int, failure: StepError) -> Exception:
    error = failure.error
    refusal = _REFUSALS.get(error.get("code"))
    if refusal is not None:
        refused = refusal(f"step {name} (op {op}): {error['message']}")
        refused.op = op
        return refused
    said = f"{error['type']}: {error['message']}" if error["message"] else error["type"]
    failed = StepFailed(
        f"step {name} (op {op}) failed: {said}",
        step=name,
        type=error["type"],
        text=error["message"],
    )
    failed.op = op
    return failed


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)


def _check_size(value: Any, what: str, limit: int = VALUE_BYTES_MAX) -> None:
    size = len(jsontext.encode(value).encode("utf-8"))
    if size > limit:
        raise TooLarge(
            f"{what} has {size} bytes of JSON, the limit is {limit}",
            hint="Store it elsewhere and keep a reference.",
        )
