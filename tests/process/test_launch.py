"""A start that has to wait says for what."""

from __future__ import annotations

from typing import Any, cast

import pytest

from helmr.errors import NotReady, StoreUnavailable
from helmr_runtime.process.launch import Launch
from helmr_runtime.rpc.protocol import Calls as AnyCalls


class Calls:
    """Actors that are not ready a few times."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def call(self, *_: Any) -> None:
        """Raise what is left to raise."""
        if self._errors:
            raise self._errors.pop(0)


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([NotReady("it starts")], []),
        ([StoreUnavailable("x.duckdb can't be opened: no")] * 3, ["x.duckdb can't be opened: no"]),
    ],
)
async def test_the_person_hears_once_of_a_file_that_can_not_be_opened(
    errors: list[Exception], said: list[str]
) -> None:
    heard: list[str] = []
    calls = cast("AnyCalls", Calls(*errors))
    launch = Launch(cast("Any", None), cast("Any", None), calls, on_up=print, say=heard.append)
    await launch._until_answered("helmr-gateway", launch._ask_gateway)
    assert heard == said
