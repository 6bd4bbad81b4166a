"""A user's own `runtime.py` and `console.py` are theirs: no import package of Helmr has such a name."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.stack.live import LiveRuntime, until

pytestmark = pytest.mark.slow

OWN = {
    "runtime.py": 'WHO = "my runtime"\n',
    "console.py": 'WHO = "my console"\n',
    "naming.py": """
import console, runtime
from helmr import task

@task(id="names")
async def names(payload: None) -> list[str]:
    return [runtime.WHO, console.WHO]
""",
    "script.py": """
import asyncio

import console, runtime
from helmr import embedded
from helmr.testing import Harness
from naming import names

async def tested():
    async with Harness(names) as harness:
        session = await harness.start(names, None)
        return await session.result()

assert asyncio.run(tested()) == ["my runtime", "my console"]
with embedded.start("naming.py", data_dir="embedded", in_process=True) as started, started.client() as client:
    run = client.sessions.start_and_wait("names", None).started_run
    assert run.result == ["my runtime", "my console"], run
assert (runtime.__file__, console.__file__) == (runtime.__spec__.origin, console.__spec__.origin)
print(runtime.WHO, console.WHO)
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script, a task file, and modules of these names beside them."""
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.timeout(180)
def test_a_script_with_modules_of_these_names_tests_and_embeds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "my runtime my console"


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(180)
def test_helmr_up_runs_tasks_beside_modules_of_these_names(folder: Path, tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    live = LiveRuntime(
        home,
        tasks=folder / "naming.py",
        beside=[folder / "runtime.py", folder / "console.py"],
    )
    live.start()
    try:
        session = live.begin("names", None)
        run = until(
            lambda: found if (found := live.newest_run(session)).result else None,
            within_s=30,
            what="the task has run",
        )
        assert run.result == ["my runtime", "my console"]
    finally:
        live.stop()


@pytest.mark.timeout(120)
def test_the_wheels_packages_all_begin_with_helmr(project_root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "uv",
        "build",
        "--quiet",
        "--wheel",
        "--out-dir",
        str(tmp_path),
    ]
    subprocess.run([*command, str(project_root)], check=True, timeout=100)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "helmr",
        "helmr_runtime",
        "helmr_console",
    }
