"""One run's coroutine tree on its own loop and thread, and its conversation with the session actor.

The actor's loop calls `start`, `deliver`, `run_step` and `sever`; the tree's asks come back through `Host` as
calls on the actor's loop, in order. Nothing the tree does can delay that loop (S-34).
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random  # noqa: TID251 - seeded by the place in the run
from typing import Any, Protocol

from helmr.context import TaskContext
from helmr.current import (
    DurableRun,
    PublicTokenCall,
    PublicTokenMade,
    Record,
    RunRef,
    SessionRef,
    StepCall,
    TokenCall,
    TokenMade,
    WaitCall,
    WaitOutcome,
    current_run,
    current_step,
)
from helmr.durations import TEN_YEARS_S
from helmr.errors import (
    BadDuration,
    ConcurrentWaitError,
    HelmrSignal,
    NondeterminismError,
    NotReady,
    RunContinued,
    RunParked,
    RunTooLong,
    SchemaMismatch,
    StepFailed,
    TooLarge,
    Unavailable,
)
from helmr.ids import RECORD, RUN, WAIT, new_id
from helmr.models import RECORD_BYTES_MAX, VALUE_BYTES_MAX
from helmr.tasks import Task
from runtime.clock import Clock
from runtime.core import jsontext
from runtime.core.asks import (
    Ask,
    AskClock,
    AskContinue,
    AskHistory,
    AskOutput,
    AskPeek,
    AskPublicToken,
    AskStep,
    AskToken,
    AskWait,
)
from runtime.core.public_tokens import Scope, scope_of_request
from runtime.core.tokens import NewToken
from runtime.replay.ends import (
    Mismatch,
    Raised,
    Returned,
    RunEnd,
    StepEnd,
    Unreadable,
    error_of,
    failed_op,
    text_of,
)
from runtime.replay.loop import make_loop
from runtime.replay.script import GivenUp, Line, Made, Outcome, Script, StepError, StepValue
from runtime.replay.steps import StepRunner

OPS_MAX = 20_000
"""S-8."""

TOKEN_CALL_RETRIES = 5
"""A task's question about tokens outlasts a restart of the ledger."""

TREE_END_S = 5.0
"""A severed tree has this long to end (S-34)."""

EXITS_MAX = 100
"""A tree whose tasks raise SystemExit or KeyboardInterrupt so often does not end."""

TIMEOUT_MAX = timedelta(seconds=TEN_YEARS_S)
"""S-16."""

SILENCE_S = 30.0
"""A replay in which the code has nothing to do, yet has not asked for the next op, differs from the journal."""

log = logging.getLogger("helmr.run")


class Host(Protocol):
    """What a driver tells the session actor, on the actor's loop and in the order it happened."""

    def asked(self, driver: RunDriver, op: int, ask: Ask) -> None:
        """The code asks for a new op."""
        ...

    def asked_again(self, driver: RunDriver, op: int, ask: Ask) -> None:
        """A replay reached an op that is open in the journal."""
        ...

    def gave_up(self, driver: RunDriver, op: int) -> None:
        """The code cancelled an op it awaited."""
        ...

    def step_ended(self, driver: RunDriver, op: int, end: StepEnd) -> None:
        """A try of a step ended."""
        ...

    def run_ended(self, driver: RunDriver, end: RunEnd) -> None:
        """The task returned, raised or can't be replayed."""
        ...

    def closed(self, driver: RunDriver, is_clean: bool) -> None:
        """The thread ends; not clean: parts of the tree did not end and still exist."""
        ...

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any], key: str
    ) -> Any:
        """Ask the ledger about tokens, for a run; `key` names the call, so that a repeated one acts once."""
        ...


class Secrets(Protocol):
    """Makes tokens of the session's keys; see `runtime.security.task_secrets`."""

    def new_token(self, call: TokenCall) -> NewToken:
        """The token that the code asks for, with a fresh id."""
        ...

    def new_public_token(
        self, scope: Scope, allowed_origins: tuple[str, ...]
    ) -> tuple[str, str, str, tuple[str, ...]]:
        """Id, key id, secret's hash and origins of a fresh public token."""
        ...

    def secret(self, kind: str, object_id: str, key_id: str) -> str:
        """The secret of an object of this session."""
        ...

    def callback_url(self, token_id: str, key_id: str, *, is_raw: bool) -> str:
        """Where an outside system completes the token."""
        ...


