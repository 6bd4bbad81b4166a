"""`embedded` with real runtimes: from a task, around an event loop's work, and joined by other processes."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from helmr import Client, embedded
from helmr.errors import Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.allows_blocking]

TASKS = """
from helmr import streams, task

yes = streams.input("yes", schema=bool)

@task(id="ask")
async def ask(question: str) -> bool:
    return await yes.wait(subject=question).unwrap()
"""

WORKER = """
import sys
from helmr import embedded
with embedded.start("asking.py", data_dir="data", join=True) as runtime, runtime.client() as client:
    [wait] = client.waits.list()
    client.waits.answer(wait.id, True)
    print(runtime.is_joined, runtime.url)
"""


@pytest.mark.parametrize(
    "in_process",
    [
        pytest.param(True, id="in-process"),
        pytest.param(False, id="ray", marks=[pytest.mark.ray, pytest.mark.long]),
    ],
)
async def test_an_app_runs_one_for_its_lifespan_and_its_other_workers_join_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "asking.py"
    path.write_text(TASKS)
    spec = importlib.util.spec_from_file_location("asking", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "asking", module)
    spec.loader.exec_module(module)

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    async with embedded.running(
        module.ask, data_dir="data", sessions_per_host=1, join=True, in_process=in_process
    ) as runtime:
        assert ticks > 10, "the loop goes on while it starts"
        assert not runtime.is_joined
        async with runtime.async_client() as client:
            started = await client.sessions.start_and_wait(module.ask, "?", timeout="30s")
            said = await asyncio.to_thread(_worker, tmp_path)
            assert said == f"True {runtime.url}"
            run = await client.runs.wait(started.started_run.id, timeout="30s")
            assert run.result is True, "the worker's end has not ended the runtime"
    ticking.cancel()
    with pytest.raises(Unavailable):
        await asyncio.to_thread(Client, data_dir="data")


def _worker(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        cwd=folder,
        env={"PATH": "", "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": _root()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _root() -> str:
    return str(Path(__file__).resolve().parents[2])
