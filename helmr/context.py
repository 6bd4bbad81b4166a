"""`TaskContext`: what a task knows of its session and run."""

from __future__ import annotations

import logging
import uuid
from collections.abc import MutableMapping
from datetime import datetime
from random import Random  # noqa: TID251 - seeded by the place in the run
from typing import Any, NoReturn

from helmr.current import DurableRun, RunRef, SessionRef, require_run


class TaskContext:
    """The second argument of a task, if it takes one.

    Attributes:
        session: Id, external id, tags and metadata of the session.
        run: Id of the run, and which attempt this is.
        log: A logger that is silent while recorded outcomes are replayed.
    """

    def __init__(self, run: DurableRun, task_id: str) -> None:
        self._run = run
        self.session: SessionRef = run.session
        self.run: RunRef = run.run
        self.log = _QuietInReplay(logging.getLogger(f"helmr.task.{task_id}"), {"run": run})

    @property
    def attempt(self) -> int:
        """Which try at the run this is, from 1."""
        return self.run.attempt

    @property
    def replaying(self) -> bool:
        """True while recorded outcomes are being delivered again."""
        return self._run.replaying

    def now(self) -> datetime:
        """The time, aware, UTC; a replay sees the same."""
        return require_run("ctx.now()").now()

    def uuid(self) -> uuid.UUID:
        """A UUID; a replay sees the same."""
        return require_run("ctx.uuid()").uuid()

    def random(self) -> Random:
        """A generator seeded for this place of the run; a replay sees the same numbers."""
        return require_run("ctx.random()").random()

    async def continue_as(self, payload: Any) -> NoReturn:
        """End this run and begin the session's next one with `payload` and an empty journal (S-8).

        Raises:
            SchemaMismatch: The payload does not fit the task; the run goes on.
        """
        await require_run("ctx.continue_as()").continue_as(payload)
        raise AssertionError("continue_as returned")


class _QuietInReplay(logging.LoggerAdapter[logging.Logger]):
    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - overrides logging
        extra = self.extra or {}
        run = extra.get("run")
        return not getattr(run, "replaying", False) and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs
