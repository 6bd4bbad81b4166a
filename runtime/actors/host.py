"""The one class that Ray runs: builds the actor of its name at the first call, and serves calls to it.

So a constructor can't fail, which would end a Ray actor for good, and a restarted actor sets itself
up when it is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import logging
import os
from typing import Any

from helmr.errors import HelmrError
from runtime.actors.boundary import Failure, kind_of, serve
from runtime.actors.calls import RayCalls
from runtime.actors.spec import RuntimeSpec
from runtime.actors.terminal import log_to

logger = logging.getLogger(__name__)


class Host:
    """An actor's process."""

    def __init__(self, name: str, spec: RuntimeSpec) -> None:
        self._name = name
        self._spec = spec
        self._calls = RayCalls()
        self._target: object | None = None
        self._building = asyncio.Lock()
        self._is_logging = False

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Serve one call; what fails is a `Failure`.

        Three are the host's own: `build` returns when the actor is built; `forever` never returns,
        it fails when this process ends; `call_counts` is `{"kind.method": calls made from here}`.
        """
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
            if not self._is_logging:
                self._is_logging = True
                log_to(self._spec.logs_dir / f"{self._name}.log")
                faulthandler.enable(2)
                with contextlib.suppress(OSError):
                    # For whoever must end this process before it could say its pid.
                    self._spec.pid_path(self._name).write_text(str(os.getpid()))
            try:
                builder = importlib.import_module(f"runtime.actors.builders.{kind_of(self._name)}")
                self._target = await builder.build(self._name, self._spec, self._calls)
            except HelmrError:
                raise
            except Exception as error:  # the edge of an actor, as in `serve`
                logger.exception("%s can't be built", self._name)
                raise HelmrError(f"{self._name}: {type(error).__name__}: {error}") from error
            return self._target
