"""`helmr wait answer --all`: one answer to every wait that a filter finds, each of which is shown first.

The list is read once: what comes later is not in it. What has changed between being shown and being answered, or no
longer passes the filter, is left out and said. Who is in, in which order, and what is unlike the others is decided by
`helmr.batches`, as in the console.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from helmr import batches, filters, ids, jsonio
from helmr.batches import BATCH_MAX, Batch, Item, LeftOut, Progress
from helmr.cli import next, outgoing, printing, questioning, reading
from helmr.cli.clock import now
from helmr.cli.exit_codes import ExitCode, exit_code, worst
from helmr.errors import BadJson, HelmrError, NotFound, UsageError
from helmr.filters import Filter
from helmr.models import WaitInfo

if TYPE_CHECKING:
    from helmr.client import Client

NOT_ASKED = "Look with --preview, then say --yes."


@dataclass(frozen=True, slots=True)
class Meant:
    """Which waits are meant, as of one moment.

    Attributes:
        lead: The id of a wait that all of them are like; without it all that the filter finds must be alike.
        wanted: What the filter says; times in it are those of `frozen_at` however long somebody reads.
        me: On whose behalf it is looked.
        only: Ids of waits that were shown before; None if all are meant.
        snoozed: Ids of what this person put off.
    """

    lead: str | None
    wanted: Filter
    me: str | None
    only: Collection[str] | None
    snoozed: Collection[str]
    frozen_at: datetime = field(default_factory=now)

    def holds(self, wait: WaitInfo) -> bool:
        """Whether it is one of them."""
        put_off = wait.id in self.snoozed
        facts = filters.wait_facts(wait, self.frozen_at, self.me, snoozed=put_off)
        return (
            (self.only is None or wait.id in self.only)
            and (not put_off or self.wanted.says("snoozed"))
            and self.wanted.matches(facts, self.frozen_at)
        )


class AnswerAll:
    """One batch on its way.

    Args:
        client: Reads waits and sends answers.
        meant: Which waits.
        batch_id: Names the batch.
        override_claim: Whether waits are answered that another is at.
        json: Whether each wait is a JSON line on stdout.
    """

    def __init__(
        self, client: Client, meant: Meant, *, batch_id: str, override_claim: bool, json: bool
    ) -> None:
        self._client = client
        self._meant = meant
        self._batch_id = batch_id
        self._override_claim = override_claim
        self._json = json
        self._codes: set[ExitCode] = set()
        self.batch = Batch(())

    def read(self) -> None:
        """Find the waits, in full.

        Raises:
            UsageError: They ask for different things, and none was named that decides; or the one that was named is
                not among them.
        """
        meant = self._meant
        pushed: dict[str, Any] = meant.wanted.pushed()
        if "session" in pushed:
            pushed["session_id"] = pushed.pop("session")
        listed = [
            one
            for one in next.all_pages(
                lambda cursor: self._client.waits.page(limit=200, cursor=cursor, **pushed)
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
                    waits.append(self._client.waits.get(one.id))
        self.batch = batches.plan(waits, self._meant.lead)
        over = tuple(LeftOut(one, f"over the limit of {BATCH_MAX}") for one in more)
        self.batch = Batch(self.batch.items, (*self.batch.left_out, *over))
        unlike = [out for out in self.batch.left_out if out.is_unlike]
        if unlike and self._meant.lead is None:
            first = self.batch.items[0].wait
            raise UsageError(
                f"one answer can't be for all of them: {len(self.batch.items)} are like {first.id}, "
                f"{len(unlike)} are not, the first of them {unlike[0].wait.id}: {unlike[0].why}",
                hint=f"Name the one that they are to be like, helmr wait answer {first.id} --all …, "
                "or narrow the filter: stream:NAME, task:NAME.",
            )

    def show(self, answer: Any) -> None:
        """Every wait with all of its text, what is unlike the others first; who is left out; then the answer."""
        if self._json:
            for item in self.batch.items:
                self._line(item, {"subject": item.wait.subject, "body": item.wait.body})
            self._tell_left_out()
            return
        for place, item in enumerate(self.batch.items, 1):
            bare = item.wait.model_copy(update={"body": None})
            questioning.show_wait(bare, f"{place} of {len(self.batch.items)}")
            if item.unlike:
                printing.write_line(f"  unlike the others: {item.unlike}")
            if item.wait.body:
                questioning.show_body(item.wait)
        printing.write("")
        self._tell_left_out()
        printing.write(f"answer to each: {questioning.answer_text(answer)}")

    def confirmed(self, answer: Any) -> bool:
        """Show it and have its number typed, as nobody does by mistake.

        Raises:
            UsageError: There is nobody to ask.
        """
        if self._json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("nobody can be asked whether to send them", hint=NOT_ASKED)
        self.show(answer)
        count = str(len(self.batch.items))
        printing.write(f"Type {count} to send as many answers; anything else sends none.")
        if sys.stdin.readline().strip() == count:
            return True
        printing.note("nothing was sent")
        return False

    def send(self, answer: Any) -> None:
        """Send them one by one, and say of each what came of it."""
        try:
            while (index := self.batch.stopped_at) is not None:
                self.batch = self.batch.mark(index, Progress.SENDING)
                self._send_one(index, answer)
        except BaseException:
            self.batch = self.batch.stop()
            raise
        finally:
            self._summary()

    def code(self) -> ExitCode:
        """OK if every wait that was meant is answered, else the worst of what happened."""
        left = [out for out in self.batch.left_out if not out.is_unlike]
        return worst([*self._codes, *([ExitCode.CONFLICT] if left else [])])

    def _send_one(self, index: int, answer: Any) -> None:
        seen = self.batch.items[index].wait
        receipt: dict[str, Any] = {}
        try:
            wait = self._client.waits.get(seen.id)
            why = batches.changed(seen, wait)
            if not why and not self._meant.holds(wait):
                why = "the filter does not find it any more"
            if why:
                self._codes.add(ExitCode.CONFLICT)
                self.batch = self.batch.mark(index, Progress.SKIPPED, why)
            else:
                done = self._client.waits.answer(
                    seen.id,
                    answer,
                    override_claim=self._override_claim,
                    batch_id=self._batch_id,
                )
                receipt = {"receipt": done.model_dump(mode="json", exclude_none=True)}
                said = outgoing.receipt_text(done)
                self.batch = self.batch.mark(index, Progress.ACCEPTED, said)
        except HelmrError as error:
            self._codes.add(exit_code(error))
            receipt = {"error": error.code}
            text = printing.error_text(error)
            self.batch = self.batch.mark(index, batches.came_of(error), text)
            if batches.meets_all(error):
                self.batch = self.batch.stop()
        self._line(self.batch.items[index], receipt)

    def _line(self, item: Item, more: dict[str, Any]) -> None:
        if self._json:
            said = {"wait_id": item.wait.id, "progress": item.progress.name.lower()}
            parts = {"detail": item.detail, "unlike": item.unlike, **more}
            given = {name: part for name, part in parts.items() if part}
            printing.write_json({**said, "batch_id": self._batch_id, **given})
        else:
            detail = f" · {item.detail}" if item.detail else ""
            printing.write_line(f"{item.progress.value}: {outgoing.about(item.wait)}{detail}")

    def _tell_left_out(self) -> None:
        for out in self.batch.left_out:
            if self._json:
                said = {"wait_id": out.wait.id, "progress": "left_out"}
                printing.write_json({**said, "batch_id": self._batch_id, "detail": out.why})
            else:
                printing.write_line(f"left out: {outgoing.about(out.wait)} · {out.why}")

    def _summary(self) -> None:
        printing.note(f"{self.batch.summary()}; batch {self._batch_id}")
        rest = (Progress.STOPPED, Progress.FAILED, Progress.UNKNOWN)
        if any(item.progress in rest for item in self.batch.items):
            printing.note(
                f"The same command with --batch {self._batch_id} goes on with those that still wait."
            )


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
    answer: Any,
    *,
    batch_id: str | None,
    hold_s: float,
    override_claim: bool,
    preview: bool,
    yes: bool,
    json: bool,
) -> ExitCode:
    """Show, ask, hold as one, send.

    Raises:
        UsageError: The waits ask for different things, or nobody can be asked.
        KeyboardInterrupt: Ctrl-C; while they are held, nothing was sent.
    """
    batch_id = batch_id or ids.new_id("batch")
    made = AnswerAll(client, meant, batch_id=batch_id, override_claim=override_claim, json=json)
    made.read()
    if not made.batch.items:
        printing.note("no wait to answer")
        return made.code()
    if preview:
        made.show(answer)
        return ExitCode.OK
    if not yes and not made.confirmed(answer):
        return ExitCode.OK
    if hold_s:
        try:
            printing.note(f"sends in {hold_s:g} s; Ctrl-C takes all of it back")
            time.sleep(hold_s)
        except KeyboardInterrupt:
            printing.note("taken back, nothing was sent")
            raise
    printing.note(f"batch {batch_id}")
    made.send(answer)
    return made.code()


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
