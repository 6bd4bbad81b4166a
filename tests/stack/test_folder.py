"""Task code runs in the folder where `helmr up` was typed, as it was imported there."""

from __future__ import annotations

import pytest

from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.allows_blocking]


def test_what_a_step_writes_under_a_relative_name_is_there_afterwards(shared: LiveRuntime) -> None:
    run = shared.ended(shared.begin("writes_beside"))
    assert run.result == str(shared.folder.resolve())
    assert (shared.folder / "beside.txt").read_text() == "kept"
