"""A data directory whose master keys are lost or another's, as whole commands: refused before anything is made.

Invariants: S-52, S-68.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from helmr import Client
from helmr.cli.main import invoke
from helmr.hash_seed import VARIABLE as SEED
from helmr_runtime.launchers.startup import UpOptions
from helmr_runtime.launchers.threaded import ThreadedRuntime
from helmr_runtime.process.local_access import KEY_NAME
from tests import warm
from tests.cli.conftest import Said
from tests.process.test_in_process import TASKS
from tests.stack.live import until
from tests.toolbox.conftest import RING, keys_of_a_follower, left_by_a_follower

pytestmark = pytest.mark.allows_blocking

DATA_ERROR = 7
USAGE = 2
WITHIN_S = 20.0
LOCKS = {"up.lock", "ledger.duckdb.lock"}


@dataclass
class Left:
    """What a runtime has left when it has ended."""

    data_dir: Path
    keys: Path
    other_keys: Path
    session_id: str


def runtime(data_dir: Path, *, encrypts: bool | None = None) -> ThreadedRuntime:
    return ThreadedRuntime(
        UpOptions(
            tasks=(str(TASKS),),
            port=0,
            data_dir=data_dir,
            in_process=True,
            encrypts=encrypts,
        )
    )


def up(data_dir: Path) -> Said:
    """A start that is refused; it takes the process that it runs in for its own."""
    where = "--port=0", f"--data-dir={data_dir}"
    done = warm.run("up", str(TASKS), "--in-process", *where, env={**os.environ, SEED: "1"})
    return Said(done.returncode, done.stdout, done.stderr)


def run(*arguments: object) -> Said:
    """A command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = invoke(tuple(map(str, arguments)))
    return Said(code, out.getvalue(), err.getvalue())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - LOCKS


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.long)],
    ids=["clear", "encrypted"],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(folder / "state"))
        patched.chdir(folder)  # where its tasks write
        left = Left(folder / "primary", folder / RING, folder / "other" / RING, "")
        primary = runtime(left.data_dir, encrypts=request.param)
        primary.start()
        with Client(url=primary.url, key=primary.key) as client:
            left.session_id = client.sessions.start("ask", {"about": "?"}).id
            session = client.sessions.open(left.session_id)
            until(lambda: session.get().activity == "waiting", within_s=WITHIN_S, what="it asks")
        primary.stop()
        other = runtime(folder / "other")
        other.start()
        other.stop()
    shutil.copy(left.data_dir / RING, left.keys)
    ids = [json.loads(path.read_text())["keys"][0]["id"] for path in (left.keys, left.other_keys)]
    assert ids[0] != ids[1]
    if request.param:  # rings of 0.1.0 all had the same id
        left.other_keys.write_text(left.other_keys.read_text().replace(ids[1], ids[0]))
    return left


@pytest.fixture
def left(made: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Left:
    """A copy of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    data_dir = tmp_path / "data_dir"
    shutil.copytree(made.data_dir, data_dir, ignore=shutil.ignore_patterns("*.lock"))
    return Left(data_dir, made.keys, made.other_keys, made.session_id)


def goes_on(data_dir: Path, session_id: str) -> None:
    """A start is ready, and the session's wait is there to answer."""
    again = runtime(data_dir)
    again.start()
    with Client(url=again.url, key=again.key) as client:
        session = client.sessions.open(session_id)
        session.input("yes").send(True)
        until(lambda: session.get().activity == "idle", within_s=WITHIN_S, what="it ends")
    again.stop()
    said = run("verify", "--data-dir", data_dir)
    assert said.code == 0, said.err


def test_a_start_on_a_followers_copy_is_refused_and_leaves_no_keys(
    left: Left, tmp_path: Path
) -> None:
    keys = keys_of_a_follower(tmp_path)
    copy = left_by_a_follower(tmp_path).parent
    before = names(copy)
    said = up(copy)
    assert (said.code, "is a follower's copy" in said.err) == (USAGE, True), said.err
    assert names(copy) == before
    said = run("repair", "--data-dir", copy, "--keys", left.keys)
    assert (said.code, "was written with" in said.err) == (DATA_ERROR, True), said.err
    assert names(copy) == before
    shutil.copy(keys, copy / RING)
    for command in ("repair", "verify"):
        said = run(command, "--data-dir", copy)
        assert said.code == 0, said.err


def test_a_ledger_does_not_start_with_other_keys(left: Left) -> None:
    for has_key in (True, False):  # looked at before keys are made, and where none would be
        if not has_key:
            (left.data_dir / KEY_NAME).unlink()
        shutil.copy(left.other_keys, left.data_dir / RING)
        said = up(left.data_dir)
        assert said.code == DATA_ERROR, said.err
        assert "was written with" in said.err
        assert "Give the key ring" in said.err
    shutil.copy(left.keys, left.data_dir / RING)
    goes_on(left.data_dir, left.session_id)


def test_a_lost_key_ring_is_refused_and_no_other_is_made(left: Left) -> None:
    (left.data_dir / RING).unlink()
    before = {path.name: path.read_bytes() for path in left.data_dir.glob("ledger.*")}
    known = names(left.data_dir)
    said = up(left.data_dir)
    assert said.code == DATA_ERROR, said.err
    assert "there are no master keys here" in said.err
    assert "master-keys.json" in said.err
    assert names(left.data_dir) == known
    assert {path.name: path.read_bytes() for path in left.data_dir.glob("ledger.*")} == before
    shutil.copy(left.keys, left.data_dir / RING)
    goes_on(left.data_dir, left.session_id)


def test_what_reads_a_ledger_with_other_keys_says_that_it_is_the_keys(left: Left) -> None:
    for command in ("verify", "repair"):
        said = run(command, "--data-dir", left.data_dir, "--keys", left.other_keys)
        assert said.code == DATA_ERROR
        assert "was written with" in said.err
        assert "--drop-from" not in said.err


def test_a_backup_is_restored_with_its_own_keys_only(left: Left, tmp_path: Path) -> None:
    file, restored = tmp_path / "some.backup", tmp_path / "restored"
    assert run("backup", file, "--data-dir", left.data_dir).code == 0
    said = run("restore", file, "--data-dir", restored, "--keys", left.other_keys)
    assert (said.code, "was written with" in said.err) == (DATA_ERROR, True), said.err
    assert not restored.exists()
    said = run("restore", file, "--data-dir", restored, "--keys", left.keys)
    assert said.code == 0, said.err
    shutil.copy(left.other_keys, restored / RING)
    assert up(restored).code == DATA_ERROR
    shutil.copy(left.keys, restored / RING)
    goes_on(restored, left.session_id)
