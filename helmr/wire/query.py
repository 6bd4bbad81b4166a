"""The result of a SQL query: rows of JSON values, or Arrow, polars and pandas tables.

Rows need only Python. Tables need the extra `sql`; asking for one without it raises an error that names the package.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from helmr.errors import BadQuery, MissingExtra, Unavailable
from helmr.models import QueryAnswer, QueryColumn
from helmr.wire import safe_text

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

ARROW_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
METADATA_KEY = b"helmr"
"""Key in the schema of an Arrow stream that holds `{columns, truncated, elapsed_s}` as JSON."""


class QueryResult:
    """The result of a query.

    Args:
        columns: Names and engine types.
        truncated: True if there were more rows than the limit.
        elapsed_s: Seconds that the query took in the ledger.
        rows: The rows as lists of JSON values, if the answer was JSON.
        arrow: The Arrow table, if the answer was Arrow.
    """

    def __init__(
        self,
        columns: Sequence[QueryColumn],
        *,
        truncated: bool,
        elapsed_s: float,
        rows: Sequence[Sequence[Any]] | None = None,
        arrow: pyarrow.Table | None = None,
    ) -> None:
        self.columns = list(columns)
        self.truncated = truncated
        self.elapsed_s = elapsed_s
        self._rows = rows
        self._arrow = arrow

    @classmethod
    def from_answer(cls, answer: QueryAnswer) -> QueryResult:
        """The result in a JSON answer."""
        return cls(
            answer.columns,
            truncated=answer.truncated,
            elapsed_s=answer.elapsed_s,
            rows=answer.rows,
        )

    @classmethod
    def from_arrow(cls, stream: bytes) -> QueryResult:
        """The result in an Arrow IPC stream of the runtime.

        Raises:
            Unavailable: It can't be read.
        """
        pyarrow = _imported("pyarrow", ".arrow()")
        try:
            table = importlib.import_module("pyarrow.ipc").open_stream(stream).read_all()
            facts = json.loads(table.schema.metadata[METADATA_KEY])
        except (pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"the query's answer can't be read: {error}") from error
        return cls(
            [QueryColumn.model_validate(column) for column in facts["columns"]],
            truncated=facts["truncated"],
            elapsed_s=facts["elapsed_s"],
            arrow=table,
        )

    @classmethod
    def read(cls, media_type: str, content: bytes) -> QueryResult:
        """The result in an answer of the runtime, whichever type it has."""
        if media_type == ARROW_MEDIA_TYPE:
            return cls.from_arrow(content)
        return cls.from_answer(QueryAnswer.model_validate_json(content))

    def __len__(self) -> int:
        if self._rows is not None:
            return len(self._rows)
        assert self._arrow is not None
        return int(self._arrow.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())

    def __repr__(self) -> str:
        more = ", truncated" if self.truncated else ""
        return f"<QueryResult {len(self)} rows of {', '.join(c.name for c in self.columns)}{more}>"

    def _repr_html_(self) -> str:
        shown = self.values()[: safe_text.ROWS_MAX]
        return safe_text.table([c.name for c in self.columns], shown, more=len(self) - len(shown))

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts of JSON values, the same from JSON and Arrow answers. Times are ISO 8601 texts, intervals
        are SQL texts, bytes are hex, NaN and infinity are None.

        Raises:
            BadQuery: A date is not in the years 1 to 9999.
        """
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.values()]

    def values(self) -> Sequence[Sequence[Any]]:
        """The rows as lists, in the order of `columns`; raises as `rows`."""
        if self._rows is None:
            assert self._arrow is not None
            try:
                self._rows = list(json_rows(self._arrow.to_batches()))
            except OverflowError as error:
                raise BadQuery(
                    "a date that is infinite or not in the years 1 to 9999 has no JSON",
                    hint="Cast it to VARCHAR.",
                ) from error
        return self._rows

    def arrow(self) -> pyarrow.Table:
        """The result as an Arrow table.

        Raises:
            MissingExtra: pyarrow is not installed, here or where the runtime is.
        """
        _imported("pyarrow", ".arrow()")
        if self._arrow is None:
            raise MissingExtra(
                "the result came as rows, whose values have lost their types: "
                "tables need pyarrow where the runtime is installed, too",
                hint="In the runtime's environment: pip install 'helmr[sql]'. `.rows()` needs nothing.",
                extra="sql",
            )
        return self._arrow

    def polars(self) -> polars.DataFrame:
        """The result as a polars frame; intervals are durations.

        Raises:
            MissingExtra: polars or pyarrow is not installed here, or pyarrow not in the runtime.
            BadQuery: An interval has months, which are no duration, or stands in a list or structure.
        """
        frames = _imported("polars", ".polars()")
        frame: polars.DataFrame = frames.from_arrow(with_durations(self.arrow()))
        return frame

    def pandas(self) -> pandas.DataFrame:
        """The result as a pandas frame; intervals are durations.

        Raises:
            MissingExtra: pandas or pyarrow is not installed here, or pyarrow not in the runtime.
            BadQuery: An interval has months, which are no duration, or stands in a list or structure.
        """
        _imported("pandas", ".pandas()")
        frame: pandas.DataFrame = with_durations(self.arrow()).to_pandas()
        return frame


