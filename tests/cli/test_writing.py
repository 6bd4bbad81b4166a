"""What commands write stays where it was told to go: no link leads it elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helmr.cli.arguments import replacing
from helmr.errors import UsageError


@pytest.mark.parametrize("is_there", [True, False])
def test_a_private_file_is_not_written_through_a_link(tmp_path: Path, is_there: bool) -> None:
    target, link = tmp_path / "others", tmp_path / "some.backup"
    if is_there:
        target.write_text("theirs")
        target.chmod(0o644)
    link.symlink_to(target)
    with pytest.raises(UsageError, match="is a link"), replacing(link, is_private=True) as file:
        file.write(b"mine")
    assert target.exists() is is_there
    if is_there:
        assert (target.read_text(), target.stat().st_mode & 0o777) == ("theirs", 0o644)
    assert link.is_symlink()


@pytest.mark.parametrize("is_private", [True, False])
def test_a_link_under_the_name_of_the_half_written_file_is_not_followed(
    tmp_path: Path, is_private: bool
) -> None:
    target, path = tmp_path / "others", tmp_path / "found.csv"
    target.write_text("theirs")
    (tmp_path / f".found.csv.{os.getpid()}.part").symlink_to(target)
    with (
        pytest.raises(UsageError, match="can't be written"),
        replacing(path, is_private=is_private),
    ):
        pass
    assert target.read_text() == "theirs"


def test_a_private_file_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "some.backup"
    path.write_text("before")
    path.chmod(0o644)
    with replacing(path, is_private=True) as file:
        file.write(b"after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["some.backup"]
