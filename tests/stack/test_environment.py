"""Master keys that come by the environment stay with ledger and gateway."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.allows_blocking
def test_task_code_finds_no_master_key(tmp_path: Path) -> None:
    keys = "k1:" + base64.b64encode(bytes(range(32))).decode()
    runtime = LiveRuntime(
        tmp_path,
        tasks=Path(__file__).with_name("environment_tasks.py"),
        environ={"HELMR_MASTER_KEYS": keys},
    )
    try:
        runtime.start()
        session_id = runtime.begin("environment")
        assert runtime.ended(session_id).result == ["", ""]
        assert not (runtime.data_dir / "master-keys.json").exists()
    finally:
        runtime.stop()
