"""Files of the runtime's own: links that somebody left are not followed, and nothing of them is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from helmr.client.discovery import CREDENTIALS_FILE, LOCK_FILE, read_credentials
from helmr.errors import NotAllowed, UsageError
from helmr.private_file import write_private
from helmr_runtime.launchers.startup import lock
from helmr_runtime.ledger.log.files import FileLock, HeadMark, HeadPosition
from helmr_runtime.process.local_access import KEY_NAME, local_key
from helmr_runtime.process.output import log_to
from helmr_runtime.security.private_files import open_private, secure_folder

PRECIOUS = "somebody's work\n"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file elsewhere, which a link points to."""
    path = tmp_path / "elsewhere" / "precious"
    path.parent.mkdir(mode=0o700)
    path.write_text(PRECIOUS)
    path.chmod(0o600)
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def hold(data_dir: Path) -> None:
    with lock(data_dir, print):
        pass


WRITERS: dict[str, Callable[[Path], object]] = {
    LOCK_FILE: lambda path: hold(path.parent),
    "ledger.duckdb.lock": lambda path: FileLock(path).acquire(),
    "ledger.duckdb.head": lambda path: HeadMark(path).write(HeadPosition(1, b"\x00" * 32)),
    "read.head": lambda path: HeadMark(path).read(),
    KEY_NAME: lambda path: local_key(path.parent),
    "supervisor.log": lambda path: log_to(path),
    "any": lambda path: open_private(path, os.O_RDWR | os.O_CREAT),
}


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_planted_link_is_refused_and_its_target_is_as_it_was(
    data_dir: Path, precious: Path, name: str, kind: str
) -> None:
    planted = data_dir / name
    if kind == "hard":
        planted.hardlink_to(precious)
    else:
        planted.symlink_to(precious)
    with pytest.raises(UsageError, match=r"is a link|has another name"):
        WRITERS[name](planted)
    assert precious.read_text() == PRECIOUS


def test_a_link_to_nothing_makes_no_file(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / LOCK_FILE).symlink_to(tmp_path / "made")
    with pytest.raises(UsageError, match="is a link"):
        hold(data_dir)
    assert not (tmp_path / "made").exists()


def test_a_planted_pipe_is_refused_and_not_waited_for(data_dir: Path) -> None:
    os.mkfifo(data_dir / LOCK_FILE)
    with pytest.raises(UsageError, match="is not a file"):
        hold(data_dir)


@pytest.mark.parametrize("name", [CREDENTIALS_FILE, "processes.json"])
def test_what_is_replaced_whole_takes_a_links_place(
    data_dir: Path, precious: Path, name: str
) -> None:
    (data_dir / name).symlink_to(precious)
    write_private(data_dir / name, "ours")
    assert precious.read_text() == PRECIOUS
    assert not (data_dir / name).is_symlink()
    assert mode_of(data_dir / name) == 0o600
    assert [one.name for one in data_dir.iterdir()] == [name]


def test_a_file_open_to_others_is_closed_to_them(data_dir: Path) -> None:
    path = data_dir / LOCK_FILE
    path.touch()
    path.chmod(0o666)
    hold(data_dir)
    assert mode_of(path) == 0o600


def test_credentials_behind_a_link_are_not_believed(data_dir: Path, precious: Path) -> None:
    (data_dir / CREDENTIALS_FILE).symlink_to(precious)
    with pytest.raises(NotAllowed, match="is a link"):
        read_credentials(data_dir / CREDENTIALS_FILE)


# --- the data directory ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722, 0o1777])
def test_a_data_directory_that_others_may_write_is_refused(data_dir: Path, mode: int) -> None:
    data_dir.chmod(mode)
    with pytest.raises(UsageError, match="may be written by other users") as refused:
        hold(data_dir)
    assert refused.value.hint is not None
    assert f"chmod 700 {data_dir}" in refused.value.hint
    assert list(data_dir.iterdir()) == []
    assert mode_of(data_dir) == mode


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711])
def test_a_data_directory_that_others_may_read_is_closed_to_them_and_that_is_said(
    data_dir: Path, mode: int
) -> None:
    data_dir.chmod(mode)
    heard: list[str] = []
    with lock(data_dir, heard.append):
        pass
    assert mode_of(data_dir) == 0o700
    assert heard == [
        f"{data_dir} was open to other users (mode {mode:04o}); now it is for its owner alone"
    ]
    with lock(data_dir, heard.append):
        assert len(heard) == 1


@pytest.mark.parametrize(
    "name", ["ledger.duckdb", "ledger.duckdb.wal", "master-keys.json", "logs", "logs/gateway.log"]
)
def test_a_link_anywhere_in_a_data_directory_is_refused(
    data_dir: Path, precious: Path, name: str
) -> None:
    (data_dir / name).parent.mkdir(mode=0o700, exist_ok=True)
    (data_dir / name).symlink_to(precious)
    with pytest.raises(UsageError, match=f"{name} is a link"):
        hold(data_dir)
    assert precious.read_text() == PRECIOUS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_belongs_to_another_user_is_refused(data_dir: Path) -> None:
    other = data_dir / "ledger.duckdb"
    other.touch()
    os.chown(other, 12_345, 12_345)
    with pytest.raises(UsageError, match=r"ledger\.duckdb belongs to another user"):
        secure_folder(data_dir, print)
    other.unlink()
    os.chown(data_dir, 12_345, 12_345)
    with pytest.raises(UsageError, match="belongs to another user"):
        secure_folder(data_dir, print)
