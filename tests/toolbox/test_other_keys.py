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
from helmr.client import calls
from helmr.client.calls import KnownGenerations
from helmr.hash_seed import VARIABLE as SEED
from helmr_runtime.launchers.startup import UpOptions
from helmr_runtime.launchers.threaded import ThreadedRuntime
from helmr_runtime.process.local_access import KEY_NAME
from tests import warm
from tests.cli.conftest import Said
from tests.process.test_in_process import TASKS
from tests.stack.live import until
from tests.toolbox.conftest import RING

pytestmark = pytest.mark.allows_blocking

DATA_ERROR = 7
USAGE = 2
WITHIN_S = 20.0
LOCKS = {"up.lock", "ledger.duckdb.lock"}


@dataclass
class Left:
    """What a primary and its follower have left when both have ended."""

    data_dir: Path
    copy: Path
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


@pytest.fixture(scope="module", params=[False, True], ids=["clear", "encrypted"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Left:
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(folder / "state"))
        patched.chdir(folder)  # where its tasks write
        left = Left(folder / "primary", folder / "copy", folder / RING, folder / "other" / RING, "")
        primary = runtime(left.data_dir, encrypts=request.param)
        primary.start()
        with Client(url=primary.url, key=primary.key) as client:
            left.session_id = client.sessions.start("ask", {"about": "?"}).id
            session = client.sessions.open(left.session_id)
            until(lambda: session.get().activity == "waiting", within_s=WITHIN_S, what="it asks")
            said = run("follow", "--into", left.copy, "--data-dir", left.data_dir, "--once")
            assert said.code == 0, said.err
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
    """Copies of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calls, "KNOWN", KnownGenerations(tmp_path / calls.FILE))
    for name in ("data_dir", "copy"):
        shutil.copytree(
            getattr(made, name), tmp_path / name, ignore=shutil.ignore_patterns("*.lock")
        )
    return Left(
        tmp_path / "data_dir", tmp_path / "copy", made.keys, made.other_keys, made.session_id
    )


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


def test_a_start_that_is_refused_on_a_copy_leaves_no_keys_and_the_copy_is_promoted(
    left: Left,
) -> None:
    before = names(left.copy)
    said = up(left.copy)
    assert (said.code, "follows another" in said.err) == (USAGE, True), said.err
    assert names(left.copy) == before
    said = run("promote", "--fenced", "--data-dir", left.copy, "--keys", left.keys)
    assert said.code == 0, said.err
    assert json.loads((left.copy / RING).read_text())["keys"]
    goes_on(left.copy, left.session_id)


def test_a_promotion_beside_other_keys_is_refused_and_loses_none(left: Left) -> None:
    shutil.copy(left.other_keys, left.copy / RING)  # as a refused start of 0.1.0 left it
    (left.copy / RING).chmod(0o600)
    said = run("promote", "--fenced", "--data-dir", left.copy, "--keys", left.keys)
    assert (said.code, "other master keys" in said.err) == (USAGE, True), said.err
    assert (left.copy / RING).read_bytes() == left.other_keys.read_bytes()
    said = run("promote", "--fenced", "--data-dir", left.copy)
    assert (said.code, "was written with" in said.err) == (DATA_ERROR, True), said.err
    (left.copy / RING).unlink()
    said = run("promote", "--fenced", "--data-dir", left.copy, "--keys", left.keys)
    assert said.code == 0, said.err


def test_a_promotion_that_is_refused_for_its_keys_leaves_none_behind(left: Left) -> None:
    before = names(left.copy)
    said = run("promote", "--fenced", "--data-dir", left.copy, "--keys", left.other_keys)
    assert (said.code, "was written with" in said.err) == (DATA_ERROR, True), said.err
    assert names(left.copy) == before


def test_a_promoted_copy_does_not_start_with_other_keys(left: Left) -> None:
    said = run("promote", "--fenced", "--data-dir", left.copy, "--keys", left.keys)
    assert said.code == 0, said.err
    for has_key in (False, True):  # looked at before keys are made, and where none would be
        if has_key:
            shutil.copy(left.data_dir / KEY_NAME, left.copy / KEY_NAME)
        shutil.copy(left.other_keys, left.copy / RING)
        said = up(left.copy)
        assert said.code == DATA_ERROR, said.err
        assert "was written with" in said.err
        assert "Give the key ring" in said.err
    shutil.copy(left.keys, left.copy / RING)
    goes_on(left.copy, left.session_id)


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
