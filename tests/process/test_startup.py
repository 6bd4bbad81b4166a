"""What `up` makes ready before it starts anything."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helmr.errors import BadDefinition, Conflict, StoreUnavailable, UsageError
from helmr_runtime.launchers.startup import UpOptions, hold_port, load_code, lock, writing

HOST = "127.0.0.1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not possible here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_held_port_is_given_to_nobody_and_the_gateway_may_listen_there() -> None:
    port, holder = hold_port(HOST, 0)
    with holder:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        with socket.socket() as gateway:
            gateway.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            gateway.bind((HOST, port))
            gateway.listen()
            with socket.create_connection((HOST, port), timeout=2):
                pass
            with pytest.raises(Conflict, match=f"{HOST}:{port}"):
                hold_port(HOST, port)
    again, holder = hold_port(HOST, port)
    holder.close()
    assert again == port


def test_a_data_directory_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(UsageError, match=r"taken can't be used as data directory: .*File exists"):
        UpOptions(tasks=("tasks.py",), folder=tmp_path, data_dir=Path("taken")).folders()


def test_a_data_directory_that_can_not_be_written_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refused(path: Path, *rest: int) -> int:
        if Path(path).name != "up.lock":
            return opened(path, *rest)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", refused)  # root may write anywhere
    with pytest.raises(UsageError, match=r"up\.lock: Read-only file system"), lock(tmp_path, print):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n\n1 / 0\n", r"ZeroDivisionError: division by zero \(odd_tasks.py, line 3\)"),
        ("import odd_beside\n", r"KeyError: 'x' \(odd_beside.py, line 2\)"),
        ("\nimport nothing_of_that_name\n", r"nothing_of_that_name' \(odd_tasks.py, line 2\)"),
        ("import json\njson.loads('')\n", r"JSONDecodeError.* \(odd_tasks.py, line 2\)"),
        ("def x(:\n", r"SyntaxError: invalid syntax \(odd_tasks.py, line 1\)$"),
    ],
)
def test_an_import_that_fails_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "odd_tasks.py").write_text(text)
    (tmp_path / "odd_beside.py").write_text("def look():\n    return {}['x']\nlook()\n")
    with pytest.raises(BadDefinition, match=said):
        load_code(("odd_tasks.py",), tmp_path, print)


def test_what_was_found_is_counted_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    one = "from helmr import task\n@task\nasync def first(n: int) -> int:\n    return n\n"
    (tmp_path / "one_task.py").write_text(one)
    (tmp_path / "two_tasks.py").write_text(one.replace("first", "second"))
    heard: list[str] = []
    load_code(("one_task.py",), tmp_path, heard.append)
    load_code(("one_task.py", "two_tasks.py"), tmp_path, heard.append)
    assert heard == ["1 task: first", "2 tasks: first, second"]


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_of_another_machine_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError, match="not an address of this machine"):
        hold_port(host, 0)


def test_up_on_a_full_disk_says_which(
    tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real full disk, the whole command: it ends before Ray starts."""
    data_dir = small_disk / "data"
    (tmp_path / "tasks.py").write_text(
        "from helmr import task\n@task\nasync def first(n: int) -> int:\n    return n\n"
    )
    data_dir.mkdir(mode=0o700)
    (data_dir / "up.lock").write_text("123456")
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4_096)
    ended = subprocess.run(
        [sys.executable, "-m", "helmr.cli", "up", "tasks.py", f"--data-dir={data_dir}", "--port=0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == StoreUnavailable.exit_code
    assert f"the disk of the data directory {data_dir} is full" in ended.stderr
    assert "output" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_disk_that_is_full_is_named_by_itself(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/run/token")
    with (
        pytest.raises(StoreUnavailable, match=r"the disk of /elsewhere/run is full"),
        writing(tmp_path),
    ):
        raise full


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "",
        "ftp://example.com",
        "https://",
        "https://example.com?x=1",
        "https://example.com/#links",
        "https://ana:secret@example.com",
        "https://example.com:port",
        "https://[::1",
    ],
)
def test_an_external_url_that_no_link_can_begin_with_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="can't be the beginning of links") as refused:
        UpOptions(tasks=(), external_url=url)
    assert "https://helmr.example.com" in str(refused.value.hint)


@pytest.mark.parametrize(
    "url", ["https://example.com", "http://10.0.0.1:8080/helmr/", "https://[::1]:4356"]
)
def test_an_external_url_has_scheme_and_host(url: str) -> None:
    assert UpOptions(tasks=(), external_url=url).external_url == url


@pytest.mark.parametrize("name", [".", "..", ".tasks", "app..tasks", "my-app", "app.tasks:main"])
def test_what_is_no_name_of_a_module_says_what_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadDefinition, match="names no module") as refused:
        load_code((name,), tmp_path, lambda line: None)
    assert "app/tasks.py" in str(refused.value.hint)


def test_sessions_share_the_files_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (1_024, 4_096))
    assert UpOptions(tasks=(), in_process=True).host_room == 256
    assert UpOptions(tasks=(), in_process=True, hosts=4).host_room == 64
    assert UpOptions(tasks=(), hosts=4).host_room == 256
    assert UpOptions(tasks=(), sessions_per_host=7).host_room == 7
