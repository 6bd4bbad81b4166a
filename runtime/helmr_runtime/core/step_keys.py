"""Step keys: how outside systems know a step of a run again."""

from __future__ import annotations

import hashlib


def step_key(session_id: str, run_id: str, op: int, *, rewinds: int = 0, name: str = "") -> str:
    """Names one step of one run: stable over attempts and hosts, new when a rewind repeats what had an outcome.

    Without rewinds as release 0.1.0 made it (S-32, S-76).
    """
    text = f"{session_id}|{run_id}|{op}" + (f"|{rewinds}|{name}" if rewinds else "")
    return "stp_" + hashlib.sha256(text.encode()).hexdigest()[:32]
