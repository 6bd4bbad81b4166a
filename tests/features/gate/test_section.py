"""The table `[gate]` of `helmr.toml` turns the gate's tasks on, and is checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.cli.config import built_in_tasks, sections_of
from helmr.errors import BadDefinition, UsageError
from helmr.gate import CALL_TASK, RUN_TASK
from helmr_runtime.catalog import load_modules

RULE = '[[gate.rule]]\nname = "looks"\ntool = "Bash"\naction = "allow"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "helmr.toml"


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("", []),
        ("[gate]", ["helmr.gate.tasks"]),
        (f"[gate]\nruns = true\n{RULE}", ["helmr.gate.tasks", "helmr.gate.runs"]),
    ],
)
def test_its_tasks_are_those_that_the_table_turns_on(
    config: Path, text: str, tasks: list[str]
) -> None:
    config.write_text(text)
    assert built_in_tasks(config, config.parent) == tasks
    assert ("gate" in sections_of(config, config.parent)) == bool(text)


def test_a_rule_that_can_not_be_read_refuses_the_start_and_names_the_file(config: Path) -> None:
    config.write_text(RULE.replace("allow", "permit"))
    for read in (sections_of, built_in_tasks):
        with pytest.raises(UsageError, match=r"helmr\.toml"):
            read(config, config.parent)


def test_modules_of_ours_are_loaded_for_tasks_if_they_hold_built_in_ones(tmp_path: Path) -> None:
    found = load_modules(["helmr.gate.tasks", "helmr.gate.runs"], folder=tmp_path)
    assert {CALL_TASK, RUN_TASK} <= found.tasks.keys()
    for name in ("helmr.tasks", "helmr.no_such_module", "helmr_runtime.catalog"):
        with pytest.raises(BadDefinition, match="belongs to Helmr"):
            load_modules([name], folder=tmp_path)
