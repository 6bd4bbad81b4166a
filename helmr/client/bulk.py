"""`AsyncClient.bulk`: one action on many runs, with a preview (S-124)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

from helmr.client.calls import READ_TIMEOUT_S, call, given
from helmr.client.http import ClientPart
from helmr.models import BULK_RUNS_MAX, BulkOutcome, BulkPlan, BulkVerb, PlannedRun
from helmr.wire.operations import DO_BULK, PREVIEW_BULK

PART = 20
"""Runs per call; outcomes arrive after each call."""
SECONDS_EACH = 0.25
"""Seconds added to a call's timeout for each of its runs."""


class AsyncBulk(ClientPart):
    """Retry, cancel, close or prune many runs or sessions: `preview` shows them, `do` acts on the shown ones."""

    async def preview(
        self,
        verb: BulkVerb | str,
        *,
        filter: str | None = None,
        session_ids: Iterable[str] | None = None,
        end_input: bool = False,
        batch_id: str | None = None,
        limit: int = BULK_RUNS_MAX,
    ) -> BulkPlan:
        """Return the runs or sessions that the action fits now, as one batch. It stores nothing.

        Before `do`, save the plan (`model_dump_json()`), so that another process can continue it.

        Args:
            verb: `retry`, `cancel`, `close` or `prune`; close and prune act on the runs' sessions.
            filter: Filter of sessions, as for `helmr session list --filter`; a retry without one takes all failed runs.
            session_ids: These sessions instead, 1,000 at most.
            end_input: For a close: include sessions whose run waits for input.
            batch_id: Names the batch: 1 to 128 letters, digits and `._:-`.
            limit: Most runs; `more` of the plan says if there are more.

        Raises:
            BadFilter: The filter can't be read.
        """
        named = list(session_ids) if session_ids is not None else None
        body = {
            "verb": BulkVerb(verb).value,
            "end_input": end_input,
            "limit": limit,
            **given({"filter": filter, "session_ids": named, "batch_id": batch_id}),
        }
        made = call(PREVIEW_BULK, body=body)
        longer_s = SECONDS_EACH * (len(named) if named is not None else limit)
        made = replace(made, read_timeout_s=READ_TIMEOUT_S + longer_s)
        return await self._transport.call(made)

    async def do(
        self,
        plan: BulkPlan,
        *,
        runs: Sequence[PlannedRun] | None = None,
        reason: str | None = None,
    ) -> AsyncIterator[BulkOutcome]:
        """Act on the runs, some at a time, and yield each outcome; stop when the caller stops reading.

        It ends after a call with runs left undone because the runtime is away. Call it again with the same plan, from
        any process: it acts on no run twice and skips runs that changed.

        Args:
            plan: The plan from `preview`.
            runs: Some of its runs; by default all. A prune takes all of them at once.
            reason: For a prune: reason in the ledger's entry.

        Raises:
            RoleDenied: The verb is `prune`, and the key is not an admin's.
        """
        chosen = plan.runs if runs is None else tuple(runs)
        size = len(chosen) if plan.verb.takes_all else PART
        for at in range(0, len(chosen), size or 1):
            part = chosen[at : at + size]
            body = {
                "verb": plan.verb.value,
                "end_input": plan.end_input,
                "runs": [one.model_dump(include=NAMED) for one in part],
                **given({"reason": reason}),
            }
            made = call(DO_BULK, body=body)
            longer_s = SECONDS_EACH * len(part)
            made = replace(made, read_timeout_s=READ_TIMEOUT_S + longer_s)
            items = (await self._transport.call(made)).items
            for item in items:
                yield item
            if any(item.progress in NOT_DONE for item in items):
                return


NOT_DONE = ("failed", "unknown", "stopped")

NAMED = {"run_id", "session_id", "attempt", "operation_id"}
"""Return the parts of a planned run that the request sends."""
