"""`helmr demo` in a process of its own: what it claims, how it ends, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helmr.examples import demo
from helmr.hash_seed import KEEP_VARIABLE

WITHIN_S = 240
LOOK_S = 0.2


class Watched:
    """A demo under way, and every process that was ever seen below it."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        kept = {KEEP_VARIABLE: os.environ[KEEP_VARIABLE]}  # what it removes is searched for secrets
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HELMR_")} | kept
        self.out = folder / "out"
        self.err = folder / "err"
        self.seen: set[demo.DemoProcess] = set()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "helmr.cli", "demo", *arguments],
                env={**environ, "TMPDIR": str(folder)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.seen |= set(demo.family(self.process.pid))

    def finish(self) -> int:
        try:
            return self.process.wait(WITHIN_S)
        finally:
            self._ended.set()
            self._watcher.join()

    def until_printed(self, text: str) -> None:
        ends_at_s = time.monotonic() + WITHIN_S
        while text not in self.out.read_text("utf-8"):
            assert self.process.poll() is None, self.err.read_text("utf-8")
            assert time.monotonic() < ends_at_s
            self._ended.wait(LOOK_S)


@contextmanager
def running(*arguments: str) -> Iterator[Watched]:
    # Ray's sockets need a short path, which pytest's own folders are not.
    with tempfile.TemporaryDirectory(prefix="hd-") as folder:
        watched = Watched(list(arguments), Path(folder))
        try:
            yield watched
        finally:
            if watched.process.poll() is None:
                watched.process.terminate()
            watched.finish()
            demo.kill(demo.alive(watched.seen), within_s=10)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_shows_what_it_promises_and_leaves_nothing() -> None:
    with running("--ray") as watched:
        code = watched.finish()
        text = watched.out.read_text("utf-8")
        assert (code, watched.err.read_text("utf-8")) == (0, "")
        for claim in (
            "is still open, with the same deadline",
            "processes are gone; what is left is on disk",
            "each step ran once: draft_review, send_slack_approval, post_review",
            "is the answer, given by local for Ada Lovelace",
            "no process is left",
        ):
            assert claim in text
        assert text.count("is still open, with the same deadline") == 2
        assert text.count("$ kill -9 ") == 2
        assert "slow to end" not in text
        assert "\x1b" not in text, "colour without a terminal"
        assert len(watched.seen) > 10
        assert demo.alive(watched.seen) == []
        assert not list(watched.out.parent.glob("helmr-demo-*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_runtime_in_one_process_shows_the_rest_of_it() -> None:
    with running("--in-process") as watched:
        code = watched.finish()
        text = watched.out.read_text("utf-8")
        assert (code, watched.err.read_text("utf-8")) == (0, "")
        assert text.count("$ kill -9 ") == 1
        assert text.count("is still open, with the same deadline") == 1
        assert " is gone; what is left is on disk" in text
        assert "each step ran once: draft_review, send_slack_approval, post_review" in text
        assert "no process is left" in text
        assert demo.alive(watched.seen) == []
        assert not list(watched.out.parent.glob("helmr-demo-*"))


def test_no_task_that_kills_its_process_runs_in_the_only_one() -> None:
    in_process = demo.tasks_of(console=True, in_process=True)
    assert {*demo.tasks_of(console=True, in_process=False)} - {*in_process} == {demo.TROUBLED_TASKS}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_ends_everything() -> None:
    with running() as watched:
        watched.until_printed("It waits for a person")
        watched.process.send_signal(signal.SIGINT)
        assert watched.finish() == 130
        assert "interrupted" in watched.err.read_text("utf-8")
        assert demo.alive(watched.seen) == []
        assert not list(watched.out.parent.glob("helmr-demo-*"))


@pytest.mark.slow
def test_a_runtime_that_does_not_start_is_one_clear_line_and_keep_leaves_its_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "TASKS", "no_such_tasks")
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    assert demo.main(["--keep"]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[0].startswith("helmr demo: the runtime ended with code 2")
    assert "no_such_tasks" in "\n".join(lines[1:])
    assert str(tmp_path / "data") in out
    assert tmp_path.exists()
