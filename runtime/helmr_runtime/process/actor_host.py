"""The one class that Ray runs: builds the actor of its name at the first call, and serves calls to it.

So a constructor can't fail, which would end a Ray actor for good. One that Ray has restarted does not wait to be asked.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

from helmr.errors import HelmrError
from helmr.private_file import write_private
from helmr_runtime import tracing
from helmr_runtime.process.garbage import look_through_less
from helmr_runtime.process.output import json_formatter, log_to
from helmr_runtime.process.spec import SOCKETS, RuntimeSpec
from helmr_runtime.rpc.calls import HOST_PREFIX, CallFailure, kind_of, serve
from helmr_runtime.rpc.ray import RayCalls
from helmr_runtime.rpc.socket_calls import SocketCalls
from helmr_runtime.rpc.sockets import SocketServer, socket_path

if TYPE_CHECKING:
    from helmr.ray import SessionRequest
    from helmr_runtime.process.ray_handles import HandleCalls

logger = logging.getLogger(__name__)

WAKE_PAUSE_S = 0.5


class ActorHost:
    """An actor's process."""

    def __init__(self, name: str, spec: RuntimeSpec) -> None:
        self._name = name
        self._spec = spec
        self._calls = (
            RayCalls() if spec.transport != SOCKETS else SocketCalls(spec.run_dir, spec.version)
        )
        self._server: SocketServer | None = None
        self._handles: HandleCalls | None = None
        self._target: object | None = None
        self._building = asyncio.Lock()
        self._is_set_up = False
        self._waking = (
            asyncio.get_running_loop().create_task(self._wake()) if self._is_restarted() else None
        )

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Serve one call; what fails is a `CallFailure`.

        Five are the host's own: `build` returns when the actor is built; `forever` never returns,
        it fails when this process ends; `spec` is what it is built from; `call_counts` is
        `{"kind.method": {"all": calls made from here, "frames": those that went as frames}}`;
        `large_answer` is one that was too large for a frame.
        """
        if method == "call_counts":
            return self._call_counts()
        if method == "large_answer" and self._server is not None:
            return self._server.take_large(*args)
        if method == "spec":
            return self._spec.to_json()
        try:
            target = self._target or await self._build()
        except HelmrError as error:
            return CallFailure.of(error)
        if method == "build":
            return None
        if method == "forever":
            await asyncio.Event().wait()
        return await serve(target, method, args, kwargs)

    async def ask(self, request: SessionRequest) -> Any:
        """Carry out what a handle of a Ray program asks (`helmr.ray`); what fails is raised, and Ray takes it there."""
        if self._handles is None:
            from helmr_runtime.process.ray_handles import HandleCalls  # noqa: PLC0415 - the client, where handles are used

            self._handles = HandleCalls(self._calls)
        return await self._handles.ask(request)

    def _is_restarted(self) -> bool:
        """Ray has started this actor before: one that exists once, and has left its pid."""
        is_one_of_many = self._name.startswith(HOST_PREFIX)
        return not is_one_of_many and self._spec.pid_path(self._name).exists()

    async def _wake(self) -> None:
        """Build it before a call comes: a call from elsewhere learns of a crash by Ray, which takes a second."""
        while self._target is None:
            try:
                await self._build()
            except HelmrError as error:
                logger.warning("%s is not up yet: %s", self._name, error)
                await asyncio.sleep(WAKE_PAUSE_S)

    async def _build(self) -> object:
        async with self._building:
            if self._target is not None:
                return self._target
            self._set_up()
            # Nothing that is imported or made here is garbage: looking for it takes a tenth of the time.
            gc.disable()
            try:
                builder = importlib.import_module(f"helmr_runtime.process.{kind_of(self._name)}")
                self._target = await builder.build(self._name, self._spec, self._calls)
            except HelmrError:
                raise
            except Exception as error:  # the edge of an actor, as in `serve`
                logger.exception("%s can't be built", self._name)
                raise HelmrError(f"{self._name}: {type(error).__name__}: {error}") from error
            finally:
                gc.enable()
            look_through_less()
            await self._listen()
            return self._target

    async def _listen(self) -> None:
        """From now on this machine's other processes need Ray for no call."""
        path = socket_path(self._spec.run_dir, self._name)
        if self._spec.transport != SOCKETS or path is None:
            return
        server = SocketServer(path, name=self._name, version=self._spec.version, handle=self.call)
        try:
            await server.start()
        except OSError as error:
            logger.warning("%s is called through Ray: %s", self._name, error)
        else:
            self._server = server

    def _call_counts(self) -> dict[str, dict[str, int]]:
        frames = self._calls.frames if isinstance(self._calls, SocketCalls) else {}
        return {
            ".".join(key): {"all": count, "frames": frames.get(key, 0)}
            for key, count in self._calls.counter.items()
        }

    def _set_up(self) -> None:
        """Once per process: where its output goes, and its pid for the program that must end it."""
        if self._is_set_up:
            return
        self._is_set_up = True
        os.umask(0o077)  # a cluster that was joined has its own
        spec = self._spec
        try:
            for folder in (spec.logs_dir, spec.status_dir):
                folder.mkdir(parents=True, exist_ok=True)  # on another machine they are not there
            formatter = json_formatter(self._name, is_wanted=spec.json_logs)
            log_to(spec.logs_dir / f"{self._name}.log", formatter)
            write_private(spec.pid_path(self._name), str(os.getpid()))  # never read half
        except OSError:
            logger.exception("%s has no log file", self._name)
        faulthandler.enable(2)
        if spec.traces:
            tracing.start(self._name)
