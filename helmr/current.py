"""The run that the calling code belongs to: the protocol that the SDK calls, and durable calls not awaited yet.

The SDK knows the protocol `DurableRun` only; the runtime's replay driver implements it. A durable call outside a run,
or inside a step, has no run to ask and raises `NotInTask`.

A durable call is a value: created where it is written, performed where it is awaited. In a run it is a `DurableCall`,
and `MadeCalls` remembers its place until the `await` (S-125); elsewhere it is an ordinary coroutine. A call dropped
without an `await` fails the run at its next durable op, before that op takes effect. A call that the code still holds
fails the run at its end. A call that the code tested for truth counts as dropped unless it is the next one awaited:
`if approval.wait():` is true no matter what the person answers.
"""

from __future__ import annotations

import functools
import json
import linecache
import os
import sys
import sysconfig
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from opcode import opmap
from random import Random  # noqa: TID251 - seeded by the place in the run
from types import FrameType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
)

from helmr.errors import NotAwaited, NotInTask, SchemaMismatch
from helmr.wait_details import NOTHING_SAID, WaitDetails

_POP_TOP = opmap["POP_TOP"]


@dataclass(slots=True)
class Made:
    """A durable call that the code has made.

    Attributes:
        what: As the code would write it: `approval.wait()`.
        module: Module of the code that made it.
        file: Its file.
        line: Its line.
        function: Its function.
        handled: The `id` of the exception that was being handled there.
        is_statement: The code dropped it at once, as a statement of its own.
        is_tested: The code tested it for truth.
    """

    what: str
    module: str
    file: str
    line: int
    function: str
    handled: int | None
    is_statement: bool = False
    is_tested: bool = False

    def __str__(self) -> str:
        return f"{self.what} at {_file_of(self.file, self.module)}:{self.line}"

    def error(self) -> NotAwaited:
        """Return the error that shows the developer the forgotten `await`."""
        what = "tested for truth and not" if self.is_tested else "made and never"
        message = f"{self} was {what} awaited"
        return NotAwaited(message, file=self.file, line=self.line)

    @property
    def traceback(self) -> str:
        """Its line in a traceback."""
        source = linecache.getline(self.file, self.line).strip()
        shown = f"    {source}\n" if source else ""
        return f'  File "{self.file}", line {self.line}, in {self.function}\n{shown}'


class MadeCalls:
    """The durable calls of one run that were made and not awaited yet. Other threads call `lose` alone."""

    def __init__(self) -> None:
        self._count = 0
        self._made: dict[int, Made] = {}
        self._lost: list[Made] = []
        self._tested: list[int] = []

    def add(self, what: str) -> int:
        """Record that the code made a call, and return its number."""
        self._count += 1
        frame = _caller()
        code, handled = frame.f_code, sys.exc_info()[1]
        self._made[self._count] = Made(
            what,
            frame.f_globals.get("__name__") or "",
            code.co_filename,
            frame.f_lineno,
            code.co_qualname,
            id(handled) if handled is not None else None,
        )
        return self._count

    def made(self, number: int) -> Made | None:
        """The call, unless it was awaited or dropped."""
        return self._made.get(number)

    def what(self, number: int) -> str:
        """The call as the code would write it, with its place."""
        return str(self._made[number])

    def begin(self, number: int) -> None:
        """Record that the call is awaited, or was ended on purpose."""
        self._made.pop(number, None)
        if self._tested:
            self._tested = [one for one in self._tested if one != number]

    def lose(self, number: int, dropped_by: FrameType) -> None:
        """Record that code in that frame dropped the call without an `await`."""
        made = self._made.pop(number, None)
        if made is not None:
            made.is_statement = _is_statement(dropped_by)
            self._lost.append(made)

    def test(self, number: int) -> None:
        """Record that the code tests the call for truth."""
        if number in self._made:
            self._made[number].is_tested = True
            self._tested.append(number)

    def forgotten(self) -> Made | None:
        """Return the first forgotten call, which must fail the run at its next op.

        A call that an exception may have kept from being awaited does not count while that exception is handled.
        """
        if not self._lost and not self._tested:
            return None
        handled = sys.exc_info()[1]
        tested = [self._made[number] for number in self._tested if number in self._made]
        for one in (*self._lost, *tested):
            if handled is None or one.is_statement or one.handled == id(handled):
                return one
        return None

    def unawaited(self) -> Made | None:
        """Return the first call that was never awaited, which must fail the run at its end."""
        return next(iter((*self._lost, *self._made.values())), None)


def _caller() -> FrameType:
    """The innermost frame that is not Helmr's own."""
    frame: FrameType = sys._getframe(2)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__") or ""):
        frame = frame.f_back
    return frame


