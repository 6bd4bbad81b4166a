"""`helmr prune|follow|promote` as a person types them, beside real runtimes (S-68, S-69)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr.client import calls
from helmr.client.calls import KnownGenerations
from helmr.errors import LedgerSuperseded
from helmr.models import GENERATION_HEADER
from tests import warm
from tests.cli.conftest import Said, spawn
from tests.process.test_in_process import TASKS, answered, asking
from tests.stack.live import LiveRuntime, until
from tests.toolbox.conftest import RING
from tests.warm import Piped

pytestmark = pytest.mark.allows_blocking

WITHIN_S = 60.0


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownGenerations:
    """What this process has met is not of this user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    met = KnownGenerations(tmp_path / "state" / "helmr" / calls.FILE)
    monkeypatch.setattr(calls, "KNOWN", met)
    return met


@pytest.fixture
def runtimes(tmp_path: Path) -> Iterator[Callable[[str], LiveRuntime]]:
    """Makes runtimes in one process each, not started."""
    made: list[LiveRuntime] = []

    def make(name: str) -> LiveRuntime:
        folder = tmp_path / name
        folder.mkdir()
        made.append(LiveRuntime(folder, tasks=TASKS, in_process=True))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def run(*arguments: object) -> Said:
    done = warm.run(*map(str, arguments))
    return Said(done.returncode, done.stdout, done.stderr)


def follower(live: LiveRuntime, copy: Path, name: str) -> Piped:
    """One that has been heard of."""
    data_dir = str(live.data_dir)
    one = spawn("follow", "--into", str(copy), "--data-dir", data_dir, "--name", name, "--json")
    until(lambda: name in followers(live), within_s=WITHIN_S, what="the follower asks")
    return one


def followers(live: LiveRuntime) -> dict[str, Any]:
    found: dict[str, Any] = live.client.health().ledger.get("followers", {})
    return found


def level(live: LiveRuntime) -> int | None:
    """The offset of the follower, once it has all."""
    health = live.client.health()
    found = health.ledger.get("followers", {}).get("two", {})
    has_all = found.get("lag") == 0 and found.get("offset") == health.feed_offset
    return int(found["offset"]) if has_all else None


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_follower_takes_the_place_of_a_primary_that_is_gone(
    runtimes: Callable[[str], LiveRuntime], tmp_path: Path, known: KnownGenerations
) -> None:
    live, copy, keys = runtimes("primary"), tmp_path / "copy", tmp_path / RING
    live.start()
    parked = asking(live, "parked")
    shutil.copy(live.data_dir / RING, keys)
    following = follower(live, copy, "one")
    stop, done = threading.Event(), list[str]()

    def work() -> None:
        while not stop.is_set():
            session_id = asking(live)
            assert answered(live, session_id).result["answer"]
            done.append(session_id)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        until(lambda: len(done) >= 3, within_s=WITHIN_S, what="answers")
        following.kill()
        following.communicate()
        until(lambda: len(done) >= 5, within_s=WITHIN_S, what="answers without it")
        following = follower(live, copy, "two")
        until(lambda: len(done) >= 8, within_s=WITHIN_S, what="answers")
    finally:
        stop.set()
        worker.join()
    live.kill_all()
    live.start()  # the follower goes on with it
    session_id = asking(live)
    assert answered(live, session_id).result["answer"]
    offset = until(lambda: level(live), within_s=WITHIN_S, what="the follower has all")
    transcripts = {one: live.transcript(one) for one in (parked, session_id, *done)}
    following.send_signal(signal.SIGSTOP)
    only_here = asking(live, "never sent")  # acknowledged, and the follower does not get it
    following.kill()
    following.communicate()
    live.kill_all()
    old = runtimes("old")
    shutil.move(live.data_dir, old.data_dir)  # gone from where it was

    said = run("promote", "--data-dir", copy, "--keys", keys)
    assert (said.code, "--fenced" in said.err) == (2, True)
    said = run("promote", "--fenced", "--data-dir", copy, "--keys", keys, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["after"] == offset
    assert json.loads(said.out)["generation"] == 2
    new = runtimes("new")
    shutil.move(copy, new.data_dir)
    new.start()
    for one, entries in transcripts.items():
        assert new.transcript(one)[: len(entries)] == entries
    assert answered(new, parked).result["answer"] is True
    assert GENERATION_HEADER in known.headers()
    new.stop()

    old.start()  # it has met nobody yet
    with pytest.raises(LedgerSuperseded):
        old.client.sessions.start("ask", {"about": "?"})
    with pytest.raises(LedgerSuperseded):
        old.client.sessions.open(only_here).input("yes").send(True)
    assert old.client.sessions.open(only_here).get().activity == "waiting"
    assert "superseded" in " ".join(old.client.health().reasons)
    old.stop()
    again = spawn(
        *("up", str(old.tasks), "--in-process", "--port=0", f"--data-dir={old.data_dir}"),
        cwd=old.folder,
    )
    _, err = again.communicate(timeout=WITHIN_S)
    assert again.returncode == 5, err
    assert b"superseded" in err

    said = run("promote", "--compare", old.data_dir, "--data-dir", new.data_dir, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["after"], found["is_same"]) == (offset, True)
    created = [entry for entry in found["entries"] if entry["kind"] == "session.created"]
    assert [entry["session_id"] for entry in created] == [only_here]


@pytest.mark.timeout(120)
def test_sessions_are_pruned_beside_a_runtime_and_at_rest(
    runtimes: Callable[[str], LiveRuntime], tmp_path: Path
) -> None:
    live = runtimes("one")
    live.start()
    session_id = asking(live)
    said = run("prune", "--older-than", "1h", "--data-dir", live.data_dir)
    assert (said.code, "older_than" in said.err) == (2, True)
    said = run("prune", "--older-than", "1d", "--data-dir", live.data_dir, "--json")
    assert (said.code, json.loads(said.out)["sessions"]) == (0, 0), said.err
    copy = tmp_path / "copy"
    said = run("follow", "--into", copy, "--data-dir", live.data_dir, "--once")
    assert said.code == 0, said.err
    assert "0 behind" in said.err
    assert run("follow", "--into", live.data_dir, "--data-dir", live.data_dir).code == 5
    live.stop()
    assert run("verify", "--data-dir", copy, "--keys", live.data_dir / RING).code == 0
    said = run("up", live.tasks, "--in-process", "--port=0", f"--data-dir={copy}")
    assert (said.code, "follows another" in said.err) == (2, True), said.err
    said = run("prune", "--older-than", "1d", "--dry-run", "--data-dir", live.data_dir)
    assert (said.code, "nothing was removed" in said.err) == (0, True), said.err
    assert session_id
    assert os.listdir(live.data_dir)
