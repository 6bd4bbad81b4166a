"""Another's answer that was first: who, when, what, and how it differs from one's own. Pure; lines of safe text."""

from __future__ import annotations

from typing import Any

from helmr.difflines import diff, summary
from helmr.forms import Form, pretty, redacted
from helmr.models import WaitInfo
from helmr.safe_text import one_line, plain

TEXT_CELLS = 20_000


def against(form: Form, theirs: Any, yours: Any) -> list[str]:
    """What differs between their answer and yours, a line each behind how much it is; without secrets."""
    found = diff(redacted(form, theirs), redacted(form, yours))
    lines = [one_line(f"{line.sign} {line.path or '$'}  {line.text}", 400) for line in found]
    return [f"theirs against yours: {summary(found)}", *lines]


def told(form: Form, wait: WaitInfo, theirs: Any, yours: Any) -> list[str]:
    """All there is to say to somebody whose answer lost.

    Args:
        form: Of the wait; it knows which fields are secret.
        wait: As it is now, answered.
        theirs: What it was answered with.
        yours: What was not accepted.
    """
    by = wait.resolved_by.label if wait.resolved_by is not None else "somebody"
    at = f" at {wait.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if wait.resolved_at is not None else ""
    answer = plain(pretty(redacted(form, theirs)), TEXT_CELLS).splitlines()
    return [
        f"answered by {one_line(by, 200)}{at}:",
        *(f"  {line}" for line in answer),
        *against(form, theirs, yours),
    ]
