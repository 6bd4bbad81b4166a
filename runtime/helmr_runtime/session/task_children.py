"""Starting child sessions for task code: once, whatever crashes between child and parent's entry (S-91)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from helmr import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.children import Parent
from helmr_runtime.core.entries import task_principal
from helmr_runtime.core.run import Run
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import Ledger, StartSession


async def start_child(
    ledger: Ledger, session_id: str, run: Run, op: int, call: Mapping[str, Any], key: str
) -> str:
    """The child that this op has started; it is started if there is none yet.

    Args:
        ledger: Who is asked.
        session_id: The parent.
        run: Its run, whose code asks.
        op: The op that asks.
        call: A `ChildCall`'s parts.
        key: The op's step key. The child's idempotency key is made of it, which the ledger knows for ever. One that a
            rewind has ended counts no more: what was open then has its old key.

    Raises:
        HelmrError: The ledger refuses it, as a run's that is over.
    """
    parent = Parent(
        session_id=session_id, run_id=run.id, op=op, attempt=run.attempt, leaves=call["leaves"]
    )
    for number in count(1):
        started = await ledger.start(
            StartSession(
                session_id=ids.new_id(ids.SESSION),
                run_id=ids.new_id(ids.RUN),
                task=call["task"],
                payload=call["payload"],
                external_id=None,
                tags=tuple(call["tags"]),
                metadata=call["metadata"],
                idempotency_key=f"child {number} of {key}",
                principal=task_principal(run.id),
                operation=None,
                request_hash=jsontext.same_data_hash([call["task"], call["payload"]]),
                parent=parent,
            )
        )
        reach(Point.SESSION_CHILD_STARTED)
        if started.created:
            return started.session_id
        ended = await ledger.token_end(started.session_id)
        if ended is None or ended["status"] != "cancelled":
            return started.session_id
    raise AssertionError("unreachable")