def code_place(root: object = None) -> str:
    """Return the place in the task's code that called Helmr on this stack: `tasks.py:24`.

    For an agent it is the call into the framework, not the framework's own call, unless the code itself is an
    installed package.

    Args:
        root: The code's outermost coroutine. If a framework calls from an asyncio task of its own, the place is
            the line that awaits this coroutine.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if not _is_ours(module) and not module.startswith("helmr_runtime."):
            frames.append(frame)
        elif frames and module.startswith("helmr_runtime."):
            break  # behind it are those that execute the run
        frame = frame.f_back
    own = [one for one in (*frames, *_awaiting(root)) if _is_own(one)]
    frame = next(iter((*own, *frames)), sys._getframe(1))
    file = _file_of(frame.f_code.co_filename, frame.f_globals.get("__name__") or "")
    return f"{file}:{frame.f_lineno}"


def _awaiting(coroutine: Any) -> list[FrameType]:
    """The frames of a coroutine that awaits, the innermost first."""
    found: list[FrameType] = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        found.insert(0, frame)
        coroutine = coroutine.cr_await
    return found


def _is_own(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__") or ""
    is_ours = _is_ours(module) or module.startswith("helmr_runtime.")
    return not is_ours and not frame.f_code.co_filename.startswith(_INSTALLED)


_INSTALLED = (
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")},
    "<",
)
"""Folders of files that task authors do not write."""


def _is_ours(module: str) -> bool:
    return module.startswith("helmr.") and not module.startswith("helmr.examples.")


def _is_statement(frame: FrameType) -> bool:
    """True while the frame discards the value of a statement. Reads bytecode of CPython 3.11 to 3.14."""
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and code[frame.f_lasti] == _POP_TOP


def _file_of(path: str, module: str) -> str:
    """`shop/tasks.py` of the module `shop.tasks`: the same text wherever the code is installed."""
    parts = path.replace(os.sep, "/").split("/")
    depth = module.count(".") + 1 + (parts[-1] == "__init__.py")
    return "/".join(parts[-depth:])


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The session a run belongs to."""

    id: str
    external_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run."""

    id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StepRef:
    """The step whose body is executing; `key` is stable over tries, attempts and processes."""

    name: str
    key: str
    tries: int
    op: int


@dataclass(frozen=True, slots=True, weakref_slot=True)
class JsonText:
    """A recorded value as its JSON: each reader decodes a value of its own, or none."""

    text: str

    def decoded(self) -> Any:
        """The value."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Record:
    """One item that people sent on an input stream; `data` is JSON as it was sent.

    Of a history `data` may be a `JsonText`, which `Stream.history` decodes.
    """

    id: str
    stream: str
    seq: int
    data: Any
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCall:
    """A wait that the code asks for: on a stream, a token, sessions or a time (timeout_s or until, kind timer)."""

    kind: str
    stream: str | None = None
    correlation_id: str | None = None
    token_id: str | None = None
    session_ids: tuple[str, ...] = ()
    timeout_s: float | None = None
    until: datetime | None = None
    details: WaitDetails = NOTHING_SAID


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCall:
    """A child session that the code starts; JSON types only. `leaves`: it goes on when the run is cancelled."""

    task: str
    payload: Any
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    leaves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCall:
    """A token that the code makes; JSON types only."""

    timeout_s: float
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    schema: Any = None
    is_raw: bool = False
    verify: Mapping[str, Any] | None = field(default=None, repr=False)
    subject: str | None = None
    body: str | None = None
    initial: Any = None
    allowed_origins: tuple[str, ...] = ()
    escalation: tuple[Mapping[str, Any], ...] = ()
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMade:
    """A token with its secrets, which no repr shows."""

    id: str
    expires_at: datetime
    callback_url: str = field(repr=False)
    public_access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTokenCall:
    """A public token that the code makes. `scope` as on the wire; without a session it is the run's own."""

    scope: Mapping[str, Any]
    max_uses: int | None
    expires_in_s: float
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTokenMade:
    """A public token with its secret, which no repr shows."""

    id: str
    expires_at: datetime
    public_access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOutcome:
    """The end of a wait. `status`: fulfilled, timed_out or cancelled; `reason` explains a cancellation."""

    op: int
    wait_id: str
    status: str
    record: Record | None = None
    data: Any = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of a step. `encode` and `decode` translate its value to JSON types and back."""

    name: str
    call: Callable[[], Any]
    is_async: bool
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    retries: int
    backoff_s: float
    retry_on: tuple[type[Exception], ...] | Callable[[Exception], bool]
    timeout_s: float | None
    formerly: tuple[str, ...] = ()
    """Names that the step had: a journal that holds one of them fits."""
    dry_run_safe: bool = False
    """Its body may be executed for a dry run."""
    loop: Literal["steps", "run"] = "steps"
    """The loop of an async body: the one that all steps share, or that of its run."""
    arguments: tuple[Sequence[Any], Mapping[str, Any]] | None = None
    """Text that a replay compares; None compares nothing."""
    limit: str | None = None
    """The limit under which each try begins."""

    def retries_on(self, raised: Exception) -> bool:
        """Return True when this failure is worth another try."""
        on = self.retry_on
        return isinstance(raised, on) if isinstance(on, tuple) else on(raised)


class DurableRun(Protocol):
    """A run as its own code sees it."""

    session: SessionRef
    run: RunRef
    made: MadeCalls
    """Calls that its code made and has not awaited yet."""

    @property
    def replaying(self) -> bool:
        """True while recorded outcomes are being delivered again."""
        ...

    @property
    def has_been_here(self) -> bool:
        """True when the run's code has passed this place before, so its side effects here are repeats."""
        ...

    @property
    def is_muted(self) -> bool:
        """True when log lines are dropped: they were logged before, or this is a dry run."""
        ...

    def look_at_run(self) -> RunRef:
        """Return the run; from now on ops may differ from those that earlier attempts recorded."""
        ...

    def now(self) -> datetime:
        """The time, recorded."""
        ...

    def patched(self, name: str) -> bool:
        """Return True when the code takes the patch's new path at this place."""
        ...

    def uuid(self) -> uuid.UUID:
        """A UUID that is the same at each replay."""
        ...

    def random(self) -> Random:
        """A random generator that is the same at each replay."""
        ...

    async def wait(self, call: WaitCall) -> WaitOutcome:
        """Open a wait and await its outcome."""
        ...

    async def step(self, call: StepCall) -> Any:
        """Run a step once, or return its recorded value."""
        ...

    async def append(self, stream: str, data: Any, *, compare: bool = True) -> int:
        """Append to an output stream; the record's seq. `compare`: a replay compares the data."""
        ...

    def emit(self, stream: str, data: Any) -> None:
        """Send a chunk to the followers of an output stream, unrecorded; also inside steps."""
        ...

    async def create_token(self, call: TokenCall) -> TokenMade:
        """Make a token; a replay gets the same one with the same secrets."""
        ...

    async def create_public_token(self, call: PublicTokenCall) -> PublicTokenMade:
        """Make a public token; a replay gets the same one with the same secret."""
        ...

    async def start_child(self, call: ChildCall) -> str:
        """Start a child session, recorded once; its id."""
        ...

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        """Ask the runtime about tokens (get, list, complete, cancel); recorded once, as a step is."""
        ...

    async def store_piece(self, attachment_id: str, number: int, data: bytes) -> None:
        """Store a piece of a file of the session, in a step."""
        ...

    async def load_piece(self, attachment_id: str, number: int) -> bytes:
        """Return a piece of a file of the session, in a step."""
        ...

    def load_piece_now(self, attachment_id: str, number: int) -> bytes:
        """The same in a thread, which waits for it."""
        ...

    async def peek(self, stream: str) -> list[Record]:
        """The unconsumed records of an input stream."""
        ...

    async def history(
        self, stream: str, *, direction: str, from_seq: int = 1, last: int | None = None
    ) -> list[Record]:
        """The records of a stream from a seq on, or the last of them."""
        ...

    async def continue_as(self, payload: Any) -> None:
        """End this run and begin the next; does not return."""
        ...

    def unreadable(self, op: int, message: str, refused: SchemaMismatch) -> BaseException:
        """Block the run because the code's types reject recorded data; raise the error that this returns."""
        ...


