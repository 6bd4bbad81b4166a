"""Answers to many waits from a file: a JSON document or a row of a table for each.

Every row is told. A row whose wait was answered by the same batch before is done, so the same command with the same
--batch goes on after an interruption.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from helmr import ids, jsonio
from helmr.cli import finding, next, printing, reading
from helmr.cli.exit_codes import ExitCode, exit_code, worst
from helmr.cli.sending import BatchAnswers, Sending
from helmr.errors import BadJson, HelmrError, NotFound, UsageError
from helmr.forms import assignments
from helmr.models import HTTP_BODY_BYTES_MAX, WaitInfo, WaitStatus
from helmr.review.batches import AnswerBatch, Item, LeftOut

if TYPE_CHECKING:
    from helmr.cli.app import Cli
    from helmr.client import Client

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
        """Its lines with their numbers."""
        source = self.name if self.name == "-" or self.name.startswith("@") else f"@{self.name}"
        with reading.open_source(source) as file:
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
        """What it says to the wait."""
        if not self.fields:
            return self.data
        return assignments.assigned(self.fields, wait.json_schema, initial=wait.initial)


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
        raise UsageError(f"{reading.source_name(source.name)} is not UTF-8: {error}") from error
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
        raise UsageError(f"line {table.line_num} is no CSV: {error}") from error


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


class _Plan:
    """Which waits the rows mean, and what became of those rows that are not sent."""

    def __init__(self, client: Client, batch_id: str, *, json: bool) -> None:
        self._client = client
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
            raise UsageError(f"{wait.id} stands in an earlier row", wait_id=wait.id)
        elif wait.status is not WaitStatus.PENDING:
            why = f"no longer pending: {wait.status.value}"
            self.left_out.append(LeftOut(wait, why))
        elif len(self.items) == ROWS_MAX:
            self.left_out.append(LeftOut(wait, f"over the limit of {ROWS_MAX}"))
        else:
            self.items.append(Item(wait))
            self.answers[wait.id] = data

    def _id_of(self, row: Row) -> str:
        if row.wait:
            return finding.wait(self._client, row.wait) if row.wait != finding.LAST else row.wait
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
        for one in next.all_pages(lambda cursor: self._client.waits.page(limit=200, cursor=cursor)):
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
            printing.note(f"hint: {error.hint}")


def run(
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
        plan = _Plan(client, batch_id, json=json)
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
            if not preview:
                sending.tell_left_out()
            printing.note(f"no wait to answer; batch {batch_id}")
            return worst([*plan.codes, sending.code()])
        code = sending.run(hold_s=hold_s, preview=preview, yes=yes)
    return worst([*plan.codes, code])
