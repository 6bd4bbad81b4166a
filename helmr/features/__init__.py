"""The features of Helmr, a folder each.

A line in `helmr.features.names` enables a feature. The kernel imports none: the starting program passes them in.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final

from helmr.feature import Feature, operations_of
from helmr.features.names import NAMES
from helmr.wire import operations

if TYPE_CHECKING:
    from typing import Any

    from helmr.features.gate.blocking import Grants, Outcomes
    from helmr.features.gate.client import AsyncGrants, AsyncOutcomes
    from helmr.features.schedules.blocking import Schedules
    from helmr.features.schedules.client import AsyncSchedules
    from helmr.wire.operation import Operation

FEATURES: Final[tuple[Feature, ...]] = tuple(
    import_module(f"{__name__}.{name}").FEATURE for name in NAMES
)
"""Return all features."""

OPERATIONS: Final[tuple[Operation[Any], ...]] = (*operations.OPERATIONS, *operations_of(FEATURES))
"""Return the whole table: the rows of the kernel, then those of features."""


def client_parts() -> Iterator[tuple[str, tuple[str, str]]]:
    """Return the noun of each part of the clients, with its awaited and blocking class as `module:class`."""
    return (part for one in FEATURES for part in one.client.items())


class AsyncParts:
    """Parts of an `AsyncClient` from features, for type checkers."""

    schedules: AsyncSchedules
    grants: AsyncGrants
    outcomes: AsyncOutcomes


class BlockingParts:
    """Parts of a `Client` from features, for type checkers."""

    schedules: Schedules
    grants: Grants
    outcomes: Outcomes
