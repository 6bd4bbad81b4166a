"""`@task`: the `async def` that a session runs."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import (
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    get_type_hints,
    overload,
)

from helmr.errors import BadDefinition, SchemaMismatch
from helmr.limits import Limit, LimitName, limit_name
from helmr.models import SCHEDULE_NAME, SCHEDULE_NAME_MAX, Missed, Overlap, TaskSchedule
from helmr.streams import Stream
from helmr.wire.durations import Duration, seconds
from helmr.wire.schema import Codec, is_json
from helmr.wire.timing import timing

P = ParamSpec("P")
R = TypeVar("R")

OnIdleInput = Literal["keep", "run", "reject"]
AfterRun = Literal["keep", "close"]
ON_IDLE_INPUT = ("keep", "run", "reject")
AFTER_RUN = ("keep", "close")
RETRIES_MAX = 1000
LIMIT_KEY_MAX = 200
"""Most characters of a key by which sessions take turns."""


class TaskOptions(TypedDict):
    """Options of a task; `task` documents them."""

    retries: int
    backoff: Duration
    streams: Sequence[Stream[Any]]
    on_idle_input: OnIdleInput
    after_run: AfterRun
    isolated: bool
    schedule: TaskSchedule | None
    mcp: bool
    limit: LimitName | None
    limit_key: Callable[[Any], object] | None


class Task(Generic[P, R]):
    """A task's declaration. Calling it runs the bare function, without durability, for unit tests."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        *,
        id: str | None,
        **options: Unpack[TaskOptions],
    ) -> None:
        retries, schedule = options["retries"], options["schedule"]
        on_idle_input, after_run = options["on_idle_input"], options["after_run"]
        where = f"{function.__module__}.{function.__qualname__}"
        if not inspect.iscoroutinefunction(function):
            raise BadDefinition(f"task {where} is not an `async def`")
        if on_idle_input not in ON_IDLE_INPUT:
            raise BadDefinition(f"task {where}: on_idle_input is one of {', '.join(ON_IDLE_INPUT)}")
        if after_run not in AFTER_RUN:
            raise BadDefinition(f"task {where}: after_run is one of {', '.join(AFTER_RUN)}")
        if not 0 <= retries <= RETRIES_MAX:
            raise BadDefinition(f"task {where}: retries is {retries}, not 0 to {RETRIES_MAX}")
        functools.update_wrapper(self, function)
        self.function = function
        self.id = id or function.__name__
        self.retries = retries
        self.backoff_s = seconds(options["backoff"], allow_zero=True)
        self.on_idle_input = on_idle_input
        self.after_run = after_run
        self.isolated = options["isolated"]
        self.schedule = schedule
        self.mcp = options["mcp"]
        self.limit = limit_name(limit := options["limit"], f"task {where}")
        self.declares = limit if isinstance(limit, Limit) else None
        self._limit_key = options["limit_key"]
        self.declared_streams = tuple(options["streams"])
        self._stream_names: frozenset[str] = frozenset()
        parameters = list(inspect.signature(function).parameters.values())
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if not 1 <= len(positional) <= 2 or len(positional) != len(parameters):
            raise BadDefinition(f"task {where} takes (payload) or (payload, ctx)")
        self._payload_name = positional[0].name
        self.takes_context = len(positional) == 2
        if schedule is not None and not (
            len(self.id) <= SCHEDULE_NAME_MAX and re.match(SCHEDULE_NAME, self.id)
        ):
            raise BadDefinition(
                f"task {where}: a schedule has the name of its task, and {self.id!r} can't be its name",
                hint=f"Give the task an id of letters, digits and `._-`, at most {SCHEDULE_NAME_MAX}.",
            )

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @functools.cached_property
    def payload_codec(self) -> Codec[Any]:
        """Codec of the payload's annotation."""
        annotation = self._hints.get(self._payload_name, Any)
        return Codec(annotation, what=f"payload of task {self.id}", declared=self.function)

    @functools.cached_property
    def result_codec(self) -> Codec[R]:
        """Codec of the return annotation."""
        annotation = self._hints.get("return", Any)
        return Codec(annotation, what=f"result of task {self.id}", declared=self.function)

    def encode_payload(self, payload: Any) -> Any:
        """Check the payload by its annotation and return it as JSON: plain JSON unchanged, other values encoded.

        Raises:
            SchemaMismatch: It does not fit; `errors` names the paths.
        """
        if not is_json(payload):
            return self.payload_codec.encode(payload)
        self.payload_codec.decode(payload)
        return payload

    def limit_key(self, payload: Any) -> str | None:
        """Return the key for which a session with this payload takes turns under limits; None without `limit_key`."""
        if self._limit_key is None:
            return None
        return str(self._limit_key(self.payload_codec.decode(payload)))[:LIMIT_KEY_MAX]

    def check_schedule(self) -> None:
        """Refuse a schedule whose sessions would get a payload that does not fit.

        Raises:
            BadDefinition: The payload does not fit.
        """
        if self.schedule is None:
            return
        try:
            self.payload_codec.decode(self.schedule.payload)
        except SchemaMismatch as error:
            raise BadDefinition(
                f"the schedule of task {self.id} starts sessions with a payload that does not fit: {error}",
                hint="Give `scheduled_payload=`, or let the task take None.",
            ) from error

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the bare function."""
        return self.function(*args, **kwargs)

    def _in_reach(self) -> Iterator[Stream[Any]]:
        seen = (*self.function.__globals__.values(), *_closed_over(self.function))
        return (one for one in (*seen, *self.declared_streams) if isinstance(one, Stream))

    def has_stream(self, name: str) -> bool:
        """Return True when one of its streams has that name."""
        if name not in self._stream_names:
            self._stream_names = frozenset(stream.id for stream in self._in_reach())
        return name in self._stream_names

    def streams(self) -> dict[str, Stream[Any]]:
        """The task's streams: its module's globals, what its function closes over, and the declared ones (S-20).

        Raises:
            BadDefinition: One name has two schemas or directions; the message names both places.
        """
        found: dict[str, Stream[Any]] = {}
        for stream in self._in_reach():
            known = found.setdefault(stream.id, stream)
            if known is not stream and (
                known.codec.type != stream.codec.type or known.direction != stream.direction
            ):
                raise BadDefinition(
                    f"stream {stream.id} of task {self.id} is declared twice with different schemas: "
                    f"{known.declared_in} and {stream.declared_in}"
                )
        return found


def _closed_over(function: Any) -> Iterator[Any]:
    """Yield the values that the function closes over."""
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # not set yet
            yield cell.cell_contents


AnyTask: TypeAlias = Task[..., Any]
"""A task of any payload and result."""


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(
    *,
    id: str | None = ...,
    retries: int = ...,
    backoff: Duration = ...,
    streams: Sequence[Stream[Any]] = ...,
    on_idle_input: OnIdleInput = ...,
    after_run: AfterRun = ...,
    isolated: bool = ...,
    schedule: str | None = ...,
    every: Duration | None = ...,
    zone: str = ...,
    missed: Missed = ...,
    overlap: Overlap = ...,
    scheduled_payload: Any = ...,
    mcp: bool = ...,
    limit: LimitName | None = ...,
    limit_key: Callable[[Any], object] | None = ...,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Task[P, R]]: ...
def task(
    function: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    /,
    *,
    id: str | None = None,
    retries: int = 0,
    backoff: Duration = "1s",
    streams: Sequence[Stream[Any]] = (),
    on_idle_input: OnIdleInput = "keep",
    after_run: AfterRun = "keep",
    isolated: bool = False,
    schedule: str | None = None,
    every: Duration | None = None,
    zone: str = "UTC",
    missed: Missed = "latest",
    overlap: Overlap = "skip",
    scheduled_payload: Any = None,
    mcp: bool = True,
    limit: LimitName | None = None,
    limit_key: Callable[[Any], object] | None = None,
) -> Any:
    """Declare a task, bare or with arguments. The function takes `(payload)` or `(payload, ctx)`.

    **Code outside steps runs again at each resume**; put side effects in a `@step`.

    Args:
        function: An `async def`.
        id: The task's name in sessions; default the function's name.
        retries: Attempts after the first when an exception leaves the task (S-5).
        backoff: Before the second attempt; doubles with each, at most an hour.
        streams: Streams that are not among the module's globals.
        on_idle_input: Effect of input while no run is active: `keep` it for the next run, `run` one, or `reject` it.
        after_run: `close` closes the session when a run ends.
        isolated: Give each live session a process of its own.
        schedule: Starts sessions by the clock (S-93): a cron expression of five fields, like `"0 3 * * mon-fri"`.
        every: Instead of `schedule`: at whole multiples of a duration, like `"15m"`.
        zone: Time zone that `schedule` is read in, like `"Europe/Berlin"`.
        missed: Due times that passed while no runtime was up: `skip` them, start once for the `latest`, or for `all`.
        overlap: At a due time at which the newest session that it started is still active: `skip`, or `allow` both.
        scheduled_payload: JSON that these sessions get.
        mcp: Offer it to MCP clients as a tool that starts it.
        limit: Its code runs only while this limit, a `Limit` with `at_once` or its name, has room; the run gives
            the room back while it waits (S-120).
        limit_key: Returns from the payload the key for which its runs and their steps take turns under limits:
            `lambda order: order.tenant`. Without it, each top-level session shares its turns with its children.

    Raises:
        BadDefinition: An option or the function is invalid.
    """
    planned = None
    if schedule is not None or every is not None:
        when = timing(cron=schedule, every=every, zone=zone, missed=missed, overlap=overlap)
        planned = TaskSchedule(**when.model_dump(), payload=scheduled_payload)
    elif (zone, missed, overlap, scheduled_payload) != ("UTC", "latest", "skip", None):
        raise BadDefinition(
            "zone, missed, overlap and scheduled_payload belong to a schedule, and there is none",
            hint="Give `schedule=` or `every=` too.",
        )

    def make(function: Callable[..., Coroutine[Any, Any, Any]]) -> Task[..., Any]:
        return Task(
            function,
            id=id,
            retries=retries,
            backoff=backoff,
            streams=streams,
            on_idle_input=on_idle_input,
            after_run=after_run,
            isolated=isolated,
            schedule=planned,
            mcp=mcp,
            limit=limit,
            limit_key=limit_key,
        )

    return make(function) if function is not None else make


def declared(task: Task[..., Any]) -> dict[str, Any]:
    """Return the fields of `TaskInfo` that a task's declaration gives to a catalog.

    Raises:
        BadDefinition: Its schedule starts sessions with a payload that does not fit.
    """
    task.check_schedule()
    names = ("on_idle_input", "after_run", "retries", "isolated", "schedule", "mcp")
    return {name: getattr(task, name) for name in names}
