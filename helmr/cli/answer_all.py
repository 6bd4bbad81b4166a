"""`helmr wait answer --all`: one answer to every wait that a filter finds, each of which is shown first.

The list is read once: what comes later is not in it. What has changed between being shown and being answered, or no
longer passes the filter, is left out and said. Who is in, in which order, and what is unlike the others is decided by
`helmr.review.batches`, as in the console.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from helmr import filters, ids, jsonio
from helmr.cli import next, printing, reading
from helmr.cli.clock import now
from helmr.cli.exit_codes import ExitCode
from helmr.cli.sending import BatchAnswers, Sending
from helmr.errors import BadJson, NotFound, UsageError
from helmr.filters import Filter
from helmr.models import WaitInfo
from helmr.review import batches
from helmr.review.batches import BATCH_MAX, AnswerBatch, LeftOut

if TYPE_CHECKING:
    from helmr.client import Client


@dataclass(frozen=True, slots=True)
class Meant:
    """Which waits are meant, as of one moment.

    Attributes:
        lead: The id of a wait that all of them are like; without it all that the filter finds must be alike.
        wanted: What the filter says; times in it are those of `frozen_at` however long somebody reads.
        me: On whose behalf it is looked.
        only: Ids of waits that were shown before; None if all are meant.
        snoozed: Ids of what this person snoozed.
    """

    lead: str | None
    wanted: Filter
    me: str | None
    only: Collection[str] | None
    snoozed: Collection[str]
    frozen_at: datetime = field(default_factory=now)

    def holds(self, wait: WaitInfo) -> bool:
        """Whether it is one of them."""
        is_snoozed = wait.id in self.snoozed
        facts = filters.wait_facts(wait, self.frozen_at, self.me, snoozed=is_snoozed)
        return (
            (self.only is None or wait.id in self.only)
            and (not is_snoozed or self.wanted.says("snoozed"))
            and self.wanted.matches(facts, self.frozen_at)
        )


def _read(client: Client, meant: Meant) -> AnswerBatch:
    """Find the waits, in full.

    Raises:
        UsageError: They ask for different things, and none was named that decides; or the one that was named is not
            among them.
    """
    pushed: dict[str, Any] = meant.wanted.pushed()
    if "session" in pushed:
        pushed["session_id"] = pushed.pop("session")
    listed = [
        one
        for one in next.all_pages(
            lambda cursor: client.waits.page(limit=200, cursor=cursor, **pushed)
        )
        if meant.holds(one)
    ]
    lead = _lead_of(listed, meant.lead)
    waits: list[WaitInfo] = []
    more: list[WaitInfo] = []
    for one in listed:
        if lead is not None and (one.kind, one.stream) != (lead.kind, lead.stream):
            waits.append(one)  # left out whatever its schema is
        elif len(waits) > BATCH_MAX:
            more.append(one)
        else:
            with suppress(NotFound):
                waits.append(client.waits.get(one.id))
    batch = batches.plan(waits, meant.lead)
    over = tuple(LeftOut(one, f"over the limit of {BATCH_MAX}") for one in more)
    batch = AnswerBatch(batch.items, (*batch.left_out, *over))
    unlike = [out for out in batch.left_out if out.is_unlike]
    if unlike and meant.lead is None:
        first = batch.items[0].wait
        raise UsageError(
            f"one answer can't be for all of them: {len(batch.items)} are like {first.id}, "
            f"{len(unlike)} are not, the first of them {unlike[0].wait.id}: {unlike[0].why}",
            hint=f"Name the one that they are to be like, helmr wait answer {first.id} --all …, "
            "or narrow the filter: stream:NAME, task:NAME.",
        )
    return batch


def _lead_of(listed: list[WaitInfo], lead: str | None) -> WaitInfo | None:
    """The wait that the others are to be like.

    Raises:
        UsageError: It is named, and not listed.
    """
    found = {one.id: one for one in listed}.get(lead or "")
    if lead is not None and found is None:
        raise UsageError(
            f"{lead} is none of the {len(listed)} that are meant",
            hint="WAIT says what the others are to be like; the filter has to find it, too.",
        )
    return found


def run(
    client: Client,
    meant: Meant,
    answer: Callable[[WaitInfo], Any],
    *,
    batch_id: str | None,
    hold_s: float,
    override_claim: bool,
    preview: bool,
    yes: bool,
    json: bool,
) -> ExitCode:
    """Show, ask, hold as one, send.

    Args:
        answer: What is said to the first of them, and so to all.

    Raises:
        UsageError: The waits ask for different things, or no one can be asked.
        KeyboardInterrupt: Ctrl-C; while they are held, nothing was sent.
    """
    batch = _read(client, meant)
    value = answer(batch.items[0].wait) if batch.items else None
    sending = Sending(
        client,
        batch,
        BatchAnswers(
            lambda _: value,
            is_one=True,
            refused=lambda wait: (
                "" if meant.holds(wait) else "the filter does not find it any more"
            ),
        ),
        batch_id=batch_id or ids.new_id("batch"),
        override_claim=override_claim,
        json=json,
    )
    if not batch.items:
        printing.note("no wait to answer")
        return sending.code()
    return sending.run(hold_s=hold_s, preview=preview, yes=yes)


def read_seen(source: str) -> frozenset[str]:
    """Ids of the waits that lines of `--preview --json` name, but those that it left out.

    Raises:
        BadJson: A line is none of them.
        UsageError: The source can't be read.
    """
    found: set[str] = set()
    with reading.open_source(source) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            parts = jsonio.loads(line)
            wait_id = parts.get("wait_id") if isinstance(parts, dict) else None
            if not isinstance(wait_id, str):
                raise BadJson(
                    f"--seen: line {number} names no wait",
                    hint="It takes what --preview --json has printed.",
                )
            if parts.get("progress") != "left_out":
                found.add(wait_id)
    return frozenset(found)
