"""`helmr query` and `helmr export`: SQL over everything that ever happened, and whole ranges of it as Parquet."""

from __future__ import annotations

import csv
import io
import json as json_module
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.arguments import read_source, replacing
from helmr.errors import BadRequest, MissingExtra, QueryTooLarge, UsageError
from helmr.models import QUERY_ROWS_DEFAULT, QUERY_ROWS_MAX
from helmr.wire.safe_text import one_line

if TYPE_CHECKING:
    from helmr.client import Client, QueryResult

EXPORT_CHUNK_ROWS = 20_000
"""Entries read at a time: about 10 MB of them, and a fraction of a second of the ledger's."""

EXPORT_VIEWS = ("entries", "records")
"""The views that have a place in the feed, so that a range of it is a range of them."""


class Format(StrEnum):
    """Output formats of a result."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


EXAMPLES = """\
helmr query "SELECT task, count(*) AS n FROM sessions GROUP BY task"
helmr query @backlog.sql --out backlog.csv"""


def register_query(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "query", examples=EXAMPLES)(query)
    command(app, "export")(export)


def query(
    cli: Cli,
    sql: Annotated[str, typer.Argument(metavar="SQL|@FILE|-", help="One SELECT statement.")],
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, csv, json or parquet; by FILE's name if not given.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there instead of stdout.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", min=1, max=QUERY_ROWS_MAX, metavar="N", help="Rows at most."),
    ] = QUERY_ROWS_DEFAULT,
    json: Json = False,
) -> None:
    """Run one SELECT over the views sessions, runs, waits, records, entries and tokens."""
    form = Format.JSON if json else form or _format_of(out)
    if form is Format.PARQUET:
        _parquet()
        if out is None and sys.stdout.isatty():
            raise UsageError("Parquet can't be shown on a terminal", hint="Give --out FILE.")
    with cli.client() as client:
        result = client.query(_text(sql), limit=limit)
    if out is None:
        _print(result, form)
    else:
        with replacing(out) as file:
            file.write(_bytes(result, form))
    if result.truncated:
        printing.note(
            f"helmr: cut after {len(result)} rows; there are more (--limit, at most {QUERY_ROWS_MAX})"
        )


def export(
    cli: Cli,
    parquet: Annotated[
        Path, typer.Option("--parquet", metavar="FILE", help="The Parquet file to write.")
    ],
    view: Annotated[
        str, typer.Option("--view", metavar="VIEW", help="entries or records")
    ] = "entries",
    after: Annotated[
        int,
        typer.Option("--after", min=0, metavar="OFFSET", help="Entries after this feed offset."),
    ] = 0,
    through: Annotated[
        int | None,
        typer.Option(
            "--through",
            min=0,
            metavar="OFFSET",
            help="Entries up to this feed offset; the end if not given.",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            metavar="TIME",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="Recorded at or after this time, UTC.",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until",
            metavar="TIME",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="Recorded before this time, UTC.",
        ),
    ] = None,
) -> None:
    """Write a range of the feed to a Parquet file, in pieces, while the runtime keeps working."""
    if view not in EXPORT_VIEWS:
        raise BadRequest(f"{view!r} can't be exported", hint=f"Views: {', '.join(EXPORT_VIEWS)}.")
    parquet_module = _parquet()
    rows = 0
    with cli.client(is_patient=True) as client, replacing(parquet) as file:
        times = _times(since, until)
        start, end = _range(client, after, through, times)
        writer: Any = None
        try:
            for table in _pieces(client, view, start, end, times):
                if writer is None:
                    writer = parquet_module.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    place = f"of feed offsets {start + 1} to {end}" if rows else "are in the range; the columns are"
    printing.note(f"helmr: {rows} {view} {place} written to {parquet}")


# --- parts of query -------------------------------------------------------------------------------


def _format_of(out: Path | None) -> Format:
    """Return the format that a file's name ends with; a table for the terminal."""
    if out is None:
        return Format.TABLE
    try:
        return Format(out.suffix.removeprefix(".").lower())
    except ValueError as error:
        raise UsageError(
            f"{out.name} does not say in which format", hint="Give --format csv, json or parquet."
        ) from error


def _text(sql: str) -> str:
    return read_source(sql).decode("utf-8", "replace")


