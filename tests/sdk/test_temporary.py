"""Temporary folders go with their owner, or are moved to where one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.hash_seed import KEEP_VARIABLE, remove_folder


def folder_of(base: Path) -> Path:
    folder = base / "helmr-x"
    folder.mkdir()
    (folder / "log").write_text("what happened")
    return folder


def test_a_temporary_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEEP_VARIABLE, raising=False)
    folder = folder_of(tmp_path)
    for _ in range(2):  # one that is gone is gone
        remove_folder(folder)
        assert not folder.exists()


def test_a_temporary_folder_is_moved_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "looked" / "into"
    monkeypatch.setenv(KEEP_VARIABLE, str(kept))
    for count in (1, 2):  # two of one name stand beside each other
        folder = folder_of(tmp_path)
        for _ in range(2):
            remove_folder(folder)
            assert not folder.exists()
        assert [log.read_text() for log in kept.glob("helmr-x-*/log")] == ["what happened"] * count
    assert kept.stat().st_mode & 0o777 == 0o700
    assert len(list(kept.iterdir())) == 2


def test_one_that_cannot_be_moved_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path)
    monkeypatch.setenv(
        KEEP_VARIABLE, str(folder / "inside")
    )  # as on another file system: rename fails
    remove_folder(folder)
    assert (folder / "log").read_text() == "what happened"
    assert list((folder / "inside").iterdir()) == []
