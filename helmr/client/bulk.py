"""`AsyncClient.bulk`: the same for many runs, shown first (S-124)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

from helmr.client.calls import READ_TIMEOUT_S, call, given
from helmr.client.http import ClientPart
from helmr.models import BULK_RUNS_MAX, BulkOutcome, BulkPlan, BulkVerb, PlannedRun
from helmr.operations import DO_BULK, PREVIEW_BULK

PART = 20
"""Runs of one call: what became of them is known after each."""
SECONDS_EACH = 0.25
"""How much longer a call may take for each of its runs."""


class AsyncBulk(ClientPart):
    """Retry, cancel, close or prune many runs or sessions: `preview` shows them, `do` does it to what was shown."""

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
        """Those that can take it now, as one batch. Nothing is stored.

        Keep the plan (`model_dump_json()`) where the next process finds it, before `do`: with it that one goes on.

        Args:
            verb: `retry`, `cancel`, `close` or `prune`; close and prune are of the runs' sessions.
            filter: Which sessions, as `helmr session list --filter` takes it; of a retry without it all that failed.
            session_ids: These sessions instead, 1,000 at most.
            end_input: Of a close: also of those whose run waits for input.
            batch_id: Names the batch: 1 to 128 letters, digits and `._:-`.
            limit: So many at most; `more` of the plan says if there are more.

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
        """Do it, some at a time, and say what became of each; what is not read any more is not done.

        It ends behind the call in which one was not done, as the runtime is away. Called again with the same plan, by
        whatever process, it does none twice and skips what has changed.

        Args:
            plan: What was shown.
            runs: These of its runs; all if not given. A prune takes all of them at once.
            reason: Of a prune: what the ledger's entry says.

        Raises:
            RoleDenied: They are to be pruned, and the key is no admin's.
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
"""What of a run is said when it is done."""
