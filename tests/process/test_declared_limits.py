"""Limits that code and `helmr.toml` declare, and what is refused before anything starts (S-121)."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.errors import BadDefinition
from helmr.limits import Limit, read_limits
from helmr_runtime.catalog import DeclaredLimits, load_modules

CODE = """
from helmr import Limit, step, task

openai = Limit("openai", at_once=8, per=200, within="1m")


@step(limit=openai)
async def ask() -> None: ...


class Client:
    @step(limit="search")
    async def search(self) -> None: ...


@task(limit="runs")
async def limited(payload: None) -> None: ...
"""
SAID = {"search": {"unlimited": True}, "runs": {"at_once": 3}}


def declared(folder: Path, name: str, code: str = CODE) -> DeclaredLimits:
    (folder / f"{name}.py").write_text(code)
    return load_modules([f"{name}.py"], folder=folder).limits


def test_what_the_file_says_goes_before_the_code(tmp_path: Path) -> None:
    limits = declared(tmp_path, "limited_tasks_a")
    assert limits.settled(read_limits(SAID, "f")) == {
        "openai": {"at_once": 8, "per": 200, "within": 60.0},
        "search": {"unlimited": True},
        "runs": {"at_once": 3},
    }
    said = read_limits({**SAID, "openai": {"at_once": 1}}, "f")
    assert limits.settled(said)["openai"] == {"at_once": 1}


def test_a_name_that_no_one_declares_refuses_the_start(tmp_path: Path) -> None:
    limits = declared(tmp_path, "limited_tasks_b")
    with pytest.raises(BadDefinition, match="step search: limit search is not declared") as refused:
        limits.settled({"runs": Limit("runs", at_once=1)})
    assert "[limits.search]" in str(refused.value.hint)


def test_a_limit_of_a_task_has_at_once_alone_and_is_none_of_steps(tmp_path: Path) -> None:
    limits = declared(tmp_path, "limited_tasks_c")
    search = Limit("search", unlimited=True)
    with pytest.raises(BadDefinition, match="task limited: limit runs counts beginnings"):
        limits.settled({"search": search, "runs": Limit("runs", per=5, within="1m")})
    both = declared(tmp_path, "limited_tasks_d", CODE.replace('"search"', '"runs"'))
    with pytest.raises(BadDefinition, match="limit runs is of task limited and of step search"):
        both.settled({"runs": Limit("runs", at_once=3)})


def test_one_name_is_declared_once(tmp_path: Path) -> None:
    with pytest.raises(BadDefinition, match="limit openai is declared twice"):
        declared(tmp_path, "limited_tasks_e", CODE + '\nother = Limit("openai", at_once=9)\n')
