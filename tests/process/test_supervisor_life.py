"""`helmr up` on the real stack: alone on its data directory, on loopback, and nothing outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from helmr import Client
from helmr.client.discovery import find_runtime, live_runtimes
from helmr.errors import BadDefinition, Conflict, DataError, HelmrError, RuntimeHeld, UsageError
from helmr.hash_seed import KEEP_VARIABLE
from helmr_runtime.launchers import watchdog
from helmr_runtime.launchers.embedded import RuntimeProcess
from helmr_runtime.launchers.startup import UpOptions, hold_port
from helmr_runtime.launchers.supervisor import run_up
from helmr_runtime.process import processes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

HERE = Path(__file__).parent
ENDS_WITHIN_S = 10.0


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runtimes leave their pointers."""
    home = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.delenv("HELMR_URL", raising=False)
    return home


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """`run_up` takes the process it runs in for its own."""
    umask = os.umask(0)
    os.umask(umask)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    os.umask(umask)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def start(tmp_path: Path, state_home: Path) -> Iterator[Callable[..., RuntimeProcess]]:
    """Makes small runtimes; those still running at the end are killed."""
    made: list[RuntimeProcess] = []

    def make(name: str = "data", **options: object) -> RuntimeProcess:
        settings = {"tasks": ["work.py"], "folder": HERE, "sessions_per_host": 1, **options}
        runtime = RuntimeProcess.start(data_dir=tmp_path / name, **settings)  # type: ignore[arg-type]
        made.append(runtime)
        return runtime

    yield make
    for runtime in made:
        runtime.kill()


@pytest.mark.long  # tests/stack/test_alone.py; nothing is left of one: tests/demo/test_demo.py
@pytest.mark.parametrize(
    "again",
    [
        False,
        # `helmr demo` starts again too, behind a kill: tests/demo/test_demo.py.
        pytest.param(True, marks=pytest.mark.long),
    ],
)
def test_a_runtime_from_start_to_end(
    start: Callable[..., RuntimeProcess], tmp_path: Path, state_home: Path, again: bool
) -> None:
    data_dir, began_at_s = tmp_path / "data", time.time()
    with start() as runtime:
        key, first_pid = runtime.key, runtime.pid
        pids = (runtime.pid, *(one.pid for one in runtime.processes()))
        assert listening_elsewhere(pids) == []
        assert_private(data_dir)
        assert find_runtime(data_dir=data_dir).url == runtime.url
        assert [one.url for one in live_runtimes()] == [runtime.url]
        assert {name.split("-")[1] for name in runtime.pids() if "-" in name} == {
            "ledger",
            "directory",
            "gateway",
            "host",
        }
        with Client(url=runtime.url, key=key) as client:
            session = client.sessions.start("ask", "Go?", result_timeout="20s")
        everything = runtime.processes()
        assert len(everything) > 6

        began = time.monotonic()
        with pytest.raises(RuntimeHeld) as held:
            run_up(UpOptions(tasks=("work.py",), folder=HERE, data_dir=data_dir, port=0))
        assert held.value.facts["pid"] == first_pid
        assert held.value.facts["url"] == runtime.url
        assert time.monotonic() - began < 5.0

        began = time.monotonic()
        assert runtime.stop() == 0
        assert time.monotonic() - began < ENDS_WITHIN_S
    assert_nothing_left(everything, data_dir)
    # Ray's logs go with the runtime, to where the search for secrets reads them.
    logs = Path(os.environ[KEEP_VARIABLE]).glob("helmr-*/r/session_*/logs/gcs_server.out")
    assert any(log.stat().st_mtime > began_at_s for log in logs)
    assert live_runtimes() == []
    if again:
        goes_on(start, key, session.id)


def goes_on(start: Callable[..., RuntimeProcess], key: str, session_id: str) -> None:
    """What was left by a runtime that has ended."""
    with start() as runtime:
        assert runtime.key == key
        assert "1 runs wait" not in runtime.output()
        with Client(url=runtime.url, key=key) as client:
            wait = client.sessions.open(session_id).get().wait
            assert wait is not None
            client.waits.answer(wait.id, True)
        everything = runtime.processes()
        began = time.monotonic()
        runtime.kill(timeout_s=ENDS_WITHIN_S)
        assert time.monotonic() - began < ENDS_WITHIN_S
        assert not any(processes.is_running(one) for one in everything)


