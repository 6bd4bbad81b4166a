"""What a step hands to Ray takes along what no worker can import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helmr_runtime.catalog import Registry, load_modules
from helmr_runtime.process.host import loaded, modules_in

TASK = """
import by_value_beside
from by_value_package.inner import two
import json, helmr

@helmr.task(id="t")
async def t(payload: int) -> int:
    return two()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "by_value_task.py").write_text(TASK)
    (tmp_path / "by_value_beside.py").write_text("")
    package = tmp_path / "by_value_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("def two() -> int:\n    return 2\n")
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("by_value_")]:
        del sys.modules[name]


def test_modules_that_only_the_task_folder_brings_are_registered(folder: Path) -> None:
    found: list[ModuleType] = []
    registry = loaded(lambda: load_modules(["by_value_task.py"], folder=folder), found.append)
    assert isinstance(registry, Registry)
    assert [module.__name__ for module in found] == [
        "by_value_beside",
        "by_value_package",  # and with it what is below
        "by_value_task",
    ]


def test_modules_that_every_process_finds_are_not(folder: Path) -> None:
    sys.path.append(str(folder))  # as PYTHONPATH does, or an installed package
    found: list[ModuleType] = []
    loaded(lambda: load_modules(["by_value_task.py"], folder=folder), found.append)
    assert found == []


def test_helmr_itself_never_is(project_root: Path) -> None:
    import helmr.examples.chat  # noqa: F401 - is loaded now, from this folder

    names = [module.__name__ for module in modules_in([project_root], dict(sys.modules))]
    assert not {"helmr", "helmr_runtime", "helmr_console"} & set(names)
