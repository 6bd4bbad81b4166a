"""DBOS's queue under the same limit, on PostgreSQL, while Helmr's run goes on beside it: time and overshoot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.programs.benchmarks import systems
from tests.programs.benchmarks.processes import Server
from tests.programs.benchmarks.systems.clusters import (
    POSTGRES_USER,
    init_cluster,
    postgres_program,
)
from tests.programs.limits.counting import Provider, most_at_once, most_within
from tests.stack.live import until

APP = Path(systems.__file__).parents[1] / "apps" / "dbos_queue_app.py"
START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a system is to do: so many calls, so many at once, so many begun in a time."""

    sessions: int
    at_once: int
    per: int
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What a provider saw of a system, from the first call to the end of the last.

    Attributes:
        at_once: Calls that were under way at the same time.
        within: Calls that came in some `within_s`.
        seconds: How long all of them took.
        share: Of the calls that `per` allows in that time, how many came.
    """

    at_once: int
    within: int
    calls: int
    seconds: float
    share: float


def arrived(provider: Provider, asked: Asked) -> Arrived:
    """As the provider saw it."""
    times = [one.began_s for one in provider.calls]
    span_s = max(times) - min(times)
    return Arrived(
        at_once=most_at_once(provider.calls),
        within=most_within(times, asked.within_s),
        calls=len(times),
        seconds=round(max(one.ended_s for one in provider.calls) - min(times), 1),
        share=round((len(times) - 1) / span_s / (asked.per / asked.within_s), 3) if span_s else 1.0,
    )


class DbosQueue:
    """DBOS with a PostgreSQL of its own, both in processes of their own.

    Args:
        python: The interpreter that has DBOS.
        folder: For everything it leaves; other users of the machine must be able to enter it.
        hold_s: How long its provider holds each call.
    """

    def __init__(self, python: str, folder: Path, *, hold_s: float) -> None:
        self._python = python
        self._folder = folder
        self.provider = Provider(hold_s)
        self._servers: list[Server] = []

    def start(self, asked: Asked) -> None:
        """Its database, and then all of its calls."""
        home = self._folder / "pg"
        home.mkdir(parents=True)
        user = None
        if os.geteuid() == 0:
            user = POSTGRES_USER
            shutil.chown(home, user, user)
            for above in (self._folder, self._folder.parent):
                above.chmod(0o755)
        init_cluster(home, user)
        options = ["-D", str(home / "data"), "-k", str(home), "-c", "listen_addresses="]
        self._serve([str(postgres_program("postgres")), *options], "postgres", user=user)
        until(lambda: self._made(home), within_s=START_S, what="PostgreSQL")
        url = f"postgresql+psycopg://bench@/bench?host={home}"
        said = json.dumps({**asdict(asked), "port": self.provider.port})
        self._serve([self._python, str(APP), url, said], "dbos")

    def wait(self, asked: Asked, *, within_s: float) -> Arrived:
        """What its provider saw, once it has had every call.

        Raises:
            AssertionError: Not in time.
        """
        until(lambda: self._has_all(asked), within_s=within_s, what="all calls of DBOS")
        return arrived(self.provider, asked)

    def stop(self) -> None:
        """End all of it."""
        for server in reversed(self._servers):
            server.stop()
        self._servers.clear()
        self.provider.stop()

    def _has_all(self, asked: Asked) -> bool:
        if len(self.provider.calls) >= asked.sessions:
            return True
        self._servers[0].check()
        return False

    def _serve(self, command: list[str], name: str, *, user: str | None = None) -> None:
        log, home = self._folder / f"{name}.log", self._folder
        server = Server(command, log, environment=os.environ, cwd=home, user=user)
        self._servers.append(server)

    def _made(self, home: Path) -> bool:
        """Whether its database is there; it is made once the server answers."""
        self._servers[0].check()
        made = [str(postgres_program("createdb")), "-h", str(home), "-U", "bench", "bench"]
        ended = subprocess.run(made, capture_output=True, check=False, cwd=home)
        return ended.returncode == 0
