"""Two runtimes with one log, and its store, as tests and programs start them."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmr.errors import HelmrError
from helmr.hash_seed import FILE as HASH_SEED
from helmr.models import Health
from helmr_runtime.launchers.runtime import SUPERSEDED
from helmr_runtime.process.spec import RING_NAME
from tests import reaper
from tests.ledger.store_servers import Seaweed, seaweed_program, seaweed_server
from tests.ordinary.stand_in import PostgresServer, own_postgres
from tests.stack.cut import Cut
from tests.stack.live import LiveRuntime, kill, until

STORES = ("folder", "postgres", "seaweed")
LEVEL_S = 180.0
"""A hang guard: on Ray, on a busy machine."""
ENDS_S = 60.0
SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class Store:
    """Where a log is.

    Attributes:
        urls: Of the log, as each of the two machines reaches it.
        server: What can be killed and started; None for a folder.
        cuts: Between each machine and the server; none for a folder, or if none were asked for.
    """

    urls: tuple[str, str]
    server: PostgresServer | Seaweed | None = None
    cuts: tuple[Cut, ...] = ()


@contextmanager
def open_store(kind: str, folder: Path, *, has_cuts: bool = False) -> Iterator[Store | None]:
    """A store of that kind, started; None where it is not installed."""
    with ExitStack() as stack:
        if kind == "folder":
            url = f"file://{folder}/store"
            yield Store((url, url))
        elif kind == "postgres":
            server = stack.enter_context(own_postgres())
            yield _postgres(server, stack, has_cuts=has_cuts) if server is not None else None
        elif seaweed_program() is None:
            yield None
        else:
            yield _seaweed(stack.enter_context(seaweed_server()), stack, has_cuts=has_cuts)


def _postgres(server: PostgresServer, stack: ExitStack, *, has_cuts: bool) -> Store:
    if not has_cuts:
        return Store((server.url(), server.url()), server)
    folders = [reaper.folder("helmr-cut-") for _ in range(2)]
    for folder in folders:
        stack.callback(shutil.rmtree, folder)
    first, second = (
        stack.enter_context(Cut(folder / SOCKET, server.folder / SOCKET)) for folder in folders
    )
    return Store((server.url(folders[0]), server.url(folders[1])), server, (first, second))


def _seaweed(server: Seaweed, stack: ExitStack, *, has_cuts: bool) -> Store:
    if not has_cuts:
        return Store((server.url("log"), server.url("log")), server)
    first, second = (stack.enter_context(Cut(("127.0.0.1", 0), server.address)) for _ in range(2))
    urls = [server.url("log", f"http://127.0.0.1:{one.port}") for one in (first, second)]
    return Store((urls[0], urls[1]), server, (first, second))


class Machines:
    """Two machines, by name; the second gets the keys of the first. Close it, also if it did not start.

    Args:
        folder: For everything they leave.
        urls: Of the log, as each reaches it.
        ports: Of their HTTP servers; 0 is any, another one at each start.
        options: Of both runtimes.
    """

    def __init__(
        self,
        folder: Path,
        urls: tuple[str, str],
        *,
        ports: tuple[int, int] = (0, 0),
        **options: Any,
    ) -> None:
        self.first, self.second = (
            _machine(folder / name, url, {**options, "port": port})
            for name, url, port in zip(("first", "second"), urls, ports, strict=True)
        )

    @property
    def both(self) -> tuple[LiveRuntime, LiveRuntime]:
        """Both, the first first."""
        return self.first, self.second

    def other(self, live: LiveRuntime) -> LiveRuntime:
        """The other one."""
        return self.second if live is self.first else self.first

    def start(self) -> None:
        """Have the first at work; the second can stand by from now on."""
        self.first.start()
        self.second.data_dir.mkdir(mode=0o700)
        for name in (RING_NAME, HASH_SEED):
            shutil.copy(self.first.data_dir / name, self.second.data_dir / name)

    def stand_by(self, live: LiveRuntime) -> None:
        """Start it beside the other one, and return when it has all that there is."""
        live.launch()
        until(lambda: is_level(live), within_s=LEVEL_S, what="level", seen=lambda: log_of(live))

    def close(self) -> None:
        """End both, also one that is paused."""
        for one in self.both:
            if one._process is not None and one._process.poll() is None:
                signal_all(one, signal.SIGCONT)
            one.stop()


def _machine(folder: Path, url: str, options: dict[str, Any]) -> LiveRuntime:
    folder.mkdir()
    return LiveRuntime(folder, arguments=[f"--log={url}"], **options)


def signal_all(live: LiveRuntime, number: int) -> None:
    """To each of its processes."""
    for pid in live.pids():
        kill(pid, number)


def log_of(live: LiveRuntime) -> str:
    """What it has said."""
    return (live.folder / "up.log").read_text()


def health_of(live: LiveRuntime) -> Health | None:
    """What it says of itself; None if it does not answer."""
    try:
        return live.client.health()
    except (HelmrError, OSError):
        live._forget_client()
        return None


def is_level(live: LiveRuntime) -> bool:
    """It stands by and has all that there is."""
    health = health_of(live)
    return health is not None and health.degraded == ["standby"] and health.ledger["behind"] == 0


def is_away(live: LiveRuntime) -> bool:
    """It says that it is not ready, as the store of its log does not answer."""
    health = health_of(live)
    return health is not None and not health.ready and "store_away" in health.degraded


def is_ready(live: LiveRuntime) -> bool:
    """It is at work."""
    health = health_of(live)
    return health is not None and health.ready


def is_at_work(live: LiveRuntime, *, within_s: float = 60.0) -> None:
    """Return when it has taken over."""
    until(lambda: is_ready(live), within_s=within_s, what="taken over", seen=lambda: log_of(live))


def ends_superseded(live: LiveRuntime) -> None:
    """Return when it has ended because another is at work."""
    assert live._process is not None
    code = live._process.wait(ENDS_S)
    assert code == SUPERSEDED, log_of(live)
    live._process = None
    live._forget_client()
