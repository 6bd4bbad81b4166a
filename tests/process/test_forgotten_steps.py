"""A forgotten `@step` before a wait is named in the words of its consequence: harness, `helmr dev`, a runtime's log.

All parts are real: files, an HTTP server, a mail server, a database, programs, a device (a pseudoterminal).
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import subprocess
import sys
import threading
import tty
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from helmr import Client
from helmr.testing import Harness, RepeatedCall, RunFailed
from helmr_runtime.replay import outside_steps
from helmr_runtime.replay.outside_steps import AGAIN, MADE_AGAIN
from tests.process import forgetful_tasks
from tests.process.forgetful_tasks import FORMS
from tests.stack.live import LiveRuntime, until

pytestmark = pytest.mark.allows_blocking

TASKS = Path(forgetful_tasks.__file__)
WAITS_S = 20.0
CACHING = 'from pathlib import Path\nPath(__file__).with_name("cache.bin").write_bytes(b"x")\n'


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = 0

    def do_POST(self) -> None:
        type(self).requests += 1
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class Mail(StreamRequestHandler):
    """As much of SMTP as a client needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        is_text = False
        for line in self.rfile:
            word = line.strip().upper()
            if is_text and word != b".":
                continue
            is_text = word == b"DATA"
            code = {b"DATA": b"354", b"QUIT": b"221"}.get(word, b"250")
            self.wfile.write(code + b" yes\r\n")
            if word == b"QUIT":
                return


