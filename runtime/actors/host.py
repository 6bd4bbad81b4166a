"""The one class that Ray runs: builds the actor of its name at the first call, and serves calls to it.

So a constructor can't fail, which would end a Ray actor for good, and a restarted actor sets itself
up when it is asked.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import logging
import os
from typing import Any

from helmr.errors import HelmrError
from runtime.actors import processes
from runtime.actors.boundary import Failure, kind_of, serve
from runtime.actors.calls import RayCalls
from runtime.actors.spec import RuntimeSpec
from runtime.actors.terminal import log_to

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
ORPHAN_AFTER_S = 60.0
"""A directory that restarts is back long before."""


class Host:
    """An actor's process."""

    def __init__(self, name: str, spec: RuntimeSpec) -> None:
        self._name = name
        self._spec = spec
        self._calls = RayCalls()
        self._target: object | None = None
        self._building = asyncio.Lock()
        self._is_set_up = False
        self._called_at = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Serve one call; what fails is a `Failure`.

        Three are the host's own: `build` returns when the actor is built; `forever` never returns,
        it fails when this process ends; `call_counts` is `{"kind.method": calls made from here}`.
        """
        self._called_at = asyncio.get_running_loop().time()
        if method == "call_counts":
            return {".".join(key): count for key, count in self._calls.counter.items()}
        try:
            target = self._target or await self._build()
        except HelmrError as error:
            return Failure.of(error)
        if method == "build":
            return None
        if method == "forever":
            await asyncio.Event().wait()
        return await serve(target, method, args, kwargs)

    async def _build(self) -> object:
        async with self._building:
            if self._target is not None:
                return self._target
            self._set_up()
            try:
                builder = importlib.import_module(f"runtime.actors.builders.{kind_of(self._name)}")
                self._target = await builder.build(self._name, self._spec, self._calls)
            except HelmrError:
                raise
            except Exception as error:  # the edge of an actor, as in `serve`
                logger.exception("%s can't be built", self._name)
                raise HelmrError(f"{self._name}: {type(error).__name__}: {error}") from error
            return self._target

    def _set_up(self) -> None:
        """Once per process: where its output goes, and its pid for whoever must end it."""
        if self._is_set_up:
            return
        self._is_set_up = True
        spec = self._spec
        try:
            for folder in (spec.logs_dir, spec.crumbs_dir):
                folder.mkdir(parents=True, exist_ok=True)  # on another machine they are not there
            log_to(spec.logs_dir / f"{self._name}.log")
            spec.pid_path(self._name).write_text(str(os.getpid()))
        except OSError:
            logger.exception("%s has no log file", self._name)
        faulthandler.enable(2)
        if spec.is_joined:
            self._watching = asyncio.create_task(self._end_when_orphaned())

    async def _end_when_orphaned(self) -> None:
        """End this process after the supervisor, which a joined cluster does not.

        On its machine the supervisor's process is looked for. A pool actor on another one is pinged
        every second while there is a directory.
        """
        loop = asyncio.get_running_loop()
        supervisor = processes.Process(*self._spec.supervisor)
        is_here = processes.boot_id() == self._spec.boot_id
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if is_here:
                is_orphan = not await asyncio.to_thread(processes.is_running, supervisor)
            else:
                is_orphan = loop.time() - self._called_at > ORPHAN_AFTER_S
            if is_orphan:
                logger.warning("the supervisor is gone")
                os._exit(0)
