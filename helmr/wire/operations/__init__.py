"""The table of operations of the kernel's API, a row each.

The router, the OpenAPI document, the table of roles and the clients know a route only by its row. To add one, write a
row in its module here and a method of the service at its `call`; `tests/http` and `tests/contract` go through the
table.
"""

from __future__ import annotations

from typing import Any, Final

from helmr.wire.operation import Operation, named
from helmr.wire.operations import access, runtime, sessions, work
from helmr.wire.operations.access import *  # noqa: F403
from helmr.wire.operations.runtime import *  # noqa: F403
from helmr.wire.operations.sessions import *  # noqa: F403
from helmr.wire.operations.work import *  # noqa: F403

OPERATIONS: Final = tuple(named(sessions, work, access, runtime))
"""Operations of the kernel, in the order of the docs; a feature has rows of its own (`helmr.features`)."""

_BY_NAME = {row.name: row for row in OPERATIONS}


def operation(name: str) -> Operation[Any]:
    """Return the row of that name, `answer_wait`.

    Raises:
        KeyError: There is none.
    """
    return _BY_NAME[name]