def has_arrow() -> bool:
    """True if results can come as Arrow."""
    return importlib.util.find_spec("pyarrow") is not None


def with_durations(table: pyarrow.Table) -> pyarrow.Table:
    """The table with durations for intervals, which neither frames nor Parquet have. A day has 24 hours.

    Raises:
        BadQuery: An interval has months or stands in a list or structure.
    """
    arrow = importlib.import_module("pyarrow")
    interval = arrow.month_day_nano_interval()
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if str(interval) not in str(column.type):
            continue
        values = column.to_pylist() if column.type == interval else None
        if values is None or any(value.months for value in values if value is not None):
            raise BadQuery(
                f"column {name!r} has intervals that are not durations: "
                "they count months, or are part of another value",
                hint="Cast it to VARCHAR.",
            )
        lengths = [
            None if value is None else timedelta(value.days, 0, value.nanoseconds // 1000)
            for value in values
        ]
        table = table.set_column(place, name, arrow.array(lengths, arrow.duration("us")))
    return table


def json_rows(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[list[Any]]:
    """Rows of Arrow batches as lists of JSON values."""
    for batch in batches:
        yield from map(list, zip(*map(_json_column, batch.columns), strict=True))


def _json_column(column: Any) -> list[Any]:
    if getattr(column.type, "tz", None) is not None:
        # Instants are stored in UTC; saying so avoids a look-up of time zones on this machine.
        moments = column.cast(importlib.import_module("pyarrow").timestamp("us")).to_pylist()
        return [None if moment is None else f"{json_value(moment)}Z" for moment in moments]
    return [json_value(value) for value in column.to_pylist()]


def json_value(value: Any) -> Any:
    """Return a value as JSON has it, for `QueryResult.rows`."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo is not None else value
            text = moment.isoformat(timespec="microseconds")
            return text.removesuffix("+00:00") + "Z" if value.tzinfo is not None else text
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case dict():
            return {str(key): json_value(item) for key, item in value.items()}
        case tuple() if hasattr(value, "nanoseconds"):
            return _interval(*value)
        case list() | tuple():
            return [json_value(item) for item in value]
        case _:
            return str(value)


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """Return an interval as SQL writes it: `1 year 2 days 03:00:00.5`."""
    years = int(months / 12)
    counts = ((years, "year"), (months - 12 * years, "month"), (days, "day"))
    parts = [f"{count} {unit}{'s' * (abs(count) != 1)}" for count, unit in counts if count]
    if nanoseconds or not parts:
        whole_s, microseconds = divmod(abs(nanoseconds) // 1000, 1_000_000)
        minutes, second = divmod(whole_s, 60)
        fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
        sign = "-" if nanoseconds < 0 else ""
        parts.append(f"{sign}{minutes // 60:02}:{minutes % 60:02}:{second:02}{fraction}")
    return " ".join(parts)


def _imported(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtra(
            f"{what} needs {name}, which is not installed",
            hint="pip install 'helmr[sql]'",
            extra="sql",
        ) from error
