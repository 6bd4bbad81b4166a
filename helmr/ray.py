"""A handle on a session for programs in its Ray cluster; like an actor's, its methods return object refs.

```python
import ray
import helmr.ray

handle = helmr.ray.session("ses_…")
receipt = ray.get(handle.send.remote("messages", "go on"))
run = ray.get(handle.wait.remote())
```

Any driver, task or actor of the cluster can call it, without a port or a key: each call is one call of the runtime's
gateway actor. `ray.get` and `await` return the result of the same method of `AsyncClient`, or raise its error. A call
survives a crash of the gateway: Ray repeats it with the same operation id, so it acts once.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from helmr.client import AsyncClient
from helmr.client.calls import json_body
from helmr.errors import RuntimeNotFound, SessionNotFound, UsageError, WaitNotFound
from helmr.models import (
    AnswerReceipt,
    CompleteReceipt,
    EntryInfo,
    RunInfo,
    SendReceipt,
    SessionInfo,
)
from helmr.version import version
from helmr.wire import ids
from helmr.wire.durations import Duration

if TYPE_CHECKING:
    from ray import ObjectRef

    from helmr.client.runs import Until

P = ParamSpec("P")
R = TypeVar("R")

Verb = Callable[Concatenate[AsyncClient, str, P], Awaitable[R]]

REPEATED = 10
"""Times that Ray repeats a call whose gateway process ended; without a bound, a call that crashes the gateway would
crash it for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """A request of a handle to the gateway actor.

    Attributes:
        verb: The method of the handle.
        arguments: Its arguments by name, as JSON values.
        job: Id of the Ray job, which the transcript records as the principal.
        key: An API key to act with instead.
        version: Version of the program's Helmr.
    """

    session_id: str
    verb: str
    arguments: dict[str, Any]
    job: str
    key: str | None = field(repr=False)
    on_behalf_of: str | None
    version: str


def session(
    session_id: str, *, key: str | None = None, on_behalf_of: str | None = None
) -> RaySession:
    """Return a handle on the session with that id. It sends no request: the first call fails if there is no session.

    Args:
        session_id: `ses_…`.
        key: An API key, whose rights limit the calls; without one they may do everything, as the Ray job.
        on_behalf_of: The person for whom this program acts; recorded with everything it does.

    Raises:
        BadId: Not the id of a session.
    """
    return RaySession(ids.check_id(session_id, ids.SESSION), key=key, on_behalf_of=on_behalf_of)


class RayMethod(Generic[P, R]):
    """A method of a handle; call it by `.remote(…)`."""

    def __init__(self, handle: RaySession, name: str, verb: Verb[P, R]) -> None:
        self._handle = handle
        self._name = name
        self._signature = inspect.signature(verb)
        self.__doc__ = verb.__doc__

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]:
        """Send the call to the gateway actor, and return at once.

        Raises:
            RuntimeNotFound: This process is connected to no Ray cluster, or its cluster has no runtime.
            SchemaMismatch: An argument has no JSON form.
            TypeError: The arguments are not those of the method.
        """
        given = self._signature.bind(None, self._handle.id, *args, **kwargs).arguments
        arguments = {name: _plain(value) for name, value in list(given.items())[2:]}
        if "operation_id" in self._signature.parameters:
            arguments.setdefault("operation_id", ids.new_id(ids.OPERATION))
        ref: ObjectRef[R] = self._handle._ask(self._name, json.loads(json_body(arguments)))
        return ref

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse a direct call, as Ray's own methods do."""
        raise TypeError(f"call it as handle.{self._name}.remote(…)")


class _Declared(Generic[P, R]):
    """Declares a method of a handle by the function that runs it in the gateway."""

    def __init__(self, verb: Verb[P, R]) -> None:
        self.verb = verb
        self.__doc__ = verb.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, handle: RaySession, owner: type) -> RayMethod[P, R]:
        return RayMethod(handle, self._name, self.verb)


# --- what the gateway does -------------------------------------------------------------------------


async def _get(client: AsyncClient, session_id: str) -> SessionInfo:
    """The session as it is now, with its active wait in full."""
    return await client.sessions.open(session_id).get()


async def _send(
    client: AsyncClient,
    session_id: str,
    stream: str,
    data: Any,
    *,
    correlation_id: str | None = None,
    idempotency_key: str | None = None,
    operation_id: str | None = None,
) -> SendReceipt:
    """Append a record to an input stream, as `AsyncInput.send` does."""
    return (
        await client.sessions.open(session_id)
        .input(stream)
        .send(
            data,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
            operation_id=operation_id,
        )
    )


