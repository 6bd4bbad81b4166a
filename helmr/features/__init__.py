"""The features of Helmr, a folder each.

A line of `helmr.features.names` has a feature in use. The kernel imports none: who starts something hands them in.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final

from helmr import operations
from helmr.feature import Feature, operations_of
from helmr.features.names import NAMES

if TYPE_CHECKING:
    from typing import Any

    from helmr.features.schedules.blocking import Schedules
    from helmr.features.schedules.client import AsyncSchedules
    from helmr.operation import Operation

FEATURES: Final[tuple[Feature, ...]] = tuple(
    import_module(f"{__name__}.{name}").FEATURE for name in NAMES
)
"""All of them."""

OPERATIONS: Final[tuple[Operation[Any], ...]] = (*operations.OPERATIONS, *operations_of(FEATURES))
"""The whole table: the rows of the kernel, then those of features."""


def client_parts() -> Iterator[tuple[str, tuple[str, str]]]:
    """The name of each part of the clients, and where the awaited and the blocking one are, as `module:class`."""
    return ((one.name, one.client) for one in FEATURES if one.client is not None)


class AsyncParts:
    """The parts of an `AsyncClient` that features bring, for type checkers."""

    schedules: AsyncSchedules


class BlockingParts:
    """The parts of a `Client` that features bring, for type checkers."""

    schedules: Schedules
