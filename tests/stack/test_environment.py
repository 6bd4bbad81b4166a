"""Master keys that come by the environment stay with ledger and gateway."""

from __future__ import annotations

import pytest

from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.allows_blocking]


def test_task_code_finds_no_master_key(shared: LiveRuntime) -> None:
    session_id = shared.begin("environment")
    assert shared.ended(session_id).result == ["", ""]
    assert not (shared.data_dir / "master-keys.json").exists()
