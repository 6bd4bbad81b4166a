"""`TaskContext`: what a task knows of its session and run."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import MutableMapping
from datetime import datetime
from random import Random  # noqa: TID251 - seeded by the place in the run
from typing import Any, NoReturn

from helmr.current import DurableRun, RunRef, SessionRef, durable_call, require_run
from helmr.errors import BadDefinition

PATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class TaskContext:
    """The second argument of a task, if it takes one.

    Attributes:
        session: Id, external id, tags and metadata of the session.
        run: Id of the run, and which attempt this is.
        log: A logger that is silent while recorded outcomes are replayed, and while the code is only tried.
    """

    def __init__(self, run: DurableRun, task_id: str) -> None:
        self._run = run
        self.session: SessionRef = run.session
        self.log = _QuietInReplay(logging.getLogger(f"helmr.task.{task_id}"), {"run": run})

    @property
    def run(self) -> RunRef:
        """The run. Reading it in a second or later attempt lets ops differ from those of earlier attempts (S-126)."""
        return self._run.look_at_run()

    @property
    def attempt(self) -> int:
        """The number of this attempt at the run, from 1."""
        return self.run.attempt

    @property
    def replaying(self) -> bool:
        """True while recorded outcomes are being delivered again."""
        return self._run.replaying

    def now(self) -> datetime:
        """The time, aware, UTC; a replay sees the same."""
        return require_run("ctx.now()").now()

    def patched(self, name: str) -> bool:
        """Return True when this run takes the new path of a code change that older journals lack (S-88).

        The first time that the run reaches this place the answer is True, and replays repeat it. The answer is False
        where the journal continues as the old code recorded it. The call is no op: it takes no number, and code without
        it ignores the mark. Every iteration of a loop is a place of its own: call it before the loop for one answer.

        Args:
            name: Of the change; letters, digits, dot, underscore and dash.

        Raises:
            BadDefinition: The name is none.
        """
        run = require_run("ctx.patched()")
        if not PATCH_NAME.fullmatch(name):
            raise BadDefinition(
                f"{name[:140]!r} does not name a patch",
                hint="Letters, digits, dot, underscore and dash, at most 128, starting with a letter or digit.",
            )
        return run.patched(name)

    def uuid(self) -> uuid.UUID:
        """A UUID; a replay sees the same."""
        return require_run("ctx.uuid()").uuid()

    def random(self) -> Random:
        """A generator seeded for this place of the run; a replay sees the same numbers."""
        return require_run("ctx.random()").random()

    @durable_call("ctx.continue_as()")
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
        return not getattr(run, "is_muted", False) and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs
