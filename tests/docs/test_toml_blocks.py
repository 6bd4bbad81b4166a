"""Every TOML block of the docs is read by what reads that file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helmr import rules
from helmr.cli.config import (
    limits_table,
    links_table,
    notices_table,
    otel_of,
    people_table,
    retention_of,
    sections_of,
)
from helmr.client.profiles import read_profile
from helmr_console.start import read_config
from helmr_runtime.notices.targets import for_people, read_targets
from helmr_runtime.security.people import read_people

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```toml\n(.*?)^```$", flags=re.M | re.S)
BLOCKS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted(ROOT.glob("docs/*.md"))
    for number, block in enumerate(BLOCK.findall(path.read_text("utf-8")))
]
OF_A_RUNTIME = {"gate", "limits", "links", "notices", "otel", "people", "retention"}


def of_a_runtime(block: str, folder: Path) -> None:
    """`helmr.toml`, beside a data directory."""
    path = folder / "helmr.toml"
    path.write_text(block)
    people = read_people(people_table(path, folder), "helmr.toml")
    for target in read_targets(*notices_table(path, folder)):
        for_people(target, people)
    retention_of(path, folder)
    otel_of(path, folder)
    sections_of(path, folder)
    limits_table(path, folder)
    links_table(path, folder)


def of_the_console(block: str, folder: Path) -> None:
    """`console.toml`, with all its profiles."""
    (folder / "helmr").mkdir()
    (folder / "helmr" / "console.toml").write_text(block)
    environ = {"XDG_CONFIG_HOME": str(folder)}
    read_config(environ)
    for name in tomllib.loads(block).get("profiles", {}):
        read_profile(environ, name)


def of_a_rule(block: str, folder: Path) -> None:
    """The file of `helmr rule test`."""
    (folder / "rule.toml").write_text(block)
    rules.read_rule("rule.toml", folder=folder)


def reader(table: dict[str, Any]) -> Callable[[str, Path], None]:
    """Of the file that such a block is of."""
    if table.keys() <= OF_A_RUNTIME:
        return of_a_runtime
    return of_a_rule if {"answer", "rule"} & table.keys() else of_the_console


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_can_be_taken_as_it_stands(block: str, tmp_path: Path) -> None:
    reader(tomllib.loads(block))(block, tmp_path)


def test_there_are_blocks_for_every_reader() -> None:
    found = {reader(tomllib.loads(str(param.values[0]))) for param in BLOCKS}
    assert found == {of_a_runtime, of_the_console, of_a_rule}
