"""Work beside the screens: a failure shows a message and never ends the app.

When the console itself breaks, the operator sees one line and the log gets the whole trace.
"""

from __future__ import annotations

import io
import logging
import secrets
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from textual.app import App

from helmr.errors import HelmrError
from helmr.wire.safe_text import one_line
from helmr_console.keys import KeyLine

log = logging.getLogger("helmr.console")

Work = Coroutine[Any, Any, None]
OnError = Callable[[str], None]


class Background:
    """Starts work that must not hold up the screen.

    Args:
        app: Runs it; ends it when the app ends.
        keys: Holds keys back while work decides where they belong.
        errors: Collects every failure as one safe line.
        log_path: Log with the traces of the console's own faults, named in messages.
        say: Called with the error line of work that has no `on_error` of its own.
    """

    def __init__(
        self, app: App[Any], keys: KeyLine, errors: deque[str], log_path: Path, *, say: OnError
    ) -> None:
        self._app = app
        self._keys = keys
        self._errors = errors
        self._log_path = log_path
        self._say = say

    def start(
        self,
        work: Work,
        *,
        group: str,
        exclusive: bool = False,
        holds_keys: bool = False,
        on_error: OnError | None = None,
    ) -> None:
        """Run this beside the screens.

        Args:
            exclusive: Cancel other work of the group.
            holds_keys: Keys wait until the work ends, because it decides where they belong (reading a form).
        """
        guarded = self._guarded(work, on_error or self._say)
        worker = self._app.run_worker(
            guarded, group=group, exclusive=exclusive, exit_on_error=False
        )
        # Work cancelled before it began, as by its group's successor, would never be awaited.
        weakref.finalize(worker, _close, guarded, work).atexit = False
        if holds_keys:
            self._keys.hold(worker)

    async def _guarded(self, work: Work, on_error: OnError) -> None:
        try:
            await work
        except HelmrError as error:
            text = one_line(error.message + (f". {error.hint}" if error.hint else ""), 300)
        except Exception as error:  # one broken view leaves the rest working
            number = secrets.token_hex(3)
            log.exception("error %s", number)
            kind = type(error).__name__
            text = f"internal error {number} ({kind}); the trace is in {self._log_path}"
        else:
            return
        self._errors.append(text)
        on_error(text)


def _close(guarded: Work, work: Work) -> None:
    guarded.close()
    work.close()


LINE_CHARS = 200
WIDTH = 120


def of_error(error: BaseException) -> str:
    """Log the trace; return the error and its place in one line, without session text."""
    log.error("the console broke", exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "helmr_console" in Path(frame.filename).parts] or frames
    place = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return one_line(f"{type(error).__name__}{place}", LINE_CHARS)


def of_renderables(renderables: tuple[RenderableType, ...]) -> str:
    """Log the output that Textual's input thread prints when the terminal fails; return its last line."""
    out = io.StringIO()
    Console(file=out, width=WIDTH, no_color=True).print(*renderables)
    text = out.getvalue().strip()
    log.error("the console broke\n%s", text)
    return one_line(text.rpartition("\n")[2], LINE_CHARS)
