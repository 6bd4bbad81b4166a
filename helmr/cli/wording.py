"""Data on the command line: `key=value` words, or JSON behind an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from helmr.cli import reading
from helmr.errors import UsageError
from helmr.forms import MISSING, assignments

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Its fields; KEY:=JSON for JSON as it stands."),
]


class Said:
    """What the command line says that data is.

    Args:
        words: As `key=value`.
        data: As JSON.

    Raises:
        UsageError: Both are given.
    """

    def __init__(
        self, words: list[str] | None, data: str | None, *, option: str = "--data"
    ) -> None:
        if words and data is not None:
            raise UsageError(
                f"it is given twice, by key=value and by {option}", hint="Give one of them."
            )
        self._given = assignments.read(words or [])
        self._data = data
        self.value = MISSING if data is None else reading.json_argument(data, option=option)

    def __bool__(self) -> bool:
        return bool(self._given) or self._data is not None

    @property
    def needs_schema(self) -> bool:
        """Only the schema says what the words mean."""
        return bool(self._given)

    def to(self, schema: Mapping[str, Any] | bool | None, initial: Any = MISSING) -> Any:
        """The data, for what has this schema.

        Raises:
            UsageError: A word names no field of it, or is not of the field's type.
        """
        if not self._given:
            return self.value
        return assignments.assigned(self._given, schema, initial=initial)
