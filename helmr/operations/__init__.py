"""The table of operations: everything that the runtime's API does, a row each.

A row is all that the router, the OpenAPI document, the table of roles and the clients know of a route. To add one,
write a row in its module here and a method of the service at its `call`; `tests/http` and `tests/contract` walk the
table.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from helmr.operation import Operation
from helmr.operations import access, runtime, sessions, work
from helmr.operations.access import *  # noqa: F403
from helmr.operations.runtime import *  # noqa: F403
from helmr.operations.sessions import *  # noqa: F403
from helmr.operations.work import *  # noqa: F403


def _named(*modules: ModuleType) -> Iterator[Operation[Any]]:
    """The rows in order, each under its constant's name in lower case."""
    for module in modules:
        for constant, value in vars(module).items():
            if isinstance(value, Operation):
                object.__setattr__(value, "name", constant.lower())
                yield value


OPERATIONS: Final = tuple(_named(sessions, work, access, runtime))
"""All of them, in the order of the docs."""

_BY_NAME = {row.name: row for row in OPERATIONS}


def operation(name: str) -> Operation[Any]:
    """The row of that name, `answer_wait`.

    Raises:
        KeyError: There is none.
    """
    return _BY_NAME[name]
