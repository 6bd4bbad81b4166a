"""A call about many runs has as much more time as there are runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from helmr.client.bulk import PART, SECONDS_EACH, AsyncBulk
from helmr.client.calls import READ_TIMEOUT_S, Call
from helmr.errors import Unavailable
from helmr.models import BulkPlan, BulkVerb, PlannedRun


class Away:
    """A transport that keeps what was called, and gets no answer."""

    def __init__(self) -> None:
        self.longer_s: list[float] = []

    async def call(self, made: Call[Any]) -> Any:
        self.longer_s.append(made.read_timeout_s - READ_TIMEOUT_S)
        raise Unavailable("away")


@pytest.mark.parametrize(
    ("meant", "count"), [({"session_ids": ["ses_1"] * 300}, 300), ({"filter": "", "limit": 7}, 7)]
)
async def test_a_preview_has_time_for_each_that_may_be_in_it(
    meant: dict[str, Any], count: int
) -> None:
    away = Away()
    with pytest.raises(Unavailable):
        await AsyncBulk(cast(Any, away)).preview("retry", **meant)
    assert away.longer_s == [SECONDS_EACH * count]


async def test_what_is_done_has_time_for_each_of_its_part() -> None:
    away = Away()
    run = PlannedRun(
        run_id="run_1", session_id="ses_1", attempt=1, operation_id="op_1", task="pay", status=""
    )
    made_at = datetime(2026, 11, 30, tzinfo=UTC)
    plan = BulkPlan(id="b", verb=BulkVerb.RETRY, made_at=made_at, runs=(run,) * 50)
    with pytest.raises(Unavailable):
        _ = [one async for one in AsyncBulk(cast(Any, away)).do(plan)]
    assert away.longer_s == [SECONDS_EACH * PART]
