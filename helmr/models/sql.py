"""The rows that answer a query in SQL."""

from __future__ import annotations

from typing import Any

from helmr.models.common import Wire


class QueryColumn(Wire):
    """A column of a query's result; `type` is the engine's name of it, e.g. `TIMESTAMP WITH TIME ZONE`."""

    name: str
    type: str


class QueryAnswer(Wire):
    """POST /v1/query: rows as lists of JSON values, in the order of `columns`."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    truncated: bool
    """True if there were more rows than `limit`."""
    elapsed_s: float
