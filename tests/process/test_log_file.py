"""A process's log file: bounded, whoever writes to it, and followed wherever it goes."""

from __future__ import annotations

import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helmr.cli.logs import Logs

BYTES_MAX = 4_000
LINES = 200
A_LINE = 200
"""No line of these has more bytes."""

PROCESS = """
import logging, os, sys
from pathlib import Path
from helmr_runtime.process.output import LogFileHandler, look_at_log_file, tag_prints

path, how, bytes_max, lines = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
file = LogFileHandler(path, takes_output=how != "beside", bytes_max=bytes_max)
logging.basicConfig(level=logging.INFO, handlers=[file])
tag_prints(*([file] if how == "beside" else []), written=look_at_log_file)
for n in range(lines):
    if how == "logs":
        logging.getLogger("task").info("line %d of %s", n, "x" * 50)
    else:
        print(f"line {n} of", "x" * 50)
    if how == "raw":
        os.write(1, b"from below python\\n")
"""


def write(path: Path, how: str, lines: int = LINES) -> None:
    arguments = [str(path), how, str(BYTES_MAX), str(lines)]
    subprocess.run([sys.executable, "-c", PROCESS, *arguments], check=True, capture_output=True)


def numbers(path: Path) -> list[int]:
    lines = [line for line in path.read_text().splitlines() if "line " in line]
    return [int(line.partition("line ")[2].partition(" of")[0]) for line in lines]


@pytest.mark.parametrize("how", ["logs", "prints", "raw", "beside"])
def test_two_files_hold_the_newest_lines_whole(tmp_path: Path, how: str) -> None:
    path, aside = tmp_path / "helmr-host-1.log", tmp_path / "helmr-host-1-old.log"
    write(path, how)
    assert sorted(tmp_path.iterdir()) == [aside, path]
    kept = numbers(aside) + numbers(path)
    assert kept == list(range(LINES - len(kept), LINES))
    assert BYTES_MAX - A_LINE < aside.stat().st_size < BYTES_MAX + A_LINE
    assert path.stat().st_size < BYTES_MAX + A_LINE
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, aside)} == {0o600}
    assert ("from below" in path.read_text()) == (how == "raw")


def test_the_next_process_goes_on_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in-process.log"
    for _ in range(2):
        write(path, "beside", 3)
    assert numbers(path) == [0, 1, 2, 0, 1, 2]


def test_a_file_that_cant_be_moved_aside_is_gone_on_with(tmp_path: Path) -> None:
    path, aside = tmp_path / "helmr-host-1.log", tmp_path / "helmr-host-1-old.log"
    (aside / "in it").mkdir(parents=True)
    write(path, "logs")
    assert numbers(path) == list(range(LINES))


@pytest.mark.parametrize("how", ["logs", "beside"])
def test_a_process_that_can_open_no_file_goes_on_with_its_log(tmp_path: Path, how: str) -> None:
    path, aside = tmp_path / "helmr-host-1.log", tmp_path / "helmr-host-1-old.log"
    short = """
import resource
real = logging.getLogger("task").info
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.dup(0)
for n in range(lines):
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest if n < lines - 10 else soft, hard))
    real("line %d of %s", n, "x" * 50)
"""
    arguments = [str(path), how, str(BYTES_MAX), str(LINES)]
    code = PROCESS.partition("for n in")[0] + short
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    assert numbers(aside) + numbers(path) == list(range(LINES)), "no line is lost, none is twice"
    assert len(numbers(path)) <= 10
    assert sorted(tmp_path.iterdir()) == [aside, path]


def test_a_link_where_the_older_one_goes_is_replaced(tmp_path: Path) -> None:
    path, aside = tmp_path / "helmr-host-1.log", tmp_path / "helmr-host-1-old.log"
    aside.symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("as it was")
    write(path, "logs")
    assert not aside.is_symlink()
    assert (tmp_path / "precious").read_text() == "as it was"


def test_helmr_logs_follows_what_is_moved_aside(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path, aside = folder / "helmr-host-1.log", folder / "helmr-host-1-old.log"
    with closing(Logs(tmp_path)) as logs:
        path.write_text("one\n")
        assert [line.text for line in logs.read(None)] == ["one"]
        with path.open("a") as file:
            file.write("two\n")
        path.replace(aside)
        path.write_text("three\n")
        assert [line.text for line in logs.read(None)] == ["two", "three"]
        path.replace(aside)
        path.write_text("four\n")
        assert [line.text for line in logs.read(None)] == ["four"]
        assert logs.read(None) == []
