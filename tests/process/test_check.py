"""`helmr check` and `up --check`: against a runtime, a stopped one, and a thousand sessions (S-89)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from helmr import step, streams, task
from helmr.errors import RunNotNewest
from helmr.models import CheckVerdict
from helmr.tasks import Task
from helmr.testing import Harness
from helmr_runtime.catalog import Registry
from helmr_runtime.launchers.check import RemoteJournals, check_runs
from tests import warm
from tests.stack.live import LiveRuntime
from tests.warm import Piped

pytestmark = pytest.mark.allows_blocking

OLD = """
from helmr import step, streams, task

approval = streams.input("approval")


@step
async def prepare() -> str:
    return "prepared"


@task
async def release(payload: str) -> str:
    await prepare()
    await approval.wait()
    return "done"
"""
ESCAPE = "\\x1b[2J"
NEW = OLD.replace(
    "    await prepare()\n", f"    print('noise')\n    raise ValueError('{ESCAPE}')\n"
)


def helmr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(*arguments, env=environment(folder), cwd=folder)


def environment(folder: Path) -> dict[str, str]:
    """This one without what is set of Helmr."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("HELMR_")}
    return warm.seeded(kept | {"XDG_STATE_HOME": str(folder / "state")})


def test_a_runtime_and_then_its_data_directory_are_checked_and_up_refuses(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    old = code / "old_release.py"
    old.write_text(OLD)
    (tmp_path / "new_release.py").write_text(NEW)
    live = LiveRuntime(tmp_path, tasks=old, in_process=True).start()
    try:
        session_id = live.begin("release", "v1")
        live.waiting(session_id)
        before = live.transcript(session_id)
        where = ["--data-dir", str(live.data_dir)]
        fits = helmr(tmp_path, "check", "old_release.py", *where)
        assert (fits.returncode, fits.stdout) == (0, "")
        differs = helmr(tmp_path, "check", "new_release.py", *where)
        assert differs.returncode == 5
        assert "the journal has step prepare, the code asks for ValueError" in differs.stdout
        assert "\x1b" not in differs.stdout + differs.stderr
        upgrade = helmr(tmp_path, "upgrade-check", "new_release.py", *where)
        assert upgrade.returncode == 5
        assert "fail  runs           1 differs" in upgrade.stdout
        assert "ok    ledger         the runtime has it open" in upgrade.stdout
        wait = live.client.sessions.open(session_id).get().wait
        assert wait is not None
        dry_run = live.client.waits.dry_run(wait.id, "yes")
        assert (dry_run.ended, dry_run.result) == ("returned", "done")
        assert live.transcript(session_id) == before
    finally:
        live.stop()
    stopped = helmr(tmp_path, "check", "new_release.py", "--json", *where)
    assert stopped.returncode == 5, stopped.stderr
    [item] = json.loads(stopped.stdout)["items"]
    assert (item["session_id"], item["verdict"], item["op"]) == (session_id, "differs", 1)
    up = ["up", "new_release.py", "--in-process", "--port", "0", *where]
    refused = helmr(tmp_path, *up, "--check", "refuse")
    assert refused.returncode == 5
    assert "nothing was started" in refused.stderr
    assert starts(tmp_path, *up, "--check", "warn")


def starts(folder: Path, *arguments: str) -> bool:
    """Whether `helmr up` gets ready; it is ended again."""
    env = warm.seeded({**os.environ, "XDG_STATE_HOME": str(folder / "state")})
    with (
        Path(os.devnull).open("wb") as nothing,
        Piped(arguments, env=env, stdout=nothing, cwd=folder) as process,
    ):
        assert process.stderr is not None
        try:
            return any(b"ready on" in line for line in process.stderr)
        finally:
            process.terminate()
            process.wait(30)


approval = streams.input("approval", schema=str)


@task(id="review")
async def review(payload: int) -> str:
    return await approval.wait().unwrap()


@task(id="review")
async def sleepless(payload: int) -> str:
    await approval.history()
    return await approval.wait().unwrap()


def registry(*tasks: object) -> Registry:
    return Registry(tasks, code_hash="new")  # type: ignore[arg-type]  # as the harness takes them


async def test_every_run_that_has_not_ended_is_checked_over_the_routes() -> None:
    async with Harness(review) as harness:
        waiting = [await harness.start(review, n) for n in range(3)]
        ended = await harness.start(review, 9)
        await ended.answer("yes")
        journals = RemoteJournals(harness.async_client())
        checks = await check_runs(journals, registry(sleepless))
        assert sorted(c.session_id for c in checks) == sorted(s.id for s in waiting)
        assert {c.verdict for c in checks} == {CheckVerdict.DIFFERS}
        assert all(c.fits for c in await check_runs(journals, registry(review)))
        missing = await check_runs(journals, registry())
        assert {c.verdict for c in missing} == {CheckVerdict.MISSING}


async def test_only_a_sessions_newest_run_has_a_journal() -> None:
    async with Harness(review) as harness:
        session = await harness.start(review, 1)
        await session.answer("yes")
        client = harness.async_client()
        [first] = [run async for run in client.runs.list()]
        assert (await client.runs.journal(first.id)).status == "succeeded"
        await session.run(2)
        with pytest.raises(RunNotNewest, match=first.id):
            await client.runs.journal(first.id)


@step
async def prepare(number: int) -> int:
    return number


@step
async def prepare_more(number: int) -> int:
    return number


def reviewing(*, is_new: bool) -> Task[..., Any]:
    """Old code prepares every third number, and new code does otherwise for those that can be divided by nine."""

    @task(id="review")
    async def review(payload: int) -> str:
        if payload % 3 == 0:
            is_other = is_new and payload % 9 == 0
            await (prepare_more if is_other else prepare)(payload)
        return await approval.wait().unwrap()

    return review


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_of_a_thousand_waiting_sessions_a_check_names_those_that_then_block() -> None:
    old, new = reviewing(is_new=False), reviewing(is_new=True)
    async with Harness(old) as harness:
        started = [
            await harness.start(old, number, settle=number % 50 == 0) for number in range(1000)
        ]
        await harness.settle()
        journals = RemoteJournals(harness.async_client())
        began = time.monotonic(), time.process_time()
        checks = await check_runs(journals, registry(new))
        took = time.monotonic() - began[0], time.process_time() - began[1]
        assert took[1] < 30, took
        named = {one.session_id for one in checks if not one.fits}
        assert (len(checks), len(named)) == (1000, 112)
        for session in started:
            await session.park()
        harness.deploy(new)
        for session in started:
            await session.answer("yes", settle=False)
        await harness.settle()
        runs = [(await session.state()).run for session in started]
        blocked = {
            session.id
            for session, run in zip(started, runs, strict=True)
            if run is not None and run.status.value == "blocked"
        }
        assert blocked == named
