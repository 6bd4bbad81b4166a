"""What `embedded` says before it starts anything: missing extras, and tasks that no other process finds."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helmr import embedded, task
from helmr.errors import Conflict, UsageError
from helmr.examples.chat import chat
from tests.longer import long_but

SOURCE = """
from helmr import task

@task
async def greet(name: str) -> str:
    return f"Hello {name}"

def make():
    @task
    async def inner(name: str) -> str:
        return name
    return inner
"""

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from helmr import embedded
from helmr.errors import MissingExtra
try:
    embedded.start("tasks.py")
except MissingExtra as error:
    print(error.message, "|", error.hint)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's file of tasks, imported."""
    path = tmp_path / "greetings.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("greetings", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "greetings", found)
    spec.loader.exec_module(found)
    return found


@long_but(1, "missing", ["ray", "duckdb", "starlette", "uvicorn"])
def test_a_missing_extra_is_named_with_its_pip_line(missing: str, project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing],
        cwd=project_root,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert f"no module {missing}" in done.stdout
    instead = ", or run it without Ray: `helmr up --in-process`" if missing == "ray" else "\n"
    assert f"| pip install 'helmr[runtime]'{instead}" in done.stdout


def test_a_task_stands_for_its_file_or_its_dotted_module(module: ModuleType) -> None:
    assert embedded.module_of(module.greet) == module.__file__
    assert embedded.module_of(chat) == "helmr.examples.chat"


def test_a_script_stands_for_its_file(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{SOURCE}\nfrom helmr import embedded\nprint(embedded.module_of(greet))\n")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(script)


def test_a_task_that_is_nowhere_to_be_imported_from_is_refused(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="inner is not among the globals of greetings"):
        embedded.start(module.make())

    @task
    async def typed(name: str) -> str:
        return name

    notebook = ModuleType("__main__")
    vars(notebook).update(typed=typed, __spec__=None)
    typed.function.__module__ = "__main__"
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    with pytest.raises(UsageError, match="declared in a notebook") as refused:
        embedded.start(typed)
    assert refused.value.hint is not None
    assert "%%writefile" in refused.value.hint


def test_only_a_data_directory_can_be_joined() -> None:
    with pytest.raises(UsageError, match="data directory"):
        embedded.start("tasks.py", join=True)


def test_who_comes_second_joins_when_the_first_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def is_taken(data_dir: object, options: object) -> None:
        tries.append(data_dir)
        if len(tries) == 2:
            path = tmp_path / "credentials.json"
            there = {"url": "http://127.0.0.1:9", "key": "k", "pid": os.getpid()}
            path.write_text(json.dumps({**there, "data_dir": str(tmp_path)}))
            path.chmod(0o600)
        raise Conflict("in use by the runtime with pid 1")

    monkeypatch.setattr(embedded, "_started", is_taken)
    runtime = embedded.start("tasks.py", data_dir=tmp_path, join=True)
    assert (runtime.url, runtime.is_joined, len(tries)) == ("http://127.0.0.1:9", True, 2)
    runtime.stop()
    with pytest.raises(Conflict):
        embedded.start("tasks.py", data_dir=tmp_path)
