"""The command line page has every command with every option, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from helmr.cli.app import _SHARED, ExitCode
from helmr.cli.main import app

SHARED = {"--" + name.replace("_", "-") for name in _SHARED}
HELP = {"--help"}


def commands() -> Iterator[tuple[str, set[str]]]:
    """Each command's name and its own options."""

    def walk(command, names: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, (*names, name))
        if not getattr(command, "commands", {}):
            options = {
                o
                for p in command.params
                if not getattr(p, "hidden", False)
                for o in (*p.opts, *p.secondary_opts)
                if o.startswith("--")
            }
            own = options - SHARED if options >= SHARED else options
            yield " ".join(names), own - HELP

    yield from walk(typer.main.get_command(app), ("helmr",))


COMMANDS = dict(commands())


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sections(page: str) -> dict[str, str]:
    """The text below each command's heading."""
    parts = re.split(r"^### (helmr .+)$", page, flags=re.M)
    return {
        name: re.split(r"^## ", text, flags=re.M)[0]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_page_has_every_command_and_no_other(sections: dict[str, str]) -> None:
    assert set(sections) == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_is_told_with_its_options_and_no_others(
    sections: dict[str, str], command: str
) -> None:
    text = re.sub(r"^```\n.*?^```$", "", sections[command], flags=re.M | re.S)
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert told - SHARED == COMMANDS[command] - SHARED
    assert COMMANDS[command] <= told


def test_shared_options_are_told_once(page: str) -> None:
    assert (
        set(re.findall(r"^\| `(--[a-z-]+)", page.split("## The runtime")[0], flags=re.M)) == SHARED
    )


def test_every_exit_code_has_its_line(page: str) -> None:
    rows = re.findall(r"^\| (\d+) \|", page, flags=re.M)
    assert [int(row) for row in rows] == [int(code) for code in ExitCode]
