"""Answers to many waits: `helmr wait answer --all` sends one, `--csv` and `--json-file` one each from a file.

The list is read once; later waits are not in it. A wait that changed after it was shown, or no longer passes the
filter, is left out and reported. `helmr.person.review.batches` decides membership, order and outliers, as in the
console. A row whose wait this batch has answered counts as done, so the same command with the same --batch goes on
after an interruption.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from helmr.cli import arguments, printing
from helmr.cli.app import ExitCode, exit_code, now, worst
from helmr.cli.listing import MeantWaits, all_waits
from helmr.cli.many import BatchAnswers, Sending
from helmr.errors import BadJson, BadSchema, HelmrError, NotFound, UsageError
from helmr.models import HTTP_BODY_BYTES_MAX, WaitInfo, WaitStatus
from helmr.person.forms import assignments
from helmr.person.review import agreement, batches
from helmr.person.review.batches import BATCH_MAX, AnswerBatch, Item, LeftOut
from helmr.wire import ids, jsonio

if TYPE_CHECKING:
    from helmr.cli.app import Cli
    from helmr.client import Client


@dataclass(frozen=True, slots=True)
class Meant:
    """The waits that a command means, frozen at one moment.

    Attributes:
        lead: Id of the wait that all others must be like; without it all that the filter finds must be alike.
        waits: The filter's waits; its times count from `frozen_at`, however long someone reads.
        only: Ids of waits that were shown before; None for all.
        me: Returns the person who answers; called only where it matters.
    """

    lead: str | None
    waits: MeantWaits
    only: Collection[str] | None
    me: Callable[[], str | None]
    frozen_at: datetime = field(default_factory=now)

    def holds(self, wait: WaitInfo) -> bool:
        """True if the wait is one of them."""
        is_shown = self.only is None or wait.id in self.only
        return is_shown and self.waits.asks(wait, self.frozen_at)


def _read(client: Client, meant: Meant) -> AnswerBatch:
    """Find the waits, in full.

    Raises:
        UsageError: They ask for different things, and none was named that decides; or the one that was named is not
            among them.
    """
    pushed: dict[str, Any] = meant.waits.wanted.pushed()
    if "session" in pushed:
        pushed["session_id"] = pushed.pop("session")
    listed = [one for one in all_waits(client.waits.page, **pushed) if meant.holds(one)]
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
    me = meant.me() if any(one.voters for one in waits) else None
    batch = batches.plan(waits, meant.lead, me=me)
    over = tuple(LeftOut(one, f"over the limit of {BATCH_MAX:,}") for one in more)
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
            hint="The others must be like WAIT, so the filter has to find it, too.",
        )
    return found


def answer_every(
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
        answer: The answer to the first of them, and so to all.

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
        sending.tell_left_out()
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
    with arguments.open_source(source) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            parts = jsonio.loads(line)
            wait_id = parts.get("wait_id") if isinstance(parts, dict) else None
            if not isinstance(wait_id, str):
                raise BadJson(
                    f"--seen: line {number} names no wait",
                    hint="Give it what --preview --json printed.",
                )
            if parts.get("progress") != "left_out":
                found.add(wait_id)
    return frozenset(found)


ROWS_MAX = 5_000
WAIT_COLUMNS = ("wait", "wait_id", "id")
CORRELATION_COLUMNS = ("correlation_id",)
SHOWN_COLUMNS = frozenset(
    ("task", "kind", "stream", "subject", "body", "deadline", "session", "priority", "assignee", "tags")
)  # fmt: skip
"""Columns about the wait, as `helmr wait list --output csv` has them; a field of such a name is written `.subject`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or standard input for `-`."""

    name: str
    is_csv: bool

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines with their numbers."""
        source = self.name if self.name == "-" or self.name.startswith("@") else f"@{self.name}"
        with arguments.open_source(source) as file:
            yield from enumerate(iter(lambda: file.readline(HTTP_BODY_BYTES_MAX + 1), b""), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An answer to one wait; `data` is there if `fields` are not."""

    number: int
    wait: str = ""
    correlation_id: str = ""
    fields: tuple[assignments.Assignment, ...] = ()
    data: Any = None
    is_empty: bool = False

    def answer(self, wait: WaitInfo) -> Any:
        """Return the data that answers the wait."""
        if not self.fields:
            return self.data
        return assignments.assigned(
            self.fields,
            wait.json_schema,
            initial=wait.initial,
            base=agreement.proposal_of(wait),
        )


def rows_of(source: Source) -> Iterator[Row | tuple[int, HelmrError]]:
    """The rows, or why one can't be read.

    Raises:
        UsageError: No file, or a table without a column that names the wait.
    """
    yield from _rows_of_csv(source) if source.is_csv else _rows_of_jsonl(source)


def _rows_of_jsonl(source: Source) -> Iterator[Row | tuple[int, HelmrError]]:
    for number, line in source.lines():
        if not line.strip():
            continue
        try:
            yield _row_of_json(number, jsonio.loads(line))
        except HelmrError as error:
            yield number, error


def _row_of_json(number: int, parts: Any) -> Row:
    names = {"wait", "wait_id", "correlation_id", "data"}
    if not isinstance(parts, dict) or "data" not in parts or not names.issuperset(parts):
        raise BadJson('a line is an object with "data", and "wait" or "correlation_id"')
    texts = [parts.get(name) or "" for name in ("wait", "wait_id", "correlation_id")]
    if not all(isinstance(text, str) for text in texts):
        raise BadJson('"wait" and "correlation_id" are texts')
    return Row(
        number=number, wait=texts[0] or texts[1], correlation_id=texts[2], data=parts["data"]
    )


def _rows_of_csv(source: Source) -> Iterator[Row | tuple[int, HelmrError]]:
    raw = b"".join(line for _, line in source.lines())
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{arguments.source_name(source.name)} is not UTF-8: {error}") from error
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heading = [name.strip() for name in next_row(table)]
        named = [name for name in heading if name in (*WAIT_COLUMNS, *CORRELATION_COLUMNS)]
        if not named:
            raise UsageError(
                "no column names the wait",
                hint="Give one of them the heading wait or correlation_id.",
            )
        for cells in table:
            if any(cell.strip() for cell in cells):
                yield _row_of_cells(table.line_num, heading, cells)
    except csv.Error as error:
        raise UsageError(f"line {table.line_num} is not CSV: {error}") from error


def next_row(table: Iterator[list[str]]) -> list[str]:
    """The heading; empty of an empty file."""
    for row in table:
        return row
    return []


def _row_of_cells(
    number: int, heading: list[str], cells: list[str]
) -> Row | tuple[int, HelmrError]:
    if len(cells) > len(heading):
        return number, UsageError(f"{len(cells)} cells, and {len(heading)} headings")
    filled = {name: cell for name, cell in zip(heading, cells, strict=False) if cell != ""}
    known = (*WAIT_COLUMNS, *CORRELATION_COLUMNS, *SHOWN_COLUMNS, "")
    fields = tuple(
        assignments.Assignment(name.removesuffix(":="), cell, name.endswith(":="))
        for name, cell in filled.items()
        if name not in known
    )
    wait = [filled[name].strip() for name in WAIT_COLUMNS if name in filled]
    correlation = [filled[name] for name in CORRELATION_COLUMNS if name in filled]
    return Row(
        number=number,
        wait="".join(wait[:1]),
        correlation_id="".join(correlation[:1]),
        fields=fields,
        is_empty=not fields,
    )


def _check(wait: WaitInfo, data: Any) -> None:
    """Return if the answer fits its wait's schema, as far as a schema says; the runtime looks again.

    Raises:
        SchemaMismatch: With the failing paths.
    """
    from helmr_runtime.security.schemas import data_schema

    if wait.json_schema is None:
        return
    try:
        schema = data_schema(wait.json_schema)
    except BadSchema:  # of a task's own type, which only the runtime can check
        return
    schema.check(data)


class _Plan:
    """Maps rows to waits, and keeps the result of each row that is not sent."""

    def __init__(
        self, client: Client, batch_id: str, me: Callable[[], str | None], *, json: bool
    ) -> None:
        self._client = client
        self._ask_me = me
        self._batch_id = batch_id
        self._json = json
        self.items: list[Item] = []
        self.left_out: list[LeftOut] = []
        self.answers: dict[str, Any] = {}
        self.codes: set[ExitCode] = set()

    def take(self, row: Row | tuple[int, HelmrError]) -> None:
        """Read its wait, and make its answer."""
        number, error = row if isinstance(row, tuple) else (row.number, None)
        try:
            if error is not None:
                raise error
            assert isinstance(row, Row)
            self._take(row)
        except HelmrError as refused:
            self.codes.add(exit_code(refused))
            text = printing.error_text(refused)
            self._tell(number, "refused", text, error=refused)

    def _take(self, row: Row) -> None:
        if row.is_empty:
            self._tell(row.number, "empty", "no answer in it")
            return
        wait = self._client.waits.get(self._id_of(row))
        data = row.answer(wait)
        if wait.status is WaitStatus.FULFILLED and wait.batch_id == self._batch_id:
            if wait.answer is not None and wait.answer != data:
                self._tell(row.number, "skipped", "this batch has answered otherwise", wait=wait)
                self.codes.add(ExitCode.CONFLICT)
            else:
                self._tell(row.number, "accepted", "before, in this batch", wait=wait)
        elif wait.id in self.answers:
            raise UsageError(f"{wait.id} is in an earlier row", wait_id=wait.id)
        elif wait.status is not WaitStatus.PENDING:
            why = f"no longer pending: {wait.status.value}"
            self.left_out.append(LeftOut(wait, why))
        elif why := agreement.why_not(wait, self._me if wait.voters else None):
            self.left_out.append(LeftOut(wait, why))
        elif len(self.items) == ROWS_MAX:
            self.left_out.append(LeftOut(wait, f"over the limit of {ROWS_MAX}"))
        else:
            _check(wait, data)
            self.items.append(Item(wait))
            self.answers[wait.id] = data

    @cached_property
    def _me(self) -> str | None:
        return self._ask_me()

    def _id_of(self, row: Row) -> str:
        if row.wait:
            return (
                arguments.wait(self._client, row.wait) if row.wait != arguments.LAST else row.wait
            )
        if not row.correlation_id:
            raise UsageError("the row names no wait")
        found = self._by_correlation.get(row.correlation_id, [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(f"no pending wait has the correlation id {row.correlation_id}")
        raise UsageError(f"{len(found)} pending waits have the correlation id {row.correlation_id}")

    @cached_property
    def _by_correlation(self) -> dict[str, list[str]]:
        """Pending waits, read once."""
        found: dict[str, list[str]] = {}
        for one in all_waits(self._client.waits.page):
            if one.correlation_id is not None:
                found.setdefault(one.correlation_id, []).append(one.id)
        return found

    def _tell(
        self,
        number: int,
        progress: str,
        why: str,
        *,
        wait: WaitInfo | None = None,
        error: HelmrError | None = None,
    ) -> None:
        if self._json:
            about = {"wait_id": wait.id} if wait is not None else {}
            said = {"row": number, **about, "progress": progress, "batch_id": self._batch_id}
            code = {"error": error.code} if error is not None else {}
            printing.write_json({**said, "detail": why, **code})
            return
        printing.write_line(f"line {number} {progress}: {why}")
        if error is not None and error.hint:
            printing.note(f"line {number} hint: {error.hint}")


def answer_from_file(
    cli: Cli,
    source: Source,
    *,
    batch_id: str | None,
    hold_s: float,
    override_claim: bool,
    preview: bool,
    yes: bool,
    json: bool,
) -> ExitCode:
    """Read all rows, show, ask, hold as one, send; the code is that of the worst row.

    Raises:
        UsageError: The file can't be read, or no one can be asked.
        KeyboardInterrupt: Ctrl-C; while they are held, nothing was sent.
    """
    if source.name == "-" and not (preview or yes):
        raise UsageError(
            "no one can be asked while the answers come in", hint="Say --preview or --yes."
        )
    batch_id = batch_id or ids.new_id("batch")
    with cli.client(is_patient=True) as client:
        plan = _Plan(client, batch_id, cli.me, json=json)
        for row in rows_of(source):
            plan.take(row)
        batch = AnswerBatch(tuple(plan.items), tuple(plan.left_out))
        sending = Sending(
            client,
            batch,
            BatchAnswers(lambda wait: plan.answers[wait.id], is_one=False),
            batch_id=batch_id,
            override_claim=override_claim,
            json=json,
        )
        if not batch.items:
            sending.tell_left_out()
            printing.note(f"no wait to answer; batch {batch_id}")
            return worst([*plan.codes, sending.code()])
        code = sending.run(hold_s=hold_s, preview=preview, yes=yes)
    return worst([*plan.codes, code])
