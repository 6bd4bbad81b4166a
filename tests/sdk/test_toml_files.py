"""A TOML file that can't be read is one error, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.cli.config import notices_table, tasks_of_project
from helmr.client.profiles import parse_toml, read_settings, read_toml
from helmr.errors import UsageError
from helmr.rules import read_rule

UNREADABLE = {
    "cut": b"a = [",
    "deep": b"a = " + b"[" * 40_000,
    "many digits": b"a = " + b"9" * 5_000,
    "no utf-8": b"a = '\xff'",
    "no date": b"a = 2026-02-30",
}
each_text = pytest.mark.parametrize("text", UNREADABLE.values(), ids=list(UNREADABLE))


@each_text
def test_the_error_names_the_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "helmr.toml"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=r"helmr\.toml can't be read"):
        read_toml(path, bytes_max=100_000)
    with pytest.raises(UsageError, match="the rule can't be read"):
        parse_toml(text, "the rule")


@each_text
def test_so_it_is_wherever_one_is_read(tmp_path: Path, text: bytes) -> None:
    for name in ("helmr.toml", "pyproject.toml", "rule.toml", "helmr/console.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError):
        notices_table(tmp_path / "helmr.toml", tmp_path)
    with pytest.raises(UsageError):
        tasks_of_project(tmp_path)
    with pytest.raises(UsageError):
        read_rule("rule.toml", folder=tmp_path)
    with pytest.raises(UsageError):
        read_settings({"XDG_CONFIG_HOME": str(tmp_path)})


def test_one_that_is_too_long_is_not_read_up_to_there(tmp_path: Path) -> None:
    """What stands behind a limit would be left out without a word."""
    path = tmp_path / "helmr.toml"
    path.write_bytes(b"a = 1\n" * 3)
    with pytest.raises(UsageError, match="more than 12 bytes"):
        read_toml(path, bytes_max=12)


def test_one_that_is_not_there_is_another_matter(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none.toml", bytes_max=10)
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read_toml(tmp_path, bytes_max=10)
