"""The features of Helmr, a folder each.

A feature is a folder here, and one in `helmr_runtime.features` and in `helmr_console.features` if it needs them; a line
of `FEATURES` has all of them in use. The kernel imports no feature: who starts something hands them in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from helmr import operations
from helmr.feature import Feature, operations_of
from helmr.features import schedules
from helmr.operation import Operation

if TYPE_CHECKING:
    from helmr.features.schedules.blocking import Schedules
    from helmr.features.schedules.client import AsyncSchedules

FEATURES: Final[tuple[Feature, ...]] = (schedules.FEATURE,)
"""All of them, in the order of the docs."""


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