def _print(result: QueryResult, form: Format) -> None:
    match form:
        case Format.TABLE:
            names = [one_line(column.name, None) for column in result.columns]
            rows = result.values()
            printing.table(names, ([_csv_field(value, str) for value in row] for row in rows))
        case Format.CSV if printing.is_terminal(sys.stdout):
            # Others' text: a terminal would obey what stands in it.
            printing.write(_csv(result, show=lambda text: one_line(text, None)).rstrip("\n"))
        case _:
            sys.stdout.buffer.write(_bytes(result, form))
            sys.stdout.buffer.flush()


def _bytes(result: QueryResult, form: Format) -> bytes:
    match form:
        case Format.JSON:
            text = printing.as_json(
                {
                    "columns": [column.model_dump() for column in result.columns],
                    "rows": list(map(list, result.values())),
                    "truncated": result.truncated,
                    "elapsed_s": result.elapsed_s,
                }
            )
            return f"{text}\n".encode()
        case Format.PARQUET:
            return _parquet_bytes(result)
        case Format.CSV:
            return _csv(result).encode()
        case Format.TABLE:
            raise UsageError(
                "a table is for the terminal", hint="Use --format csv, json or parquet."
            )


def _parquet_bytes(result: QueryResult) -> bytes:
    from pyarrow import ArrowNotImplementedError

    from helmr.wire.query import with_durations

    sink = io.BytesIO()
    table = with_durations(_plain(result.arrow()))
    try:
        _parquet().write_table(table, sink)
    except ArrowNotImplementedError as error:
        raise UsageError(
            f"Parquet can't hold the result: {error}", hint="Cast that column to VARCHAR."
        ) from error
    return sink.getvalue()


def _csv(result: QueryResult, show: Callable[[str], str] = str) -> str:
    """Comma separated, quoted where needed; nothing is an empty field, structures are JSON."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([show(column.name) for column in result.columns])
    for row in result.values():
        writer.writerow([_csv_field(value, show) for value in row])
    return sink.getvalue()


def _csv_field(value: Any, show: Callable[[str], str]) -> Any:
    if isinstance(value, dict | list):
        return show(json_module.dumps(value, ensure_ascii=False))
    return show(value) if isinstance(value, str) else value


# --- parts of export ------------------------------------------------------------------------------


def _times(since: datetime | None, until: datetime | None) -> list[str]:
    """Conditions on when an entry was recorded."""
    bounds = ((since, ">="), (until, "<"))
    return [f"{op} TIMESTAMPTZ '{moment.isoformat()}+00'" for moment, op in bounds if moment]


def _range(client: Client, after: int, through: int | None, times: list[str]) -> tuple[int, int]:
    """Return the feed offset to read after and the last to read; later entries are left out."""
    conditions = [f"feed_offset > {after}", *(f"recorded_at {bound}" for bound in times)]
    if through is not None:
        conditions.append(f"feed_offset <= {through}")
    sql = f"SELECT min(feed_offset), max(feed_offset) FROM entries WHERE {' AND '.join(conditions)}"
    first, last = client.query(sql).values()[0]
    return (after, after) if first is None else (int(first) - 1, int(last))


def _pieces(client: Client, view: str, start: int, end: int, times: list[str]) -> Iterator[Any]:
    """The view's rows in feed order, a piece at a time; one that is too large is halved."""
    moment = "recorded_at" if view == "entries" else "created_at"
    size, is_first = EXPORT_CHUNK_ROWS, True
    while start < end or is_first:
        stop = min(start + size, end)
        conditions = [f"feed_offset > {start}", f"feed_offset <= {stop}"]
        conditions += [f"{moment} {bound}" for bound in times]
        sql = f"SELECT * FROM {view} WHERE {' AND '.join(conditions)} ORDER BY feed_offset"
        try:
            result = client.query(sql, limit=QUERY_ROWS_MAX)
        except QueryTooLarge:
            if size == 1:
                raise
            size = max(1, size // 2)
            continue
        yield _plain(result.arrow())
        start, is_first, size = stop, False, min(EXPORT_CHUNK_ROWS, size * 2)


def _plain(table: Any) -> Any:
    """Drop the schema's metadata, which differs with each answer."""
    return table.replace_schema_metadata(None)


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Parquet needs pyarrow, which is not installed",
            hint="pip install 'helmr[sql]'",
            extra="sql",
        ) from error
    return pyarrow.parquet