class RunDriver(DurableRun):
    """Runs one attempt of a run from its journal on."""

    def __init__(
        self,
        task: Task[Any, Any],
        payload: Any,
        *,
        session: SessionRef,
        run: RunRef,
        script: Script,
        host: Host,
        clock: Clock,
        silence_s: float = SILENCE_S,
        secrets: Secrets | None = None,
    ) -> None:
        self._secrets = secrets
        self.session = session
        self.run = run
        self._task = task
        self._payload = payload
        self._script = script
        self._host = host
        self._clock = clock
        self._lines: deque[Line] = deque(script.lines)
        self._script_left = len(script.lines)
        self._op = 0
        self._draws = 0
        self._asked: set[int] = set()
        self._given_up: set[int] = set()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._wait_op: int | None = None
        self._known_at = script.began_at or clock.now()
        """The latest time that the code can know of, the same in every replay."""
        self._severed: HelmrSignal | None = None
        self._end: RunEnd | None = None
        self._actor_loop = asyncio.get_running_loop()
        self._loop = make_loop(self._deliver_next, self._on_wake, self._on_silence, silence_s)
        self._is_quiet = False
        self._given = self._taken = 0
        """What the actor gave to the run's loop, and what that loop has taken up."""
        self._told = self._heard = 0
        """What the run told the actor's loop, and what that loop has heard."""
        self._unfinished: set[asyncio.Task[Any]] = set()
        """What did not end: kept, so that no finalizer of it runs before the process ends."""
        self._cut: asyncio.Future[None] = self._loop.create_future()
        self._steps = StepRunner(self._loop, self._step_ended)
        self._thread = threading.Thread(
            target=self._main_thread, name=f"helmr-{run.id}", daemon=True
        )

    # --- called by the actor ------------------------------------------------------------------

    def start(self) -> None:
        """Begin executing."""
        self._thread.start()

    def deliver(self, outcome: Outcome) -> None:
        """Give the code an outcome when those before it are delivered and its loop has nothing ready."""
        self._lines.append(outcome)
        self._wake(lambda: None)

    def run_step(self, op: int, key: str, tries: int) -> None:
        """Execute the body of a step whose opening is on disk."""
        self._wake(lambda: self._start_step(op, key, tries))

    def sever(self, signal: HelmrSignal) -> None:
        """Cut the run off (S-34): its durable calls raise `signal` from now on, and the tree is cancelled."""
        self._severed = self._severed or signal
        self._is_quiet = False
        self._wake(self._cut_now)

    @property
    def has_threads(self) -> bool:
        """A sync step's thread is still executing."""
        return self._steps.has_threads

    @property
    def is_quiet(self) -> bool:
        """The tree waits for something from outside: no step executes and its loop has nothing ready."""
        is_taken = self._taken == self._given  # read first: taking ends the quiet
        is_still = self._is_quiet and not self._steps.is_busy
        return is_taken and is_still and self._heard == self._told

    def _wake(self, call: Callable[[], None]) -> None:
        self._given += 1
        try:
            self._loop.call_soon_threadsafe(self._take, call)
        except RuntimeError:  # the loop is closed: the tree has ended
            log.debug("%s: the tree has ended", self.run.id)

    def _take(self, call: Callable[[], None]) -> None:
        call()
        self._taken += 1

    # --- the thread ---------------------------------------------------------------------------

    def _main_thread(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._stray_exception)
        is_clean = False
        try:
            is_clean = self._run_tree()
        finally:
            self._loop.close()
            self._tell(self._host.closed, self, is_clean)

    def _run_tree(self) -> bool:
        """Run the tree to its end; True if nothing of it is left.

        asyncio lets SystemExit and KeyboardInterrupt of any task out of the loop, past everything that awaits it: the
        first ends the run, the tree then ends as any other.
        """
        main = self._loop.create_task(self._main())
        for _ in range(EXITS_MAX):
            try:
                return self._loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt) as error:
                self._finish(Raised(error_of(error), failed_op(error)))
                main.cancel()
                main = self._loop.create_task(self._end_tree())
        return False

    async def _main(self) -> bool:
        context = contextvars.copy_context()
        context.run(current_run.set, self)
        root = self._loop.create_task(self._body(), name=self._task.id, context=context)
        await asyncio.wait({root, self._cut}, return_when=asyncio.FIRST_COMPLETED)
        if root.done() and self._severed is None:
            self._finish(self._end_of(root))
        return await self._end_tree()

    async def _body(self) -> Any:
        try:
            payload = self._task.payload_codec.decode(self._payload)
        except SchemaMismatch as error:
            raise self.unreadable(0, error.message) from error
        arguments = (payload, TaskContext(self, self._task.id))
        result = await self._task.function(*arguments[: 2 if self._task.takes_context else 1])
        encoded = self._task.result_codec.encode(result)
        _check_size(encoded, "the result")
        return encoded

    def _end_of(self, root: asyncio.Task[Any]) -> RunEnd:
        if self._end is not None:
            return self._end
        if root.cancelled():
            error: BaseException | None = asyncio.CancelledError("the task cancelled itself")
        else:
            error = root.exception()
        op = self._first_unasked()
        if op is not None:
            met = "the end of the task" if error is None else text_of(error)
            return Mismatch(NondeterminismError(op=op, recorded=self._script.opened[op], met=met))
        if error is None:
            return Returned(root.result())
        return Raised(error_of(error), failed_op(error))

    def _first_unasked(self) -> int | None:
        """The first op of the journal that this replay has not asked for."""
        return min((op for op in self._script.opened if op not in self._asked), default=None)

    def _finish(self, end: RunEnd) -> None:
        if self._severed is None:
            self._severed = RunParked("the run has ended")
            self._tell(self._host.run_ended, self, end)

    async def _end_tree(self) -> bool:
        """Raise the signal at pending durable awaits, then cancel what is left until it ends."""
        signal = self._severed or RunParked("the run has ended")
        for future in self._pending.values():
            if not future.done():
                future.set_exception(signal)
        await asyncio.sleep(0)
        ending_at = self._loop.time() + TREE_END_S
        while True:
            rest = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
            if not rest:
                return True
            if self._loop.time() >= ending_at:
                self._unfinished = rest
                return False
            for task in rest:
                task.cancel("the run was severed")
            await asyncio.wait(rest, timeout=0.2)

    def _cut_now(self) -> None:
        if not self._cut.done():
            self._cut.set_result(None)

    def _stray_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, HelmrSignal) or self._severed is not None:
            return
        log.warning("%s: %s", self.run.id, context.get("message"), exc_info=error)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        self._told += 1
        try:
            self._actor_loop.call_soon_threadsafe(self._hear, call, *arguments)
        except RuntimeError:  # the actor's loop is closed: nobody is left to tell
            log.debug("%s: the actor has ended", self.run.id)

    def _hear(self, call: Callable[..., None], *arguments: Any) -> None:
        self._heard += 1
        call(*arguments)

    # --- delivering ---------------------------------------------------------------------------

    def _deliver_next(self) -> bool:
        """Deliver the next outcome, if the script allows one now. Called when the loop has nothing ready."""
        while self._lines and self._severed is None:
            line = self._lines[0]
            if not self._is_passed(line):
                break
            self._lines.popleft()
            self._script_left = max(0, self._script_left - 1)
            if isinstance(line, Outcome) and self._hand_over(line):
                return True
        self._is_quiet = True
        return False

    def _on_wake(self) -> None:
        self._is_quiet = False

    def _is_passed(self, line: Line) -> bool:
        if isinstance(line, GivenUp):
            return line.op in self._given_up
        return line.op in self._asked

    def _hand_over(self, outcome: Outcome) -> bool:
        self._steps.forget(outcome.op)
        if outcome.op in self._script.given_up:
            return False
        future = self._pending.pop(outcome.op, None)
        if self._wait_op == outcome.op:
            self._wait_op = None
        if future is None or future.done():
            return False
        self._known_at = outcome.recorded_at
        future.set_result(outcome.payload)
        return True

    def _on_silence(self) -> None:
        if self._severed is not None or not self._lines or self._steps.is_busy:
            return
        line = self._lines[0]
        if self._is_passed(line):
            return
        recorded = self._script.opened.get(line.op, "?")
        if isinstance(line, GivenUp):
            recorded = f"the end of {recorded}"
        met = "nothing: it awaits something that is not a durable call"
        self._fail(Mismatch(NondeterminismError(op=line.op, recorded=recorded, met=met)))

    def _fail(self, end: RunEnd) -> None:
        self._end = end
        self._finish(end)
        self._cut_now()

    # --- DurableRun: called by the code ---------------------------------------------------------

    @property
    def replaying(self) -> bool:
        """True while recorded outcomes are being delivered again."""
        return self._script_left > 0

    def now(self) -> datetime:
        """The time, recorded."""
        op = self._next_op()
        ask = AskClock(self._clock.now())
        if self._check_recorded(op, ask):
            self._known_at = self._script.clocks[op]
        else:
            self._known_at = ask.now
            self._tell(self._host.asked, self, op, ask)
        return self._known_at

    def uuid(self) -> uuid.UUID:
        """A UUID drawn from the place in the run."""
        return uuid.UUID(bytes=self._draw()[:16], version=4)

    def random(self) -> Random:
        """A generator seeded by the place in the run."""
        return Random(self._draw())

    def _draw(self) -> bytes:
        self._check_severed()
        self._draws += 1
        return hashlib.sha256(f"{self.run.id}|{self._op}|{self._draws}".encode()).digest()

    async def wait(self, call: WaitCall) -> WaitOutcome:
        """Open a wait and await its outcome."""
        self._check_severed()
        if self._wait_op is not None:
            raise ConcurrentWaitError(
                f"{self.run.id} already waits (op {self._wait_op}); a run has one active wait"
            )
        if call.until is not None and call.until > self._known_at + TIMEOUT_MAX:
            raise BadDuration(
                f"{call.until.isoformat()} is more than ten years away",
                hint="A timer lasts at most ten years; begin the next one when it has ended.",
            )
        ask = AskWait(
            wait_kind=call.kind,
            wait_id=new_id(WAIT),
            stream=call.stream,
            correlation_id=call.correlation_id,
            token_id=call.token_id,
            timeout_s=call.timeout_s,
            until=call.until,
            subject=call.subject,
            body=call.body,
            schema=call.schema,
        )
        outcome: WaitOutcome = await self._perform(ask)
        return outcome

    async def step(self, call: StepCall) -> Any:
        """Run a step once, or return its recorded value."""
        ask = AskStep(
            step=call.name,
            retries=call.retries,
            backoff_s=call.backoff_s,
            timeout_s=call.timeout_s,
        )
        payload = await self._perform(ask, before=lambda op: self._steps.expect(op, call))
        op = self._outcome_op(payload)
        if isinstance(payload[1], StepError):
            raise _step_failure(call.name, op, payload[1])
        try:
            return call.decode(payload[1].value)
        except SchemaMismatch as error:
            message = f"the recorded value of step {call.name} no longer fits: {error.message}"
            raise self.unreadable(op, message) from error

    async def append(self, stream: str, data: Any) -> int:
        """Append to an output stream; the record's seq."""
        _check_size(data, f"the record for stream {stream}", RECORD_BYTES_MAX)
        seq: int = await self._perform(AskOutput(stream, new_id(RECORD), data))
        return seq

    async def create_token(self, call: TokenCall) -> TokenMade:
        """Make a token; a replay gets the same one with the same secrets."""
        self._check_severed()
        secrets = self._require_secrets()
        made: Made = await self._perform(AskToken(secrets.new_token(call)))
        return TokenMade(
            id=made.id,
            expires_at=made.expires_at,
            callback_url=secrets.callback_url(made.id, made.key_id, is_raw=made.is_raw),
            public_access_token=secrets.secret("pat", made.id, made.key_id),
        )

    async def create_public_token(self, call: PublicTokenCall) -> PublicTokenMade:
        """Make a public token; a replay gets the same one with the same secret."""
        self._check_severed()
        secrets = self._require_secrets()
        scope = scope_of_request(call.scope, own_session=self.session.id)
        public_token_id, key_id, hashed, origins = secrets.new_public_token(
            scope, call.allowed_origins
        )
        ask = AskPublicToken(
            public_token_id, key_id, hashed, scope, call.max_uses, call.expires_in_s, origins
        )
        made: Made = await self._perform(ask)
        return PublicTokenMade(
            id=made.id,
            expires_at=made.expires_at,
            public_access_token=secrets.secret("pat", made.id, made.key_id),
        )

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        """Ask the ledger about tokens; recorded once, as a step is."""

        async def ask() -> Any:
            step = current_step.get()
            assert step is not None
            coroutine = self._host.token_call(method, token_id, arguments, step.key)
            return await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(coroutine, self._actor_loop)
            )

        return await self.step(
            StepCall(
                name=f"tokens.{method}",
                call=ask,
                is_async=True,
                encode=lambda value: value,
                decode=lambda value: value,
                retries=TOKEN_CALL_RETRIES,
                backoff_s=1.0,
                retry_on=(Unavailable,),
                timeout_s=None,
            )
        )

    def _require_secrets(self) -> Secrets:
        if self._secrets is None:
            raise NotReady("this runtime makes no tokens: it has no master key")
        return self._secrets

    async def peek(self, stream: str) -> list[Record]:
        """The unconsumed records of an input stream."""
        records: list[Record] = await self._perform(AskPeek(stream))
        return records

    async def history(self, stream: str) -> list[Record]:
        """All records of an input stream."""
        records: list[Record] = await self._perform(AskHistory(stream))
        return records

    async def continue_as(self, payload: Any) -> None:
        """End this run and begin the next; does not return."""
        self._check_severed()
        codec = self._task.payload_codec
        encoded = codec.encode(codec.decode(payload) if _is_json(payload) else payload)
        _check_size(encoded, "the payload")
        unasked = self._first_unasked()
        if unasked is not None:
            met = str(AskContinue(None, ""))
            error = NondeterminismError(op=unasked, recorded=self._script.opened[unasked], met=met)
            self._fail(Mismatch(error))
            self._severed = error
            raise error
        self._severed = RunContinued(f"{self.run.id} went on as the session's next run")
        self._tell(self._host.asked, self, 0, AskContinue(encoded, new_id(RUN)))
        self._cut_now()
        raise self._severed

    def unreadable(self, op: int, message: str) -> BaseException:
        """Block the run: recorded data no longer fits."""
        self._fail(Unreadable(op or None, message))
        return self._severed or RunParked(message)

    # --- asking -------------------------------------------------------------------------------

    async def _perform(self, ask: Ask, before: Callable[[int], None] | None = None) -> Any:
        op = self._next_op()
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_retrieve)
        self._pending[op] = future
        if isinstance(ask, AskWait):
            self._wait_op = op
        if before is not None:
            before(op)
        if not self._check_recorded(op, ask):
            self._tell(self._host.asked, self, op, ask)
        elif op in self._script.unfinished:
            self._tell(self._host.asked_again, self, op, ask)
        try:
            payload = await future
        except asyncio.CancelledError:
            if self._severed is not None:
                raise self._severed from None
            # Also if the outcome came with the cancellation: the code has not seen it, and sees it in no replay.
            self._give_up(op)
            raise
        return (op, payload) if isinstance(ask, AskStep) else payload

    @staticmethod
    def _outcome_op(payload: tuple[int, StepValue | StepError]) -> int:
        return payload[0]

    def _next_op(self) -> int:
        self._check_severed()
        if self._op >= OPS_MAX:
            error = RunTooLong(f"{self.run.id} asked for more than {OPS_MAX} ops")
            self._fail(Raised(error_of(error), None, may_retry=False))
            raise error
        self._op += 1
        self._draws = 0
        self._asked.add(self._op)
        return self._op

    def _check_severed(self) -> None:
        if self._severed is not None:
            # Code that swallows it in a loop would otherwise grow its traceback without end.
            raise self._severed.with_traceback(None)

    def _check_recorded(self, op: int, ask: Ask) -> bool:
        """True if the journal holds this op; severs the run if it holds another one (S-31)."""
        recorded = self._script.opened.get(op)
        if recorded is None:
            return False
        if recorded != str(ask):
            error = NondeterminismError(op=op, recorded=recorded, met=str(ask))
            self._fail(Mismatch(error))
            self._severed = error
            raise error
        return True

    def _give_up(self, op: int) -> None:
        self._given_up.add(op)
        self._pending.pop(op, None)
        self._steps.give_up(op)
        if self._wait_op == op:
            self._wait_op = None
        if op not in self._script.given_up:
            self._tell(self._host.gave_up, self, op)

    # --- steps --------------------------------------------------------------------------------

    def _start_step(self, op: int, key: str, tries: int) -> None:
        if self._severed is None and op not in self._given_up:
            self._steps.start(op, key, tries)

    def _step_ended(self, op: int, end: StepEnd) -> None:
        if self._severed is None:
            self._tell(self._host.step_ended, self, op, end)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark a signal as seen: whether the code looks at it is the code's affair."""
    if not future.cancelled():
        future.exception()


def _step_failure(name: str, op: int, failure: StepError) -> Exception:
    error = failure.error
    if error.get("code") in (SchemaMismatch.code, TooLarge.code):
        mismatch = SchemaMismatch(f"step {name} (op {op}): {error['message']}")
        mismatch.op = op
        return mismatch
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
        raise SchemaMismatch(
            f"{what} has {size} bytes of JSON, the limit is {limit}",
            hint="Store it elsewhere and keep a reference.",
        )
