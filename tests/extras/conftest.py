"""The wheel, and fresh environments with one extra each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
UV = (sys.executable, "-m", "uv")
RUN_WITHIN_S = 240


class Fresh:
    """An environment of its own, in an empty folder with a user's task file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "HELMR_URL")
        } | {
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": str(HERE),  # where the task file is
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }

    def installed_bytes(self) -> int:
        """How much of the disk its packages take."""
        files = (self.folder / "venv" / "lib").rglob("*")
        return sum(one.stat().st_size for one in files if not one.is_symlink() and one.is_file())

    def installs(self, *packages: str) -> None:
        """These too, as new as they are."""
        there = ["--quiet", "--python", str(self.python)]
        command = [*UV, "pip", "install", *there, *packages]
        subprocess.run(command, check=True, timeout=RUN_WITHIN_S)

    def begin(self, *arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
        """Its Python with these arguments, talked to through pipes."""
        return subprocess.Popen(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same to its end."""
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=RUN_WITHIN_S,
            check=False,
        )

    def does(self, script: str, *arguments: str) -> None:
        """A script beside this file ends well."""
        done = self.run(str(HERE / script), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people install."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [*UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(project_root)]
    subprocess.run(command, check=True, timeout=RUN_WITHIN_S)
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def fresh(
    wheel: Path, project_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Fresh]:
    """Makes an environment that has the wheel with that extra; "" has none."""

    def make(extra: str) -> Fresh:
        one = Fresh(tmp_path_factory.mktemp(extra or "base"))
        venv = str(one.folder / "venv")
        subprocess.run([*UV, "venv", "--quiet", "--python", sys.executable, venv], check=True)
        what = f"helmr[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
        pins = str(project_root / "constraints.txt")
        there = ["--quiet", "--python", str(one.python)]
        install = [*UV, "pip", "install", *there, "--constraint", pins, what]
        subprocess.run(install, check=True, timeout=RUN_WITHIN_S)
        subprocess.run([*UV, "pip", "check", *there], check=True)
        return one

    return make


@pytest.fixture(scope="session")
def runtime(fresh: Callable[[str], Fresh]) -> Iterator[tuple[str, str]]:
    """URL and key of a runtime in an environment that has nothing but the extra `runtime`."""
    with fresh("runtime").begin(str(HERE / "alone_runtime.py")) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line, "the runtime did not come up; what it said is above"
        said = json.loads(line)
        yield said["url"], said["key"]
        running.stdin.close()
        assert running.wait(RUN_WITHIN_S) == 0
