"""What is said when the console itself breaks: one line for the operator, the whole trace for the log."""

from __future__ import annotations

import io
import logging
import traceback
from pathlib import Path

from rich.console import Console, RenderableType

from helmr.safe_text import one_line

log = logging.getLogger("helmr.console")

LINE_CHARS = 200
WIDTH = 120


def of_error(error: BaseException) -> str:
    """Log the trace; what happened and where, in one line without anything a session said."""
    log.error("the console broke", exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "helmr_console" in Path(frame.filename).parts] or frames
    place = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return one_line(f"{type(error).__name__}{place}", LINE_CHARS)


def of_renderables(renderables: tuple[RenderableType, ...]) -> str:
    """Log what Textual would have printed, as its input thread does when the terminal fails."""
    out = io.StringIO()
    Console(file=out, width=WIDTH, no_color=True).print(*renderables)
    text = out.getvalue().strip()
    log.error("the console broke\n%s", text)
    return one_line(text.rpartition("\n")[2], LINE_CHARS)