@pytest.mark.long
def test_two_runtimes_live_side_by_side(start: Callable[..., RuntimeProcess]) -> None:
    with start("one") as one, start("two") as two:
        assert one.url != two.url
        assert {live.url for live in live_runtimes()} == {one.url, two.url}
        for runtime in (one, two):
            with Client(url=runtime.url, key=runtime.key) as client:
                assert client.sessions.start("ask", "Go?", result_timeout="20s").created
        one.kill()
        with Client(url=two.url, key=two.key) as client:
            assert client.health().ready


def test_what_is_wrong_is_said_before_ray_starts(
    start: Callable[..., RuntimeProcess], tmp_path: Path
) -> None:
    cases: list[tuple[dict[str, object], type[HelmrError], str]] = [
        ({"tasks": ["nowhere.py"]}, UsageError, "no such file"),
        ({"tasks": ["broken.py"], "folder": tmp_path}, UsageError, "ZeroDivisionError"),
        ({}, DataError, "is not a DuckDB database"),
        ({"port": 1}, Conflict, "can't listen"),
    ]
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "wrong2").mkdir()
    (tmp_path / "wrong2" / "ledger.duckdb").write_text("a text\n")
    if os.geteuid() == 0:
        cases.pop()  # root may listen anywhere
    for number, (options, kind, text) in enumerate(cases):
        began = time.monotonic()
        with pytest.raises(kind, match=text), start(f"wrong{number}", **options):
            pass
        assert time.monotonic() - began < 15.0
        assert not list(tmp_path.rglob("*key*")), "a refused start has made keys"
        assert "Ray runs" not in (tmp_path / f"wrong{number}" / "up.log").read_text()


def test_no_tasks_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tasks"):
        run_up(UpOptions(tasks=(), data_dir=tmp_path))


def test_a_module_that_can_not_be_imported_names_itself(tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(BadDefinition, match=r"exits\.py"):
        run_up(UpOptions(tasks=("exits.py",), folder=tmp_path, data_dir=tmp_path / "d", port=0))


def assert_private(data_dir: Path) -> None:
    """Nobody else can read keys, credentials or data."""
    for path in [data_dir, *data_dir.rglob("*")]:
        if path.name != "up.log":  # the test's own redirection
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def assert_nothing_left(everything: tuple[processes.OsProcess, ...], data_dir: Path) -> None:
    assert not any(processes.is_running(one) for one in everything)
    assert not (data_dir / "credentials.json").exists()
    assert watchdog.read_record(data_dir) is None


def listening_elsewhere(pids: Iterable[int]) -> list[str]:
    """Addresses on which one of these processes listens, but for loopback."""
    inodes = set()
    for pid in pids:
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                inodes.add(os.readlink(link))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            is_listening = fields[3] == "0A"
            host = fields[1].rpartition(":")[0]
            is_loopback = host in ("0100007F", "0000000000000000FFFF00000100007F")
            if is_listening and not is_loopback and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


@pytest.mark.long
def test_readyz_is_200_only_when_the_credentials_are_written(
    start: Callable[..., RuntimeProcess], tmp_path: Path
) -> None:
    port, holder = hold_port("127.0.0.1", 0)
    holder.close()
    credentials = tmp_path / "data" / "credentials.json"
    # Of a runtime that was killed: it says nothing of the one that starts.
    credentials.parent.mkdir(mode=0o700)
    credentials.write_text("{}")
    was_written: list[bool] = []
    is_over = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            while not is_over.is_set():
                with contextlib.suppress(httpx.TransportError):
                    if http.get("/readyz").status_code == 200:
                        was_written.append(credentials.exists() and credentials.read_text() != "{}")
                        return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with start(port=port):
            looking.join(30)
    finally:
        is_over.set()
        looking.join()
    assert was_written == [True]