@contextmanager
def served(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[dict[str, str]]:
    folder = tmp_path / "world"
    folder.mkdir()
    (folder / "copy.txt").touch()
    (folder / "caching_module.py").write_text(CACHING)
    ThreadingHTTPServer.daemon_threads = ThreadingTCPServer.daemon_threads = True
    with ExitStack() as stack:
        web = stack.enter_context(served(ThreadingHTTPServer(("127.0.0.1", 0), Web)))
        mail = stack.enter_context(served(ThreadingTCPServer(("127.0.0.1", 0), Mail)))
        ours, theirs = os.openpty()
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        tty.setraw(theirs)
        yield {
            "folder": str(folder),
            "url": f"http://127.0.0.1:{web}/pay",
            "mail": str(mail),
            "datagrams": str(web),
            "device": os.ttyname(theirs),
        }


def named(text: str, form: str) -> list[str]:
    """What is said of the lines of a form, once each: its function's in the task file."""
    first, last = lines_of(form)
    found = re.findall(rf"{TASKS.name}:(\d+): (.*)", text)
    return [said for line, said in found if first <= int(line) <= last]


def lines_of(form: str) -> tuple[int, int]:
    """A form's function, and the helpers at which a thread's or a task's stack ends."""
    source = TASKS.read_text(encoding="utf-8").splitlines()
    name = form.replace("-", "_")
    first = next(i for i, one in enumerate(source, 1) if re.search(rf"def {name}\(", one))
    last = next(i for i, one in enumerate(source[first:], first) if not one.strip())
    return first, last


HELPED = {"a-thread": "write", "a-task-of-its-own": "write"}
"""Forms whose line is that of a function which others share."""


def said_of(text: str, form: str) -> list[str]:
    return named(text, HELPED.get(form, form))


def paid(world: dict[str, str]) -> int:
    return Path(world["folder"], "paid.txt").read_text().count("paid")


def has_cached(world: dict[str, str]) -> bool:
    return Path(world["folder"], "cache.bin").exists()


@pytest.mark.filterwarnings("always::helmr.testing.RepeatedCall")
@pytest.mark.parametrize("form", FORMS)
async def test_a_harness_names_it_and_warns_where_a_replay_does_it_again(
    form: str, world: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    outside_steps.forget()
    with (
        caplog.at_level(logging.WARNING, "helmr.run"),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        async with Harness(getattr(forgetful_tasks, form.replace("-", "_"))) as harness:
            session = await harness.start(form, world)
            before = said_of(caplog.text, form)
            await session.answer(True)
            assert await session.result() is True
    assert before
    assert all(f"outside of steps: {AGAIN}; what pays" in one for one in before)
    again = said_of(caplog.text, form)[len(before) :]
    assert len(again) == len(before), (
        "a line each: a mail's connection and its sending stand on two"
    )
    assert all(f"outside of steps: {MADE_AGAIN}; what pays" in one for one in again)
    warned = [one for one in told if issubclass(one.category, RepeatedCall)]
    assert [str(one.message) for one in warned] == again
    assert {Path(one.filename).name for one in warned} == {TASKS.name}


async def test_with_warnings_as_errors_the_second_payment_is_not_made(
    world: dict[str, str],
) -> None:
    async with Harness(forgetful_tasks.a_file) as harness:
        session = await harness.start("a-file", world)
        await session.answer(True)
        with pytest.raises(RunFailed, match=r"paid\.txt is opened for writing outside of steps"):
            await session.result()
    assert paid(world) == 1


async def test_with_replay_always_false_nothing_is_repeated(world: dict[str, str]) -> None:
    async with Harness(forgetful_tasks.a_file, replay_always=False) as harness:
        session = await harness.start("a-file", world)
        await session.answer(True)
        assert await session.result() is True
    assert paid(world) == 1


async def test_a_request_on_a_connection_that_was_open_is_named_in_a_harness(
    world: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    outside_steps.forget()
    forgetful_tasks.kept_at_import.post(world["url"])
    async with Harness(forgetful_tasks.by_the_client_that_was_open) as harness:
        session = await harness.start("by-the-client-that-was-open", world)
        with pytest.warns(RepeatedCall):
            await session.answer(True)
        assert await session.result() is True
    forgetful_tasks.kept_at_import.close()
    first, again = named(caplog.text, "by-what-was-open")
    assert first.startswith(f"a request is sent outside of steps: {AGAIN}; ")
    assert again.startswith(f"a request is sent outside of steps: {MADE_AGAIN}; ")


@pytest.mark.parametrize("replay_always", [None, True])
async def test_steps_reads_logs_imports_and_scratch_files_are_left_alone(
    replay_always: bool | None, world: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    outside_steps.forget()
    with caplog.at_level(logging.WARNING, "helmr.run"):
        async with Harness(forgetful_tasks.careful, replay_always=replay_always) as harness:
            session = await harness.start("careful", world)
            await session.answer(True)
            assert await session.result() is True
    assert [one.getMessage() for one in caplog.records if one.name == "helmr.run"] == []
    assert has_cached(world)


async def test_a_driver_in_c_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    psycopg = importlib.import_module("psycopg")
    from helmr import task

    @task(id="asks-postgres")
    async def asks_postgres(payload: None) -> None:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect("host=127.0.0.1 port=1 connect_timeout=1")

    outside_steps.forget()
    with caplog.at_level(logging.WARNING, "helmr.run"):
        async with Harness(asks_postgres) as harness:
            await (await harness.start(asks_postgres)).result()
    assert f"a connection of psycopg is opened outside of steps: {AGAIN}" in caplog.text


# --- a runtime ---------------------------------------------------------------------------------------


def answered_all(client: Client, world: dict[str, str], are_parked: Callable[[], bool]) -> None:
    """Start a session of each, and answer them when they wait."""
    started = {form: client.sessions.start(form, world).id for form in [*FORMS, "careful"]}

    def run_of(session_id: str) -> Any:
        return next(iter(client.runs.list(session_id=session_id)))

    def all_are(status: str) -> bool:
        return all(run_of(one).status == status for one in started.values())

    until(lambda: all_are("waiting"), within_s=WAITS_S, what="they wait")
    until(are_parked, within_s=WAITS_S, what="they are parked")
    for one in started.values():
        client.sessions.open(one).input("ok").send(True)
    until(lambda: all_are("succeeded"), within_s=WAITS_S, what="they end")


def check_log(text: str) -> None:
    """Of each form it is said that it was done again; of steps nothing is said."""
    for form in FORMS:
        said = said_of(text, form)
        assert any(MADE_AGAIN in one for one in said), f"{form}: {said}"
    first, _ = lines_of("in_a_step")
    assert not [line for line in re.findall(rf"{TASKS.name}:(\d+): ", text) if int(line) >= first]


def test_a_runtimes_log_names_it_and_again_at_the_resume(
    tmp_path: Path, world: dict[str, str]
) -> None:
    live = LiveRuntime(tmp_path, tasks=TASKS, in_process=True, linger="0s")
    live.start()
    try:
        answered_all(live.client, world, lambda: live.live_sessions() == 0)
    finally:
        live.stop()
    text = (live.data_dir / "logs" / "in-process.log").read_text()
    check_log(text)
    assert paid(world) == 2, "what is forgotten is paid twice, which is what the log says"


def test_helmr_dev_shows_it_at_the_first_answer(tmp_path: Path, world: dict[str, str]) -> None:
    (tmp_path / TASKS.name).write_bytes(TASKS.read_bytes())
    log = tmp_path / "dev.log"
    with log.open("wb") as out:
        dev = subprocess.Popen(
            [sys.executable, "-m", "helmr.cli", "dev", TASKS.name, "--port=0"],
            cwd=tmp_path,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: "ready on " in log.read_text(), within_s=WAITS_S, what="it is up")
        with Client(data_dir=tmp_path / ".helmr") as client:
            answered_all(client, world, lambda: True)
    finally:
        dev.terminate()
        dev.wait(WAITS_S)
    check_log(log.read_text())
