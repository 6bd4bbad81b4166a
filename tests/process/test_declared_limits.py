"""Limits that code and `helmr.toml` declare, and what is refused before anything starts (S-121)."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.errors import BadDefinition
from helmr.integrations import retried
from helmr.limits import IN_ADAPTERS, Limit, read_limits
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


INLINE = """
from helmr import Limit, step, task


@step(limit=Limit("inline", at_once=8))
async def ask() -> None: ...


class Client:
    @step(limit=Limit("search", per=5, within="1m"))
    async def search(self) -> None: ...


@task(limit=Limit("inline-runs", at_once=3))
async def limited(payload: None) -> None: ...
"""


def test_a_limit_that_is_written_where_it_is_named_is_declared_there(tmp_path: Path) -> None:
    limits = declared(tmp_path, "limited_tasks_f", INLINE)
    assert limits.settled({}) == {
        "inline": {"at_once": 8},
        "search": {"per": 5, "within": 60.0},
        "inline-runs": {"at_once": 3},
    }
    assert limits.settled({"inline": Limit("inline", at_once=1)})["inline"] == {"at_once": 1}
    with pytest.raises(BadDefinition, match="limit inline is declared twice"):
        declared(tmp_path, "limited_tasks_g", INLINE + '\nother = Limit("inline", at_once=9)\n')


def test_a_limit_that_an_adapter_was_given_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("adapter", "options"):
        monkeypatch.setitem(IN_ADAPTERS, name, Limit(name, unlimited=True))  # gone after the test
    retried({}, Limit("adapter", at_once=2))
    retried({"limit": Limit("options", at_once=3)})
    found = declared(tmp_path, "limited_tasks_h", INLINE).settled({})
    assert (found["adapter"], found["options"]) == ({"at_once": 2}, {"at_once": 3})