async def _answer(
    client: AsyncClient,
    session_id: str,
    wait_id: str,
    data: Any,
    *,
    override_claim: bool = False,
    operation_id: str | None = None,
) -> AnswerReceipt:
    """Answer exactly this wait of the session, as `AsyncWaits.answer` does."""
    wait = await client.waits.get(wait_id)
    if wait.session_id != session_id:
        raise WaitNotFound(
            f"{wait_id} is not a wait of {session_id}", hint=f"It belongs to {wait.session_id}."
        )
    return await client.waits.answer(
        wait_id, data, override_claim=override_claim, operation_id=operation_id
    )


async def _complete(
    client: AsyncClient,
    session_id: str,
    token_id: str,
    data: Any = None,
    *,
    operation_id: str | None = None,
) -> CompleteReceipt:
    """Complete a token, whichever session waits for it, as `AsyncTokens.complete` does."""
    return await client.tokens.complete(token_id, data, operation_id=operation_id)


async def _transcript(
    client: AsyncClient, session_id: str, *, after: int | None = None
) -> list[EntryInfo]:
    """The session's entries so far, in seq order; `after` a seq only those with a greater one."""
    return [one async for one in client.sessions.open(session_id).transcript(after=after)]


async def _wait(
    client: AsyncClient,
    session_id: str,
    *,
    timeout: Duration | None = None,
    until: Until = "ended",
) -> RunInfo:
    """The session's newest run once it has ended, or as it is after `timeout`, as `AsyncRuns.wait` does."""
    async for run in client.sessions.open(session_id).runs(limit=1):
        return await client.runs.wait(run.id, timeout=timeout, until=until)
    raise SessionNotFound(f"{session_id} has no run")


def _plain(value: Any) -> Any:
    """Return durations as seconds; JSON encoding checks all other values."""
    return value.total_seconds() if isinstance(value, timedelta) else value


# --- the handle ------------------------------------------------------------------------------------


class RaySession:
    """One session, by id. It can be passed to other tasks and actors, with its key if it has one.

    Call each method by `.remote(…)`, which returns an object ref. Besides the method's own errors, `ray.get` may raise
    `SessionNotFound`, `Unauthenticated` and `RoleDenied` for a key, `Unavailable`, `UsageError` if the runtime has
    another version of Helmr, and Ray's own errors if the runtime has ended.
    """

    get = _Declared(_get)
    send = _Declared(_send)
    answer = _Declared(_answer)
    complete = _Declared(_complete)
    transcript = _Declared(_transcript)
    wait = _Declared(_wait)

    def __init__(self, session_id: str, *, key: str | None, on_behalf_of: str | None) -> None:
        self.id = session_id
        self._key = key
        self._on_behalf_of = on_behalf_of

    def _ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        actor, job = _gateway()
        request = SessionRequest(
            session_id=self.id,
            verb=verb,
            arguments=arguments,
            job=job,
            key=self._key,
            on_behalf_of=self._on_behalf_of,
            version=version(),
        )
        return actor.ask.options(max_task_retries=REPEATED).remote(request)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


def _gateway() -> tuple[Any, str]:
    """Return the gateway actor of this process's cluster, and this process's job."""
    import ray  # where a program has loaded it already

    from helmr_runtime.rpc.calls import GATEWAY
    from helmr_runtime.rpc.ray import NAMESPACE

    if not ray.is_initialized():
        raise RuntimeNotFound(
            "this process is connected to no Ray cluster",
            hint="Call ray.init() first; outside of a cluster use helmr.Client.",
        )
    try:
        actor = ray.get_actor(GATEWAY, namespace=NAMESPACE)
    except ValueError as error:
        raise RuntimeNotFound(
            "no runtime is in the Ray cluster of this process",
            hint="`helmr up --address` starts one in a cluster.",
        ) from error
    return actor, str(ray.get_runtime_context().get_job_id())


async def carried_out(client: AsyncClient, request: SessionRequest) -> Any:
    """Run a handle's method in the gateway and return its result.

    Raises:
        UsageError: The program's version of Helmr differs from the runtime's, or handles have no such method.
        HelmrError: The method failed.
    """
    if request.version != version():
        raise UsageError(
            f"the program has Helmr {request.version}, the runtime in its Ray cluster {version()}",
            hint="Install the runtime's version, or use helmr.Client with the runtime's URL.",
            job=request.version,
            runtime=version(),
        )
    declared = vars(RaySession).get(request.verb)
    if not isinstance(declared, _Declared):
        raise UsageError(f"a session's handle has no method {request.verb}")
    return await declared.verb(client, request.session_id, **request.arguments)
