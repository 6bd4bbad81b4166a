"""What a wait or a token says to people, made to fit: no run ends because a model or a customer wrote too much.

A subject is one line of at most 200 characters: line breaks become spaces, and a longer one ends with `…`. A body is
kept whole up to 1 MiB; what is longer is cut, with a note at its end. The log says so once a run.

Invariants: S-17.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from helmr.current import current_run
from helmr.models import BODY_MAX_BYTES, SUBJECT_MAX
from helmr.sizes import spell_bytes

logger = logging.getLogger("helmr.task")

NOTE_BYTES_MAX = 200
"""Of the note under a body that was cut."""

TOLD_RUNS_MAX = 1_000
"""Runs remembered as told about; of more the oldest are forgotten."""

_told: OrderedDict[str, set[str]] = OrderedDict()


def fitted_subject(text: str | None) -> str | None:
    """The subject as it is shown, None if it is empty."""
    if not text:
        return None
    line = _whole(text)
    if line.splitlines() != [line]:
        line = " ".join(line.split())
    if len(line) > SUBJECT_MAX:
        line = line[: SUBJECT_MAX - 1].rstrip() + "…"
    if line != text:
        _tell(f"a subject is one line of at most {SUBJECT_MAX} characters: one was shortened")
    return line or None


def fitted_body(text: str | None) -> str | None:
    """The body as it is stored, None if it is empty."""
    if not text:
        return None
    whole = _whole(text)
    size = len(whole.encode())
    if size > BODY_MAX_BYTES:
        _tell(f"a body has at most {BODY_MAX_BYTES} bytes: one of {size} was cut")
        kept = whole.encode()[: BODY_MAX_BYTES - NOTE_BYTES_MAX].decode(errors="ignore")
        whole = f"{kept}\n\n… (cut here: it has {spell_bytes(size)}, of which 1 MiB is kept)"
    return whole


def _whole(text: str) -> str:
    """The text without halves of characters, which no entry can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tell(what: str) -> None:
    run = current_run.get()
    if run is None or run.is_muted:
        return
    told = _told.setdefault(run.run.id, set())
    if len(_told) > TOLD_RUNS_MAX:
        _told.popitem(last=False)
    kind = what.partition(":")[0]
    if kind not in told:
        told.add(kind)
        logger.warning("%s: %s", run.run.id, what)
