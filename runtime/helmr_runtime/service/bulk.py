"""Bulk operations preview one action for many runs, then do it and report on each (S-124).

A preview stores nothing: the client that shows it keeps it. Each of its runs is one operation, with an id of its own
and the attempt that was seen. So a client that crashed sends the whole list again: runs that are done return their
first receipt, runs that changed since are skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from helmr.errors import BadRequest, HelmrError, OutcomeUnknown, SessionNotFound, Unavailable
from helmr.models import (
    LIST_LIMIT_MAX,
    PRUNE_AGE_MIN_S,
    WHY_MAX,
    AttemptRequest,
    BulkItem,
    BulkOutcome,
    BulkPlan,
    BulkPreviewRequest,
    BulkReport,
    BulkRequest,
    BulkVerb,
    CloseRequest,
    PlannedRun,
    PruneRequest,
    RunStatus,
    SessionInfo,
    SessionsQuery,
    SessionStatus,
)
from helmr.person import filters
from helmr.person.filters import Filter
from helmr.wire import ids
from helmr.wire.roles import Need
from helmr_runtime.clock import Clock
from helmr_runtime.security.role_checks import check_role
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.exports import Pruning
from helmr_runtime.service.sessions import RunOperations, SessionOperations

FAILED = "is:failed"
"""The filter of a retry that names none."""
AT_ONCE = 8
"""Runs under way at once: their entries share commits."""
PAGES_MAX = 100
"""A search by a narrow filter ends after this many pages, and the plan says that there is more."""

Act = Callable[[Caller, BulkItem], Awaitable[str]]
"""Acts on one run and returns a detail of the outcome. Raises `Skipped` if the run no longer fits."""


class Skipped(Exception):
    """The run changed since the preview, so nothing was done; the text says how."""


class BulkOperations:
    """Many runs: shown, retried, cancelled, closed, pruned.

    Args:
        sessions: Reads and closes sessions.
        runs: Reads, retries and cancels runs.
        pruning: Removes sessions.
        clock: Tells when a list was made.
    """

    def __init__(
        self, sessions: SessionOperations, runs: RunOperations, pruning: Pruning, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._runs = runs
        self._pruning = pruning
        self._clock = clock

    # --- shown ------------------------------------------------------------------------------------

    async def preview(self, request: BulkPreviewRequest) -> BulkPlan:
        """List the runs that the action fits now, each at its newest attempt and under an operation id.

        Raises:
            BadFilter: The filter can't be read.
            BadRequest: The request names neither sessions nor a filter.
        """
        now, verb = self._clock.now(), BulkVerb(request.verb)
        found: list[PlannedRun] = []
        is_more = False
        async with aclosing(self._meant(request)) as meant:
            async for session in meant:
                if session is not None and not verb.takes(
                    session, now, end_input=request.end_input
                ):
                    continue
                is_more = session is None or len(found) == request.limit
                if session is None or is_more:
                    break
                if session.run_id is not None:
                    found.append(await self._planned(session, session.run_id))
        return BulkPlan(
            id=request.batch_id or ids.new_id("batch"),
            verb=verb,
            made_at=now,
            runs=tuple(found),
            end_input=request.end_input,
            more=is_more,
        )

    async def _planned(self, session: SessionInfo, run_id: str) -> PlannedRun:
        run = await self._runs.get(run_id)
        error = run.error
        is_over = session.status is not SessionStatus.OPEN
        return PlannedRun(
            run_id=run.id,
            session_id=session.id,
            attempt=run.attempt,
            operation_id=ids.new_id(ids.OPERATION),
            task=session.task,
            status=session.status.value if is_over else run.status.value,
            why=error.text[:WHY_MAX] if error is not None else "",
        )

    async def _meant(self, request: BulkPreviewRequest) -> AsyncGenerator[SessionInfo | None, None]:
        """Yield the named sessions, else those that match the filter; a last None says that the search was cut off."""
        if request.session_ids is not None:
            for session_id in request.session_ids:
                yield await self._sessions.get(session_id)
            return
        words = request.filter
        if words is None and BulkVerb(request.verb) is BulkVerb.RETRY:
            words = FAILED
        if words is None:
            raise BadRequest(
                f"nothing says which runs to {request.verb}",
                hint="Name sessions, or give a filter; one with no word in it means all.",
            )
        async for session in self._filtered(filters.parse(words, filters.SESSION_FIELDS)):
            yield session

    async def _filtered(self, wanted: Filter) -> AsyncGenerator[SessionInfo | None, None]:
        """Yield matching sessions, newest first. The ledger matches case and a filter does not: a miss drops texts."""
        pushed, cursor = wanted.pushed(), None
        for number in range(PAGES_MAX):
            page = await self._sessions.list(_query(pushed, cursor))
            if number == 0 and not page.items and pushed != wanted.pushed(texts=False):
                pushed = wanted.pushed(texts=False)
                page = await self._sessions.list(_query(pushed, cursor))
            now = self._clock.now()
            for session in page.items:
                if wanted.matches(filters.session_facts(session), now):
                    yield session
            cursor = page.next_cursor
            if cursor is None:
                return
        yield None

    # --- done -------------------------------------------------------------------------------------

    async def do(self, caller: Caller, request: BulkRequest) -> BulkReport:
        """Act on each run that is still as shown; a refused one does not stop the others.

        Raises:
            BadId: An id is malformed.
            RoleDenied: Pruning needs an admin.
        """
        for item in request.runs:
            ids.check_id(item.run_id, ids.RUN)
            ids.check_id(item.session_id, ids.SESSION)
            ids.check_id(item.operation_id, ids.OPERATION)
        if BulkVerb(request.verb) is BulkVerb.PRUNE:
            check_role(caller.role, Need.ADMINISTER)
            return BulkReport(items=await self._prune(caller, request))
        acts: dict[BulkVerb, Act] = {BulkVerb.RETRY: self._retry, BulkVerb.CANCEL: self._cancel}
        act = acts.get(BulkVerb(request.verb)) or self._closing(end_input=request.end_input)
        items: list[BulkOutcome] = []
        is_away = False
        for part in _parts(request.runs):
            if is_away:
                items += [_outcome(item, "stopped") for item in part]
                continue
            came = await asyncio.gather(*(_tried(act, caller, item) for item in part))
            is_away = any(one.progress in ("failed", "unknown") for one in came)
            items += came
        return BulkReport(items=items)

    async def _retry(self, caller: Caller, item: BulkItem) -> str:
        await self._runs.retry(caller, item.run_id, AttemptRequest(attempt=item.attempt))
        return f"attempt {item.attempt + 1}"

    async def _cancel(self, caller: Caller, item: BulkItem) -> str:
        run = await self._runs.cancel(caller, item.run_id, AttemptRequest(attempt=item.attempt))
        if run.status is not RunStatus.CANCELLED:
            raise Skipped(f"it is {run.status.value} meanwhile")
        return ""

    def _closing(self, *, end_input: bool) -> Act:
        async def close(caller: Caller, item: BulkItem) -> str:
            seen = CloseRequest(end_input=end_input, run_id=item.run_id, attempt=item.attempt)
            session = await self._sessions.close(caller, item.session_id, seen)
            if session.status is not SessionStatus.CLOSED:
                raise Skipped(f"it is {session.status.value} meanwhile")
            return ""

        return close

    async def _prune(self, caller: Caller, request: BulkRequest) -> list[BulkOutcome]:
        """Prune all of them together: a family is removed only if all of it is named."""
        named = tuple(dict.fromkeys(item.session_id for item in request.runs))
        asked = PruneRequest(older_than_s=PRUNE_AGE_MIN_S, reason=request.reason)
        error: HelmrError | None = None
        try:
            gone = await self._pruning.of_sessions(caller, asked, named)
        except Unavailable as failure:  # what went before it is gone
            error, gone = failure, frozenset()
        items: list[BulkOutcome] = []
        for item in request.runs:
            if item.session_id in gone or await self._is_gone(item.session_id):
                items.append(_outcome(item, "accepted"))
            elif error is not None:
                items.append(_refused(item, error))
            else:
                items.append(_outcome(item, "skipped", STAYS))
        return items

    async def _is_gone(self, session_id: str) -> bool:
        try:
            await self._sessions.get(session_id)
        except SessionNotFound:
            return True
        return False


STAYS = "it stays: it has gone on, or something that stays refers to it"


async def _tried(act: Act, caller: Caller, item: BulkItem) -> BulkOutcome:
    try:
        detail = await act(replace(caller, operation_id=item.operation_id), item)
    except Skipped as why:
        return _outcome(item, "skipped", str(why))
    except HelmrError as error:
        return _refused(item, error)
    return _outcome(item, "accepted", detail)


def _refused(item: BulkItem, error: HelmrError) -> BulkOutcome:
    """The outcome of a failed run: `unknown` if perhaps stored, `failed` if worth a retry, else `skipped`."""
    progress = "skipped"
    if isinstance(error, OutcomeUnknown):
        progress = "unknown"
    elif isinstance(error, Unavailable):
        progress = "failed"
    return _outcome(item, progress, error.message, error.code)


def _outcome(
    item: BulkItem, progress: str, detail: str = "", error: str | None = None
) -> BulkOutcome:
    return BulkOutcome.model_validate(
        {
            "run_id": item.run_id,
            "session_id": item.session_id,
            "progress": progress,
            "detail": detail,
            "error": error,
        }
    )


def _parts(items: Sequence[BulkItem]) -> Iterator[Sequence[BulkItem]]:
    for at in range(0, len(items), AT_ONCE):
        yield items[at : at + AT_ONCE]


def _query(pushed: dict[str, str], cursor: str | None) -> SessionsQuery:
    return SessionsQuery.model_validate({**pushed, "limit": LIST_LIMIT_MAX, "cursor": cursor})
