"""Calls between actors: their protocol and errors, calls within one process, and typed clients of actors.

An actor answers a call with a value even if it fails: `serve` turns errors into a `CallFailure`, and the caller's side
raises it again. Only the caller's side makes a `CallError`, which means that the called actor was lost; so errors of
calls that this actor made to others can't be mistaken for its loss. An unhandled `CallError` leaves its actor as a
plain `Unavailable`.

`InProcessCalls` passes arguments and replies without copies, since they are frozen or JSON that nothing changes. Its
rules are those of calls between processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Protocol, cast

from helmr.errors import HelmrError, Overloaded, Unavailable, error_from_code
from helmr_runtime.ports import Directory, Host
from helmr_runtime.ports.ledger import Ledger, LedgerClient

logger = logging.getLogger(__name__)

LEDGER = "helmr-ledger"
DIRECTORY = "helmr-directory"
GATEWAY = "helmr-gateway"
"""Names of the actors that exist once."""

HOST_PREFIX = "helmr-host-"
OWN_HOST_PREFIX = "helmr-host-own-"
"""Prefixes of hosts' names; hosts of the second kind have one session each."""

CrashCause = str

LONG_POLLS = frozenset({"chunks", "feed", "permit_news", "watch", "work"})
"""Methods that wait for events and change nothing: they end when their caller gives up. Others go on, since their
caller can't know their progress."""

PING = "ping"
"""Tells a live process from a stopped one; no bound refuses it."""


class CallError(Unavailable):
    """A call got no answer from its actor. `actor` and `method` are facts."""

    def __init__(self, message: str, *, actor: str, method: str, **facts: Any) -> None:
        super().__init__(message, actor=actor, method=method, **facts)
        self.actor = actor


class ActorDied(CallError):
    """The actor is dead for good. The call may have run before it died."""

    def __init__(self, *, actor: str, method: str, cause: CrashCause) -> None:
        super().__init__(f"{actor} died: {cause}", actor=actor, method=method, cause=cause)
        self.cause = cause


class ActorUnavailable(CallError):
    """The actor did not answer now (restarting, connection lost). The call may have run."""

    def __init__(self, *, actor: str, method: str, detail: str) -> None:
        super().__init__(f"{actor} is not reachable: {detail}", actor=actor, method=method)


class ActorNotFound(CallError):
    """No actor has that name. The call has not run."""

    def __init__(self, *, actor: str, method: str) -> None:
        super().__init__(f"{actor} does not exist", actor=actor, method=method)


class ActorOverloaded(Overloaded):
    """Too many calls to one actor are open. The call has not run; an earlier try of it may have."""

    def __init__(self, detail: str, *, actor: str) -> None:
        super().__init__(f"{actor}: {detail}", retry_after_s=1.0, actor=actor)


class NodeGone(Unavailable):
    """A node of the cluster has left or does not answer. `node` is a fact."""

    def __init__(self, *, node: str, detail: str) -> None:
        super().__init__(f"node {node} is not reachable: {detail}", node=node)


@dataclass(frozen=True, slots=True)
class CallFailure:
    """An error as a reply."""

    code: str
    status: int
    message: str
    hint: str | None
    errors: list[dict[str, str]]
    retry_after_s: float | None
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, error: HelmrError) -> CallFailure:
        """Return the reply that stands for `error`."""
        return cls(
            error.code,
            error.status,
            error.message,
            error.hint,
            error.errors,
            error.retry_after_s,
            error.facts,
        )

    def error(self) -> HelmrError:
        """Return the error to raise on the caller's side."""
        return error_from_code(
            self.code,
            self.message,
            status=self.status,
            hint=self.hint,
            errors=self.errors,
            retry_after_s=self.retry_after_s,
            facts=dict(self.facts),
        )


