"""Frames between real processes: what a caller knows when one dies, stops, is replaced or does not read."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import HelmrError
from helmr_runtime.ports import Crash
from helmr_runtime.rpc import frames, socket_calls, sockets
from helmr_runtime.rpc.calls import (
    ActorNotFound,
    ActorOverloaded,
    ActorUnavailable,
    CallFailure,
)
from helmr_runtime.rpc.frames import FrameError, FrameKind
from helmr_runtime.rpc.socket_calls import (
    ConnectionEnded,
    LargeAnswer,
    NotSent,
    Peer,
    SocketCalls,
    Sockets,
)
from helmr_runtime.rpc.sockets import OPEN_MAX, is_own_user, socket_path
from tests.rpc.socket_target import VERSION

NAME = "helmr-ledger"
ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def start(run_dir: Path) -> Iterator[Start]:
    """Starts processes that answer."""
    started: list[subprocess.Popen[bytes]] = []
    paths = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])

    def begin(name: str = NAME) -> subprocess.Popen[bytes]:
        run = subprocess.Popen(
            [sys.executable, "-m", "tests.rpc.socket_target", str(run_dir), name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths},
        )
        started.append(run)
        ending = time.monotonic() + 20
        while not is_answered(run_dir, name):
            assert time.monotonic() < ending
            time.sleep(0.01)
        return run

    yield begin
    for run in started:
        run.kill()
        run.wait()


def is_answered(run_dir: Path, name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(socket_path(run_dir, name)))
        return True
    return False


@pytest.fixture
async def client(run_dir: Path) -> AsyncIterator[Sockets]:
    made = Sockets(run_dir, VERSION)
    yield made
    for peer in list(made._peers.values()):
        peer.give_up("the test is over")
    await asyncio.sleep(0)


async def peer_of(client: Sockets, name: str = NAME) -> Peer:
    peer = await client.peer(name)
    assert peer is not None
    return peer


async def ask(peer: Peer, method: str, *args: Any) -> Any:
    return await peer.call(method, args, {})


async def until(holds: Callable[[], Awaitable[Any]], *, within_s: float = 10.0) -> None:
    ending = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < ending
        await asyncio.sleep(0.01)


# --- calls ----------------------------------------------------------------------------------------


async def test_values_errors_and_bugs_come_back(start: Start, client: Sockets) -> None:
    start()
    peer = await peer_of(client)
    crash = Crash(cause="signal 9", executing=True)
    assert await ask(peer, "echo", {"a": [crash]}) == {"a": [crash]}
    for method in ("nothing", "_turn", "cancel_itself", "odd", "bug"):
        assert isinstance(await ask(peer, method), CallFailure)
    with pytest.raises(FrameError):
        await ask(peer, "echo", object())
    assert await ask(peer, "echo", 1) == 1


async def test_answers_come_in_any_order(start: Start, client: Sockets, tmp_path: Path) -> None:
    start()
    peer = await peer_of(client)
    slow = asyncio.create_task(ask(peer, "after", 0.5, str(tmp_path / "mark")))
    for at in range(100):
        assert await ask(peer, "echo", at) == at
    assert not slow.done()
    assert await slow == str(tmp_path / "mark")


async def test_what_is_sent_in_one_turn_starts_in_one_turn(start: Start, client: Sockets) -> None:
    start()
    peer = await peer_of(client)
    turns = await asyncio.gather(*(ask(peer, "turn") for _ in range(50)))
    assert len(set(turns)) == 1
    assert await ask(peer, "turn") != turns[0]


async def test_an_answer_too_large_for_a_frame_is_kept_once(start: Start, client: Sockets) -> None:
    start()
    peer = await peer_of(client)
    found = await ask(peer, "large", 33 * MIB)
    assert isinstance(found, LargeAnswer)
    assert isinstance(await ask(peer, "take_large", found.key), LargeAnswer)  # too large here too
    gone = await ask(peer, "take_large", found.key)
    assert isinstance(gone, CallFailure)
    assert gone.error().retryable
    with pytest.raises(NotSent):
        await ask(peer, "echo", bytes(33 * MIB))
    assert len(await ask(peer, "echo", bytes(20 * MIB))) == 20 * MIB


# --- whom -----------------------------------------------------------------------------------------


async def test_nobody_is_there(client: Sockets, run_dir: Path) -> None:
    assert await client.peer(NAME) is None
    path = socket_path(run_dir, NAME)
    assert path is not None
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # of a process that is gone
    assert await client.peer(NAME) is None


async def test_a_file_that_was_left_is_replaced(start: Start, client: Sockets) -> None:
    first = start()
    first.kill()
    first.wait()
    start()
    assert await ask(await peer_of(client), "echo", 1) == 1


async def test_another_name_or_version_is_refused(
    start: Start, client: Sockets, run_dir: Path
) -> None:
    start()
    assert await Sockets(run_dir, "2").peer(NAME) is None
    own, other = socket_path(run_dir, NAME), socket_path(run_dir, "helmr-gateway")
    assert own is not None
    assert other is not None
    other.symlink_to(own)
    assert await client.peer("helmr-gateway") is None


async def test_a_frame_for_an_earlier_incarnation_is_refused(
    start: Start, run_dir: Path, tmp_path: Path
) -> None:
    start()
    with greeted(run_dir) as (connection, incarnation):
        mark = tmp_path / "mark"
        call = ("after", (0, str(mark)), dict[str, Any]())
        connection.sendall(frames.encode(FrameKind.CALL, incarnation + 1, 5, call))
        (refused,) = received(connection)
        assert (refused.kind, refused.request) == (FrameKind.REFUSED, 5)
        assert not mark.exists()
        assert connection.recv(1) == b""  # the connection ends


async def test_the_folder_is_for_this_user_only(start: Start, run_dir: Path) -> None:
    start()
    assert (run_dir / sockets.FOLDER).stat().st_mode & 0o777 == 0o700
    assert is_own_user(os.getuid())
    assert not is_own_user(os.getuid() + 1)


async def test_a_process_of_another_user_is_not_spoken_to(
    start: Start, client: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    monkeypatch.setattr(sockets, "is_own_user", lambda uid: False)
    assert await client.peer(NAME) is None


def test_a_path_too_long_for_the_kernel_is_shortened(tmp_path: Path) -> None:
    path = socket_path("/run/helmr", NAME)
    assert path == Path("/run/helmr/sockets/helmr-ledger.sock")
    long = "helmr-host-" + "x" * 60
    short = socket_path("/run/" + "y" * 50, long)
    assert short is not None
    assert len(str(short)) <= sockets.PATH_BYTES_MAX
    assert short != socket_path("/run/" + "y" * 50, long + "x")
    assert socket_path("/" + "z" * 100, NAME) is None


# --- crash ----------------------------------------------------------------------------------------


async def test_a_call_to_a_process_that_is_killed_may_have_run(
    start: Start, client: Sockets
) -> None:
    run = start()
    peer = await peer_of(client)
    calls = [asyncio.create_task(ask(peer, "wait")) for _ in range(5)]
    await ask(peer, "ping")
    run.kill()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in found} == {ConnectionEnded}
    with pytest.raises(NotSent):
        await ask(peer, "ping")
    assert await client.peer(NAME) is None


async def test_a_process_of_the_same_name_is_found_at_the_next_call(
    start: Start, client: Sockets
) -> None:
    first = start()
    peer = await peer_of(client)
    assert await ask(peer, "pid") == first.pid
    first.kill()
    first.wait()
    second = start()
    await until(lambda: is_other(client, second.pid))
    assert peer.transport is None


async def test_what_was_meant_for_a_stopped_process_never_runs_in_the_next_of_its_name(
    start: Start, client: Sockets, tmp_path: Path
) -> None:
    first = start()
    peer = await peer_of(client)
    os.kill(first.pid, signal.SIGSTOP)
    marks = [tmp_path / str(at) for at in range(OPEN_MAX)]
    calls = [asyncio.create_task(ask(peer, "after", 0, str(mark))) for mark in marks]
    await asyncio.sleep(0.05)  # handed over, and partly not
    first.kill()
    second = start()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in found} <= {ConnectionEnded, NotSent}
    await until(lambda: is_other(client, second.pid))
    late = await peer_of(client)
    late._incarnation = peer._incarnation  # as if it had not heard of the change
    with pytest.raises((ConnectionEnded, NotSent)):
        await ask(late, "after", 0, str(marks[0]))
    await until(lambda: is_other(client, second.pid))
    assert not [mark for mark in marks if await asyncio.to_thread(mark.exists)]


async def is_other(client: Sockets, pid: int) -> bool:
    with suppress(ConnectionEnded, NotSent):
        peer = await client.peer(NAME)
        return peer is not None and bool(await ask(peer, "pid") == pid)
    return False


async def test_a_forked_child_does_not_keep_its_parent_alive(start: Start, client: Sockets) -> None:
    run = start()
    peer = await peer_of(client)
    child = await ask(peer, "fork")
    try:
        pending = asyncio.create_task(ask(peer, "wait"))
        await ask(peer, "ping")
        run.kill()
        with pytest.raises(ConnectionEnded):
            await asyncio.wait_for(pending, 5)
        assert await client.peer(NAME) is None
    finally:
        os.kill(child, signal.SIGKILL)


# --- callers that give up -------------------------------------------------------------------------


async def test_a_long_poll_ends_with_its_caller_and_nothing_else_does(
    start: Start, client: Sockets, tmp_path: Path
) -> None:
    start()
    peer = await peer_of(client)
    mark = tmp_path / "mark"
    poll = asyncio.create_task(ask(peer, "watch", "a"))
    other = asyncio.create_task(ask(peer, "watch", "b"))
    work = asyncio.create_task(ask(peer, "after", 0.3, str(mark)))
    await ask(peer, "ping")
    for task in (poll, work):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: ended(peer, ["a"]))
    await until(lambda: asyncio.to_thread(mark.exists))
    assert not other.done()
    other.cancel()
    await until(lambda: ended(peer, ["a", "b"]))


async def ended(peer: Peer, names: list[str]) -> bool:
    return bool(await ask(peer, "ends") == names)


async def test_a_long_poll_that_is_given_up_at_once_never_was(start: Start, run_dir: Path) -> None:
    start()
    with greeted(run_dir) as (connection, incarnation):
        calls = (("watch", ("a",)), ("ends", ()))
        poll, ends = (
            frames.encode(FrameKind.CALL, incarnation, request, (method, args, dict[str, Any]()))
            for request, (method, args) in enumerate(calls)
        )
        connection.sendall(poll + frames.encode(FrameKind.CANCEL, incarnation, 0) + ends)
        answers: dict[int, Any] = {}
        while len(answers) < len(calls):
            answers |= {one.request: frames.decode(one.body) for one in received(connection)}
        assert isinstance(answers[0], CallFailure)
        assert answers[1] == []


async def test_long_polls_end_with_the_connection_and_nothing_else_does(
    start: Start, client: Sockets, run_dir: Path, tmp_path: Path
) -> None:
    start()
    mark = tmp_path / "mark"
    with greeted(run_dir) as (connection, incarnation):
        calls = (("watch", ("x",)), ("after", (0.3, str(mark))), ("ping", ()))
        for request, (method, args) in enumerate(calls):
            call = (method, args, dict[str, Any]())
            connection.sendall(frames.encode(FrameKind.CALL, incarnation, request, call))
        received(connection)
    peer = await peer_of(client)
    await until(lambda: ended(peer, ["x"]))
    await until(lambda: asyncio.to_thread(mark.exists))


# --- bounds ---------------------------------------------------------------------------------------


async def test_more_than_a_thousand_open_calls_are_refused_unsent(
    start: Start, client: Sockets
) -> None:
    start()
    peer = await peer_of(client)
    open_calls = [asyncio.create_task(ask(peer, "wait")) for _ in range(OPEN_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(ActorOverloaded) as caught:
        await ask(peer, "echo", 1)
    assert caught.value.retry_after_s == 1.0
    assert caught.value.status == 429
    await ask(peer, "ping")  # tells of life, whatever else is open
    open_calls[0].cancel()
    await asyncio.sleep(0)
    with pytest.raises(ActorOverloaded):  # it runs on
        await ask(peer, "echo", 1)
    peer.give_up("enough")
    found = await asyncio.gather(*open_calls, return_exceptions=True)
    assert {type(one) for one in found} == {asyncio.CancelledError, ConnectionEnded}


@pytest.mark.parametrize(
    "size_bytes", [10, pytest.param(64 * 1024, marks=pytest.mark.long)], ids=["many", "large"]
)
async def test_a_stopped_process_costs_its_callers_no_memory(
    start: Start, client: Sockets, size_bytes: int
) -> None:
    stopped = start()
    start("helmr-gateway")
    peer, other = await peer_of(client), await peer_of(client, "helmr-gateway")
    os.kill(stopped.pid, signal.SIGSTOP)
    sends = [
        asyncio.create_task(ask(peer, "echo", bytes([at % 256]) * size_bytes))
        for at in range(10_000)
    ]
    await asyncio.sleep(0)
    assert await ask(other, "echo", 1) == 1
    refused = [send for send in sends if send.done()]
    taken = [send for send in sends if not send.done()]
    assert all(isinstance(send.exception(), ActorOverloaded) for send in refused)
    assert 0 < len(taken) <= OPEN_MAX
    assert peer.unsent_bytes <= socket_calls.UNSENT_BYTES_MAX
    silent = asyncio.create_task(ask(peer, "ping"))
    await asyncio.sleep(0.05)
    assert not silent.done()
    os.kill(stopped.pid, signal.SIGCONT)
    await silent
    answers = await asyncio.gather(*taken)
    assert [len(answer) for answer in answers] == [size_bytes] * len(taken)


async def test_calls_to_a_process_that_was_stopped_before_wait_for_its_greeting(
    start: Start, client: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_calls, "GREET_WITHIN_S", 0.5)
    stopped = start()
    os.kill(stopped.pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(client.peer(NAME)) for _ in range(OPEN_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(ActorOverloaded):
        await client.peer(NAME)
    assert await asyncio.gather(*waiting) == [None] * OPEN_MAX  # Ray's way is left


async def test_a_caller_that_reads_no_answers_is_given_up(
    start: Start, client: Sockets, run_dir: Path
) -> None:
    start()
    peer = await peer_of(client)
    before_mib = await ask(peer, "memory_mib")
    with greeted(run_dir) as (connection, incarnation):
        for request in range(200):
            call = frames.encode(FrameKind.CALL, incarnation, request, ("large", (MIB,), {}))
            with suppress(OSError):
                connection.sendall(call)
        assert await ask(peer, "echo", 1) == 1
        connection.settimeout(10)
        size_bytes = 0
        with suppress(ConnectionError):
            while data := await asyncio.to_thread(connection.recv, MIB):
                size_bytes += len(data)
        assert size_bytes < 200 * MIB
    assert await ask(peer, "memory_mib") - before_mib < 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 4,
        bytes(100),
        b"\xff" * 100,
        frames.HEADER.pack(1, 1, 0, 0) + b"x",
    ],
    ids=["http", "zeros", "ones", "no value"],
)
async def test_whoever_speaks_otherwise_is_hung_up_on(
    start: Start, client: Sockets, run_dir: Path, data: bytes
) -> None:
    start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(socket_path(run_dir, NAME)))
        connection.settimeout(10)
        connection.sendall(data)
        with suppress(ConnectionError):
            while connection.recv(4096):
                pass
    assert await ask(await peer_of(client), "echo", 1) == 1


async def test_a_call_with_a_hostile_argument_does_not_run(start: Start, run_dir: Path) -> None:
    start()
    hostile = b"(cos\nsystem\n(U\x04exittR."
    with greeted(run_dir) as (connection, incarnation):
        header = frames.HEADER.pack(len(hostile), FrameKind.CALL, incarnation, 1)
        connection.sendall(header + hostile)
        (answer,) = received(connection)
        failure = frames.decode(answer.body)
        assert isinstance(failure, CallFailure)
        assert isinstance(failure.error(), HelmrError)
        assert "os.system can't cross" in failure.message


# --- a caller by hand -----------------------------------------------------------------------------


class greeted:  # noqa: N801 - reads as a verb
    """A connection that has said hello, and the incarnation that answered."""

    def __init__(self, run_dir: Path) -> None:
        self._path = socket_path(run_dir, NAME)
        self._connection = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> tuple[socket.socket, int]:
        self._connection.connect(str(self._path))
        self._connection.settimeout(10)
        hello = {"name": NAME, "version": VERSION}
        self._connection.sendall(frames.encode(FrameKind.HELLO, 0, 0, hello))
        (welcome,) = received(self._connection)
        assert welcome.kind is FrameKind.WELCOME
        return self._connection, welcome.incarnation

    def __exit__(self, *error: object) -> None:
        self._connection.close()


def received(connection: socket.socket) -> list[frames.Frame]:
    """The frames that come next, at least one."""
    reader, found = frames.FrameReader(), list[frames.Frame]()
    while not found:
        found.extend(reader.feed(connection.recv(65_536)))
    return found


async def test_an_actor_that_exists_once_and_was_here_is_not_asked_for_at_ray(
    run_dir: Path, start: Start
) -> None:
    calls = SocketCalls(str(run_dir), VERSION)
    kill = start()
    assert await calls.call(NAME, "echo", 1) == 1
    kill.send_signal(signal.SIGKILL)
    kill.wait()
    with suppress(ActorUnavailable):  # the end of the connection, if it was not heard of yet
        await calls.call(NAME, "echo", 1)
    with pytest.raises(ActorNotFound):
        await calls.call(NAME, "echo", 1)
    start()
    assert await calls.call(NAME, "echo", 2) == 2
