"""`up`, `down`, `demo` and `console`: what they check before they start or end anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helmr.cli.config import tasks_of_project
from helmr.errors import MissingExtra, UsageError
from helmr.version import needed
from tests.cli.conftest import process


def test_up_without_tasks_says_how_to_name_them(helmr) -> None:
    said = helmr("up")
    assert said.code == 2
    assert said.err.splitlines()[0] == "helmr: no tasks are named"
    assert "pyproject.toml" in said.err


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ('[tool.helmr]\ntasks = ["a.py", "b.c"]', ["a.py", "b.c"]),
        ("[tool.helmr]\ntasks = []", []),
        ("[tool.other]\nx = 1", []),
        ("", []),
    ],
)
def test_tasks_of_the_project(nowhere: Path, text: str, tasks: list[str]) -> None:
    (nowhere / "pyproject.toml").write_text(text)
    assert tasks_of_project(nowhere) == tasks


@pytest.mark.parametrize(
    "text",
    [
        "[tool",
        '[tool.helmr]\ntasks = "a"',
        "[tool.helmr]\ntasks = [1]",
        "tool = 1",
        "[tool]\nhelmr = 1",
    ],
)
def test_a_pyproject_that_makes_no_sense_is_told(helmr, nowhere: Path, text: str) -> None:
    (nowhere / "pyproject.toml").write_text(text)
    said = helmr("up")
    assert said.code == 2
    assert "pyproject.toml" in said.err.splitlines()[0]
    with pytest.raises(UsageError):
        tasks_of_project(nowhere)


@pytest.mark.parametrize(
    "words",
    [["--linger", "soon"], ["--port", "70000"], ["--hosts", "0"], ["--port", "x"]],
)
def test_up_with_options_that_make_no_sense(helmr, words: list[str]) -> None:
    said = helmr("up", "tasks.py", *words)
    assert said.code == 2
    assert said.err.startswith("helmr: ")


def test_one_process_joins_no_cluster(helmr, nowhere: Path) -> None:
    said = helmr("up", "x.py", "--in-process", "--address", "auto")
    assert said.code == 2
    assert said.err.startswith("helmr: a runtime in one process can't join a cluster")


NO_MODULE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from helmr.cli.main import invoke
sys.exit(invoke(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("missing", "words", "extra", "instead"),
    [
        ("ray,duckdb,starlette,uvicorn", ["up", "x.py"], "local", ""),
        ("ray", ["up", "x.py", "--ray"], "runtime", ", or run it without Ray"),
        ("ray,duckdb", ["demo"], "local", ""),
        ("ray", ["demo", "--ray"], "runtime", ", or run it without Ray"),
        ("textual", ["console", "--url", "http://127.0.0.1:1"], "console", ""),
    ],
)
def test_a_missing_extra_is_named_and_what_does_without_it(
    nowhere: Path, missing: str, words: list[str], extra: str, instead: str
) -> None:
    """What is missing follows from the form, which `helmr.toml` says unless the command does."""
    (nowhere / "x.py").write_text("")
    (nowhere / "helmr.toml").write_text('[runtime]\nform = "in-process"\n')
    done = subprocess.run(
        [sys.executable, "-c", NO_MODULE, missing, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    first, hint = done.stderr.splitlines()[-2:]
    assert first.startswith(f"helmr: this needs the extra `{extra}`")
    assert hint.startswith(f"hint: pip install 'helmr[{extra}]'{instead}")


def test_a_module_of_nobodys_extra_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError), needed("runtime"):
        import nothing_of_that_name  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(MissingExtra), needed("runtime"):
        raise ModuleNotFoundError("x", name="duckdb.core")


def _credentials(folder: Path, pid: int) -> Path:
    data_dir = folder / ".helmr"
    data_dir.mkdir()
    path = data_dir / "credentials.json"
    content = {"url": "http://127.0.0.1:1", "key": "k", "pid": pid, "data_dir": str(data_dir)}
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


def test_down_ends_the_runtime_and_waits_for_it(helmr, nowhere: Path) -> None:
    script = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {15}); print(1, flush=True); signal.sigwait({15})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as runtime:
        assert runtime.stdout is not None
        runtime.stdout.readline()
        _credentials(nowhere, runtime.pid)
        said = helmr("down")
        assert said.code == 0
        assert said.out == f"http://127.0.0.1:1 has ended (pid {runtime.pid}).\n"
        assert runtime.wait(10) == 0


def test_down_says_when_it_takes_too_long(helmr, nowhere: Path) -> None:
    script = (
        "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as runtime:
        try:
            assert runtime.stdout is not None
            runtime.stdout.readline()
            _credentials(nowhere, runtime.pid)
            said = helmr("down", "--timeout", "100ms")
        finally:
            runtime.kill()
    assert said.code == 6
    assert "has not ended within 0.1s" in said.err


def test_down_of_a_runtime_elsewhere_is_refused(helmr, nowhere: Path) -> None:
    said = helmr("down", "--url", "http://192.0.2.1:4356")
    assert said.code == 2
    assert "not a runtime that this user started" in said.err


def test_down_without_a_runtime(helmr, nowhere: Path) -> None:
    assert helmr("down").code == 6


def test_a_warning_of_the_client_is_a_line_of_its_own(nowhere: Path) -> None:
    _credentials(nowhere, os.getpid()).chmod(0o644)
    said = process("session", "list")
    assert said.code == 6
    assert said.err.startswith("helmr: ")
    assert "chmod 600" in said.err.splitlines()[0]


def test_signals_have_the_numbers_that_the_codes_say() -> None:
    assert 128 + signal.SIGINT == 130
    assert 128 + signal.SIGPIPE == 141
