"""What a list is asked for, as conditions of SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helmr.models import ListQuery
from helmr.models.queries import SESSION_IDS
from helmr_runtime.core import jsontext
from helmr_runtime.ledger.tables import rows

How = tuple[str, Callable[[Any], Any]]
"""A condition with `{0}` where its value stands, and what the value is in SQL."""


@dataclass(slots=True)
class Conditions:
    """Conditions that must all hold, and their parameters.

    Attributes:
        values: The parameters, from `$1` on; others may be added for other parts of the statement.
    """

    terms: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, term: str, value: Any) -> None:
        """One more, with `{0}` where the value stands."""
        self.terms.append(term.format(self.value(value)))

    def value(self, value: Any) -> str:
        """A parameter, as it stands in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"

    def __str__(self) -> str:
        return " AND ".join(self.terms) if self.terms else "true"


def wanted(query: ListQuery, special: Mapping[str, How]) -> Conditions:
    """The conditions of a query's filters: equal to the column of its name, but for what is `special`."""
    found = Conditions()
    for name, value in query.filters().items():
        if name in special:
            term, made = special[name]
            found.add(term, made(value))
        elif name in SESSION_IDS:
            found.add(f"{COLUMNS.get(name, name)} = {{0}}::UUID", rows.uuid_of(value))
        else:
            found.add(f"{name}::VARCHAR = {{0}}", value)
    return found


COLUMNS = {"session_id": "session", "forked_from": "origin"}
"""Filters by session whose column has another name."""


def tagged(*columns: str) -> How:
    """A tag's JSON text stands in the list's text only as an element of it."""
    return "(" + " OR ".join(
        f"contains({column}, {{0}})" for column in columns
    ) + ")", jsontext.encode
