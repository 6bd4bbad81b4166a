"""`helmr backup|restore|verify|repair` as a person types them, beside real runtimes (S-66, S-67)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helmr.cli.main import invoke
from helmr_runtime.core.session_file import BackupReader
from tests import warm
from tests.cli.conftest import Said, spawn
from tests.ledger.test_disk_full import fill, small_disk
from tests.process.test_in_process import TASKS, answered, asking
from tests.stack.live import LiveRuntime
from tests.toolbox.conftest import RING

__all__ = ["small_disk"]

pytestmark = pytest.mark.allows_blocking


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process."""
    folder = tmp_path / "original"
    folder.mkdir()
    one = LiveRuntime(folder, tasks=TASKS, in_process=True)
    yield one
    one.stop()


def run(*arguments: object) -> Said:
    done = warm.run(*map(str, arguments))
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def typed(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Said]:
    """Run a command in this process."""

    def run(*arguments: object) -> Said:
        code = invoke(tuple(map(str, arguments)))
        said = capsysbinary.readouterr()
        return Said(code, said.out.decode(), said.err.decode())

    return run


def is_whole(file: Path) -> bool:
    with file.open("rb") as lines:
        reader = BackupReader(lines)
        return len([row for row in reader.rows() if row[0] == "e"]) == reader.entries > 0


@pytest.mark.timeout(180)
def test_a_backup_beside_answers_goes_on_elsewhere(live: LiveRuntime, tmp_path: Path) -> None:
    live.start()
    parked = asking(live, "parked")
    stop = threading.Event()
    done: list[str] = []

    def work() -> None:
        while not stop.is_set():
            session_id = asking(live)
            assert answered(live, session_id).result["answer"]
            done.append(session_id)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while len(done) < 3:
            time.sleep(0.02)
        before = len(done)
        backup, keys = tmp_path / "some.backup", tmp_path / RING
        said = run("backup", backup, "--data-dir", live.data_dir, "--keys", keys, "--json")
        assert said.code == 0, said.err
        while len(done) < before + 2:  # answers go on
            time.sleep(0.02)
    finally:
        stop.set()
        worker.join()
    assert [backup.stat().st_mode & 0o777, keys.stat().st_mode & 0o777] == [0o600, 0o600]
    assert b"helmr-backup" in backup.read_bytes()
    master = json.loads(keys.read_text())["keys"][0]["key"]
    assert master.encode() not in backup.read_bytes()
    through = json.loads(said.out)["through"]

    assert run("verify", backup, "--keys", keys).code == 0
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    other = LiveRuntime(folder, tasks=TASKS, in_process=True)
    said = run("restore", backup, "--data-dir", other.data_dir, "--keys", keys, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["through"] == through
    try:
        other.start()
        assert other.transcript(parked) == [
            entry for entry in live.transcript(parked) if entry.feed_offset <= through
        ]
        assert answered(other, parked).result["answer"] is True
        assert live.client.sessions.open(parked).get().activity == "waiting"
    finally:
        other.stop()
    assert run("verify", "--data-dir", other.data_dir).code == 0


@pytest.mark.long  # tests/toolbox/test_verify.py
def test_a_runtime_at_work_is_not_verified_or_repaired(live: LiveRuntime) -> None:
    live.start()
    for command in ("verify", "repair"):
        said = run(command, "--data-dir", live.data_dir)
        assert said.code == 5
        assert "is in use by the runtime" in said.err


def test_commands_say_what_they_lack(
    path: Path, tmp_path: Path, typed: Callable[..., Said]
) -> None:
    data_dir, backup = path.parent, tmp_path / "a.backup"
    assert run("backup", backup, "--data-dir", data_dir).code == 0
    assert "not in it" in run("backup", backup, "--data-dir", data_dir).err
    said = typed("restore", backup)
    assert (said.code, "--data-dir" in said.err) == (2, True)
    said = typed("restore", backup, "--data-dir", tmp_path / "copy")
    assert (said.code, "key" in said.err) == (7, True) or said.code == 2
    assert not (tmp_path / "copy").exists()
    said = typed("restore", tmp_path / "none", "--data-dir", tmp_path / "copy")
    assert (said.code, "is not a file" in said.err) == (2, True)
    said = typed("verify", "--data-dir", tmp_path)
    assert (said.code, "no ledger" in said.err) == (2, True)
    data = bytearray(backup.read_bytes())
    data[len(data) // 2] ^= 1
    backup.write_bytes(data)
    said = typed("verify", backup, "--keys", data_dir / RING)
    assert said.code == 7
    line = bytes(data[: len(data) // 2]).count(b"\n") + 1
    assert f"line {line}:" in said.err


def test_a_ledger_is_repaired(path: Path, typed: Callable[..., Said]) -> None:
    from tests.toolbox.damage import damage

    damage(path, random.Random(2), "runs")
    said = typed("verify", "--data-dir", path.parent)
    assert (said.code, "table runs" in said.err) == (7, True)
    said = typed("repair", "--data-dir", path.parent, "--json")
    assert "table runs" in json.loads(said.out)["damage"]
    assert typed("verify", "--data-dir", path.parent).code == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kills", [3, pytest.param(8, marks=pytest.mark.long), pytest.param(60, marks=pytest.mark.soak)]
)
def test_a_killed_backup_is_never_taken_for_whole(path: Path, tmp_path: Path, kills: int) -> None:
    chance, dest = random.Random(kills), tmp_path / "some.backup"
    begun = time.monotonic()
    assert run("backup", dest, "--data-dir", path.parent).code == 0
    took_s = time.monotonic() - begun
    dest.unlink()
    for _ in range(kills):
        with spawn("backup", str(dest), "--data-dir", str(path.parent)) as one:
            time.sleep(chance.uniform(took_s / 3, took_s))
            os.kill(one.pid, signal.SIGKILL) if one.poll() is None else None
            one.wait()
        if dest.exists():
            assert is_whole(dest)
            dest.unlink()
    assert run("backup", dest, "--data-dir", path.parent).code == 0
    assert is_whole(dest)


def test_a_full_disk_leaves_no_backup(path: Path, small_disk: Path) -> None:
    fill(small_disk / "ballast")
    said = run("backup", small_disk / "some.backup", "--data-dir", path.parent)
    assert (said.code, "No space left" in said.err) == (2, True)
    assert [one.name for one in small_disk.iterdir()] == ["ballast"]


def test_no_command_needs_the_engine_to_show_its_help() -> None:
    code = "import sys; from helmr.cli.main import invoke\n"
    for command in ("backup", "restore", "verify", "repair"):
        code += (
            f"invoke([{command!r}, '--help']); assert not {{'duckdb', 'ray'}} & set(sys.modules)\n"
        )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
