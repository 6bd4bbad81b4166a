"""Actor calls through Ray: the only module that calls `.remote`.

Owns the cache of actor handles and the translation of Ray's errors. Ray's errors never leave this module, and
`max_task_retries` is never set: an unanswered call may have run, so repeating it with the same operation id is the
caller's decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from helmr.errors import HelmrError
from helmr_runtime.rpc.calls import (
    ActorDied,
    ActorNotFound,
    ActorUnavailable,
    CallFailure,
    NodeGone,
    kind_of,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

NAMESPACE = "helmr"
"""The Ray namespace of every actor; names are unique in it."""

REACH = "reach"
"""The method in errors about an actor whose process only Ray was asked about."""

RUN_ON_WITHIN_S = 20.0

HANDLES_MAX = 1_000
"""Cached handles; more than any pool, so that dropping all of them is rare."""


class RayCalls:
    """Calls named Ray actors that answer `call(method, *args, **kwargs)`."""

    def __init__(self) -> None:
        self.counter: Counter[tuple[str, str]] = Counter()
        self._handles: dict[str, Any] = {}

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `method` of the actor with that name (see `Calls`)."""
        self.counter[kind_of(actor), method] += 1
        handle = self._handles.get(actor) or await self._find(actor, method)
        answer = await self._answered(actor, method, handle.call.remote(method, *args, **kwargs))
        if isinstance(answer, CallFailure):
            raise answer.error()
        return answer

    async def reach(self, actor: str) -> None:
        """Return once Ray reports the actor's process; the actor itself is not called.

        Raises:
            CallError: It is not there; the subclass says what Ray knows.
        """
        handle = self._handles.get(actor) or await self._find(actor, REACH)
        await self._answered(actor, REACH, handle.__ray_ready__.remote())

    async def _answered(self, actor: str, method: str, reference: Awaitable[Any]) -> Any:
        try:
            return await reference
        except ActorDiedError as error:
            self._handles.pop(actor, None)
            raise ActorDied(actor=actor, method=method, cause=cause_of(error)) from error
        except (ActorUnavailableError, RayActorError) as error:
            raise ActorUnavailable(actor=actor, method=method, detail=_first_line(error)) from error
        except RayTaskError as error:
            # Only a bug in the host itself gets here; the last line names the exception.
            raise HelmrError(f"{actor}.{method}: {str(error).splitlines()[-1]}") from error
        except RayError as error:
            raise ActorUnavailable(actor=actor, method=method, detail=_first_line(error)) from error

    async def create(
        self,
        name: str,
        cls: type[Any],
        *args: Any,
        is_here: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Make Ray start a detached actor under that name; returns before it runs.

        Args:
            is_here: It must run on this process's node, now and after each restart.

        Raises:
            ValueError: The name is taken.
        """
        given = dict(options or {})
        if is_here:
            given["scheduling_strategy"] = NodeAffinitySchedulingStrategy(this_node(), soft=False)
        declared = ray.remote(cls).options(
            name=name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, **given
        )
        self._handles[name] = await asyncio.to_thread(declared.remote, *args)

    async def run_on(self, node: str, function: Callable[..., T], *args: object) -> T:
        """Run a plain function once in a worker of that node and return its result.

        It starts a process, which takes about a second.

        Raises:
            NodeGone: The node has left the cluster, or did not answer in time.
        """
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        remote = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
        try:
            async with asyncio.timeout(RUN_ON_WITHIN_S):
                answer: T = await (await asyncio.to_thread(remote.remote, *args))
        except (RayError, TimeoutError) as error:
            raise NodeGone(node=node, detail=_first_line(error)) from error
        return answer

    async def kill(self, name: str) -> None:
        """End an actor for good, without any clean-up in it. Harmless if there is none."""
        try:
            handle = self._handles.pop(name, None) or await self._find(name, "kill")
            self._handles.pop(name, None)
            await asyncio.to_thread(ray.kill, handle, no_restart=True)
        except (ActorNotFound, ActorDiedError, ValueError):
            return

    async def names(self) -> list[str]:
        """Return the named actors of the namespace."""
        named = await asyncio.to_thread(list_named_actors, all_namespaces=True)
        return [actor["name"] for actor in named if actor["namespace"] == NAMESPACE]

    async def _find(self, actor: str, method: str) -> Any:
        try:
            handle = await asyncio.to_thread(ray.get_actor, actor, namespace=NAMESPACE)
        except ValueError as error:
            raise ActorNotFound(actor=actor, method=method) from error
        except RayError as error:
            raise ActorUnavailable(actor=actor, method=method, detail=_first_line(error)) from error
        if len(self._handles) >= HANDLES_MAX:
            self._handles.clear()
        self._handles[actor] = handle
        return handle


def this_node() -> str:
    """Ray's id of the node that this process runs on."""
    node: str = ray.get_runtime_context().get_node_id()
    return node


def cause_of(error: ActorDiedError) -> str:
    """Return Ray's cause of a crash in a few words. Ray does not know the signal or the exit code."""
    text = str(error)
    if "ray.kill" in text:
        return "killed by the runtime"
    if error.actor_init_failed:
        return "failed to start"
    if "connection error" in text or "SYSTEM_ERROR" in text:
        return "the process ended"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
