"""Which values of a parametrised test are for `make test-long` alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

GIVEN = type(pytest.param())


def long_but(
    first: int, names: str | Sequence[str], values: Iterable[Any], **options: Any
) -> pytest.MarkDecorator:
    """`pytest.mark.parametrize`, with all but the first values marked long.

    `make test` tries the promise on those; the others show the same once more.
    """
    is_one = isinstance(names, str) and "," not in names

    def as_long(value: Any) -> Any:
        if not isinstance(value, GIVEN):
            value = pytest.param(value) if is_one else pytest.param(*value)
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.long], id=value.id)

    marked = [value if at < first else as_long(value) for at, value in enumerate(values)]
    return pytest.mark.parametrize(names, marked, **options)
