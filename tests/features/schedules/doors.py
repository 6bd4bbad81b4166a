"""What the feature writes first, for the tests of its door."""

from __future__ import annotations

from helmr.wire.timing import timing
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.features.schedules.facts import WriteSchedule

FACT = WriteSchedule(
    principal=RUNTIME,
    name="hourly",
    task="review",
    payload=None,
    timing=timing(every="1h").model_dump(exclude_none=True),
)