class Calls(Protocol):
    """The one way to call an actor.

    Attributes:
        counter: Calls made so far by (kind of actor, method); tests prove the budget of a path with it.
    """

    counter: Counter[tuple[str, str]]

    def call(
        self, actor: str, method: str, /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Call `method` of the actor with that name.

        Raises:
            CallError: The actor gave no answer; the subclass says what is known.
            HelmrError: The method raised it.
        """
        ...


def is_of_runtime(actor: str) -> bool:
    """True for names that a runtime gives; other actors of a joined cluster are not its concern."""
    return actor in (LEDGER, DIRECTORY, GATEWAY) or actor.startswith(HOST_PREFIX)


def kind_of(actor: str) -> str:
    """Return ledger, directory, gateway or host."""
    if actor.startswith(HOST_PREFIX):
        return "host"
    return actor.removeprefix("helmr-")


async def serve(target: object, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a call inside its actor; return its value, or a `CallFailure` for its error."""
    if method.startswith("_"):
        return CallFailure.of(HelmrError(f"{method} is not a method that others may call"))
    try:
        return await getattr(target, method)(*args, **kwargs)
    except HelmrError as error:
        return CallFailure.of(error)
    except Exception as error:  # the edge of an actor: a bug ends one call only
        logger.exception("%s.%s failed", type(target).__name__, method)
        return CallFailure.of(HelmrError(f"{method}: {type(error).__name__}: {error}"))


@dataclass(slots=True, eq=False)
class _Actor:
    target: object
    cause: str | None = None
    running: set[asyncio.Task[Any]] = field(default_factory=set)
    died: asyncio.Event = field(default_factory=asyncio.Event)


class InProcessCalls:
    """A registry of actors that live in this process and loop."""

    def __init__(self) -> None:
        self.counter: Counter[tuple[str, str]] = Counter()
        self._actors: dict[str, _Actor] = {}

    def register(self, name: str, target: object) -> None:
        """Let `target` answer to `name`, even if an earlier one with that name has ended."""
        self._actors[name] = _Actor(target)

    def names(self) -> list[str]:
        """Return the names of living actors."""
        return [name for name, actor in self._actors.items() if actor.cause is None]

    def kill(self, name: str, cause: str = "killed") -> None:
        """End an actor: its running calls stop where they are; they and all later ones fail."""
        actor = self._actors[name]
        actor.cause = actor.cause or cause
        actor.died.set()
        for call in actor.running:
            call.cancel()

    async def crash_of(self, name: str) -> str:
        """Wait until the actor is killed and return the cause."""
        actor = self._actors[name]
        await actor.died.wait()
        return actor.cause or ""

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `method` of the actor with that name (see `Calls`)."""
        self.counter[kind_of(actor), method] += 1
        found = self._actors.get(actor)
        if found is None:
            raise ActorNotFound(actor=actor, method=method)
        if found.cause is not None:
            raise ActorDied(actor=actor, method=method, cause=found.cause)
        call = asyncio.create_task(self.serve(actor, found.target, method, args, kwargs))
        found.running.add(call)
        call.add_done_callback(found.running.discard)
        try:
            # A caller that gives up does not stop its call.
            await asyncio.wait({call})
        except asyncio.CancelledError:
            if method in LONG_POLLS:
                call.cancel()
            raise
        if found.cause is not None:
            raise ActorDied(actor=actor, method=method, cause=found.cause)
        answer = call.result()
        if isinstance(answer, CallFailure):
            raise answer.error()
        return answer

    async def serve(
        self, name: str, target: object, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run one call; return its value, or a `CallFailure` for its error."""
        return await serve(target, method, args, kwargs)


class Proxy:
    """An actor by name. `proxy_class` gives it the methods of a port, each a call to the actor."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self.name = name

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call a method of the actor."""
        return self._calls.call(self.name, method, *args, **kwargs)


def methods_of(port: type) -> frozenset[str]:
    """Return the methods of a port."""
    return frozenset(
        name
        for base in port.__mro__
        if getattr(base, "_is_protocol", False) and base is not Protocol
        for name, value in vars(base).items()
        if callable(value) and name[0] != "_"
    )


@cache
def proxy_class(port: type) -> type[Proxy]:
    """Return the proxy class for actors with this port."""
    methods = {name: _calling(name, getattr(port, name)) for name in methods_of(port)}
    return type(f"{port.__name__}Proxy", (Proxy,), methods)


def _calling(name: str, declared: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(declared)
    async def method(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        return await self.call(name, *args, **kwargs)

    return method


def ledger_of(calls: Calls) -> Ledger:
    """Return the ledger, for hosts and the directory."""
    return cast(Ledger, proxy_class(Ledger)(calls, LEDGER))


def ledger_client_of(calls: Calls) -> LedgerClient:
    """Return the ledger, for the service."""
    return cast(LedgerClient, proxy_class(LedgerClient)(calls, LEDGER))


def host_of(calls: Calls, name: str) -> Host:
    """Return the host with that name."""
    return cast(Host, proxy_class(Host)(calls, name))


def directory_of(calls: Calls) -> Directory:
    """Return the directory."""
    return cast(Directory, proxy_class(Directory)(calls, DIRECTORY))