current_run: ContextVar[DurableRun | None] = ContextVar("helmr_current_run", default=None)
current_step: ContextVar[StepRef | None] = ContextVar("helmr_current_step", default=None)
"""The step whose body is executing, if any."""


def in_run() -> bool:
    """True where steps and waits are recorded: in a run's code, but not in the body of a step."""
    return current_run.get() is not None and current_step.get() is None


def require_run(
    what: str, *, in_step: str = "Durable calls belong in the task; a step only touches the world."
) -> DurableRun:
    """The run that the calling code belongs to; `in_step` says what to do instead inside a step.

    Raises:
        NotInTask: There is none, or a step's body is executing.
    """
    step = current_step.get()
    if step is not None:
        raise NotInTask(
            f"{what} was called inside step {step.name}",
            hint=in_step,
        )
    run = current_run.get()
    if run is None:
        raise NotInTask(
            f"{what} was called outside a run",
            hint="Call it from a @task that a runtime or helmr.testing executes.",
        )
    return run


P = ParamSpec("P")
T = TypeVar("T")


class DurableCall(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that its run tracks until it is awaited.

    Args:
        what: As the code would write it.
        calls: Of the run; None outside of one.
        coroutine: The coroutine that an `await` runs; None if `_make` creates it then.
    """

    __slots__ = ("__weakref__", "_calls", "_coroutine", "_number")

    def __init__(
        self,
        what: str,
        calls: MadeCalls | None,
        coroutine: Coroutine[Any, Any, T] | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._calls = calls
        self._number = calls.add(what) if calls is not None else 0

    def _make(self) -> Coroutine[Any, Any, T]:
        raise NotImplementedError

    def _begin(self) -> Coroutine[Any, Any, T]:
        self._release()
        if self._coroutine is None:
            self._coroutine = self._make()
        return self._coroutine

    def _release(self) -> None:
        """Mark it as awaited, or as handled elsewhere."""
        if self._calls is not None:
            self._calls.begin(self._number)
            self._calls = None

    def forgotten(self, taker: str) -> NotAwaited:
        """The error of a call that was given to a step, which can't await it."""
        what = self._calls.what(self._number) if self._calls is not None else "a durable call"
        self.close()
        return NotAwaited(f"{taker} was given {what} itself, not its value")

    def __await__(self) -> Generator[Any, None, T]:
        """Same as for a coroutine."""
        return self._begin().__await__()

    def send(self, value: Any, /) -> Any:
        """Same as for a coroutine."""
        return self._begin().send(value)

    def throw(self, *error: Any) -> Any:
        """Same as for a coroutine."""
        return self._begin().throw(*error)

    def close(self) -> None:
        """Same as for a coroutine."""
        self._release()
        if self._coroutine is not None:
            self._coroutine.close()

    def __bool__(self) -> bool:
        """Always True, like any coroutine; its value does not matter."""
        if self._calls is not None:
            self._calls.test(self._number)
        return True

    def __eq__(self, other: object) -> bool:
        """Itself only."""
        return self is other

    def __hash__(self) -> int:
        """Same at each replay, which also fixes the order of a set of calls."""
        return self._number or object.__hash__(self)

    if not TYPE_CHECKING:  # a checker knows that a coroutine has none of this

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}{self._hint_at(f'.{name}')}",
                name=name,
                obj=self,
            )

        def __aiter__(self) -> NoReturn:
            raise self._misused("an async iterator", self._loop)

        def __iter__(self) -> NoReturn:
            raise self._misused("a collection", "for … in await {what}:")

    _loop: ClassVar[str] = "for … in await {what}:"
    """Suggestion for code that wrote `async for … in` before such a call."""

    def _hint_at(self, used: str) -> str:
        if self._calls is None:
            return ""
        what = self._calls.what(self._number)
        return f": {what} was not awaited, write `(await …){used}`"

    def _misused(self, taken_for: str, instead: str) -> NotAwaited:
        made = self._calls.made(self._number) if self._calls is not None else None
        said = instead.format(what=made.what if made is not None else "…")
        return NotAwaited(
            f"{made or 'a durable call'} was taken for {taken_for} and not awaited: write `{said}`"
        )

    def __del__(self) -> None:
        if self._calls is not None:
            if self._coroutine is not None:
                self._coroutine.close()  # Python does not warn of it too
            self._calls.lose(self._number, sys._getframe(1))


def _refuse_operator(name: str) -> Callable[..., NoReturn]:
    def operate(self: DurableCall[Any], *operands: object) -> NoReturn:
        raise self._misused("its value", "(await {what})")

    operate.__name__ = operate.__qualname__ = name
    return operate


for _name in (
    *(f"__{side}{one}__" for side in ("", "r") for one in ("add", "sub", "mul", "truediv", "mod")),
    *(f"__{one}__" for one in ("lt", "le", "gt", "ge", "getitem", "contains", "len", "call")),
):
    setattr(DurableCall, _name, _refuse_operator(_name))


def made_calls() -> MadeCalls | None:
    """Return the calls of the current run; None outside of a run and inside a step."""
    run = current_run.get()
    return None if run is None or current_step.get() is not None else run.made


def durable_call(
    what: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Make an async function's calls durable calls.

    Args:
        what: The call as the code would write it. A leading dot puts the id of the first argument before it.
    """

    def declare(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            coroutine = function(*args, **kwargs)
            calls = made_calls()
            if calls is None:
                return coroutine
            owner: Any = args[0] if what.startswith(".") else None
            said = what if owner is None else f"{owner.id}{what}"
            return DurableCall(said, calls, coroutine)

        return call

    return declare
