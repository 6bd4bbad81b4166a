"""Whether code fits a run's journal (S-89): what a resume of the run would come to, without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helmr.models import CheckVerdict, RunCheck
from helmr.tasks import Task
from helmr_runtime.clock import Clock
from helmr_runtime.core.asked import NOT_HASHED, AskedHashes
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay.detached import SILENCE_S, DetachedEnd, DetachedRun, Silent, Unanswered
from helmr_runtime.replay.ends import Mismatch, Unreadable
from helmr_runtime.security.task_secrets import MadeUpSecrets

UNSURE = (
    "up to here it fits; then the code computes, or awaits what is no durable call, such as asyncio.sleep, a lock or a "
    "thread, and its journal goes on"
)


async def check_run(
    task: Task[..., Any] | None,
    state: SessionState,
    histories: Mapping[int, Sequence[Any]],
    *,
    clock: Clock,
    silence_s: float = SILENCE_S,
    hashes: AskedHashes = NOT_HASHED,
) -> RunCheck:
    """Replay the newest run of a state with some code.

    Args:
        task: The task of that id in the code; None if it is gone.
        state: The session; it is not changed.
        histories: Op → the records of each `history.read` in the journal.
        clock: Tells the code the time.
        silence_s: Real seconds after which code that does nothing is `unsure`.
        hashes: Of what the code asks; those of code that nobody knows find drift, and nothing that differs.
    """
    run = state.run
    assert run is not None
    facts: dict[str, Any] = {
        "session_id": state.id,
        "run_id": run.id,
        "task": state.task,
        "status": run.status,
    }
    if task is None:
        message = f"the code has no task {state.task}"
        return RunCheck(verdict=CheckVerdict.MISSING, message=message, **facts)
    detached = DetachedRun(
        task,
        state,
        histories,
        clock=clock,
        answers=Unanswered(),
        secrets=MadeUpSecrets(state.id),
        silence_s=silence_s,
        hashes=hashes,
    )
    # Twice: the driver tells of a silence that nothing can end before this does.
    end = await detached.ended(patience_s=2 * silence_s)
    await detached.has_left_nothing()
    verdict = _verdict(end, is_exhausted=detached.is_exhausted)
    return RunCheck(**facts, **verdict, drift=detached.drift)


def _verdict(end: DetachedEnd, *, is_exhausted: bool) -> dict[str, Any]:
    match end:
        case Mismatch(error=error, place=place):
            return {
                "verdict": CheckVerdict.DIFFERS,
                "op": error.op,
                "recorded": error.recorded,
                "met": error.met,
                "place": place,
            }
        case Unreadable():
            return {
                "verdict": CheckVerdict.SCHEMA,
                "op": end.op,
                "path": end.path,
                "message": end.message,
            }
        case Silent() if not is_exhausted:
            return {"verdict": CheckVerdict.UNSURE, "op": end.op, "message": UNSURE}
        case _:
            return {"verdict": CheckVerdict.FITS}
