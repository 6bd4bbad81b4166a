"""Code that changed while a run was parked blocks it, and the old code goes on where it stopped (S-31)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.timeout(240), pytest.mark.allows_blocking]

TASKS = """
import os
from pathlib import Path

from helmr import step, streams, task

approval = streams.input("approval")


def mark(name):
    with (Path(os.environ["HELMR_TEST_MARKS"]) / name).open("a") as file:
        file.write("x")


@step
async def prepare() -> str:
    mark("prepare")
    return "prepared"


@step
async def review() -> str:
    mark("review")
    return "reviewed"


@step
async def publish() -> str:
    mark("publish")
    return "published"


@task
async def release(payload: str) -> str:
    await prepare()
    await review()
    await approval.wait(subject="Release?")
    return await publish()
"""
CHANGED = TASKS.replace("    await prepare()\n    await review()\n", "    await review()\n")


@pytest.mark.parametrize(
    "in_process",
    [True, pytest.param(False, marks=[pytest.mark.ray, pytest.mark.long])],
    ids=["in-process", "ray"],
)
def test_changed_code_blocks_and_retry_with_the_old_code_finishes(
    make_runtime: Callable[..., LiveRuntime], tmp_path: Path, in_process: bool
) -> None:
    source = tmp_path / "source" / "release_tasks.py"
    source.parent.mkdir()
    source.write_text(TASKS)
    live = make_runtime(tasks=source, in_process=in_process)
    session_id = live.begin("release", "1.0")
    wait = live.waiting(session_id)
    live.stop()

    live.tasks.write_text(CHANGED)
    live.start()
    live.client.waits.answer(wait.id, "yes")
    run = live.ended(session_id)
    assert run.status == "blocked"
    assert "step prepare" in run.error.message
    assert "step review" in run.error.message
    live.stop()

    live.tasks.write_text(TASKS)
    live.start()
    retried = subprocess.run(
        [sys.executable, "-m", "helmr.cli", "run", "retry", run.id],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert retried.returncode == 0, retried.stderr
    assert live.ended(session_id).result == "published"
    assert [live.marked(name) for name in ("prepare", "review", "publish")] == [1, 1, 1]
