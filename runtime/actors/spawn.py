"""Builds the actors inside their Ray processes, and starts pool actors for the directory.

`Host` is the one class that Ray runs: it builds its actor at the first call, so that a constructor
can't fail and a restarted actor sets itself up. Everything it needs comes in a `RuntimeSpec`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmr.errors import HelmrError
from helmr.ids import new_id
from runtime.actors import breadcrumb, processes
from runtime.actors.boundary import (
    DIRECTORY,
    GATEWAY,
    LEDGER,
    POOL_PREFIXES,
    Failure,
    serve,
)
from runtime.actors.breadcrumb import Crumb
from runtime.actors.calls import RayCalls
from runtime.actors.cluster import SLOT_RESOURCE
from runtime.actors.directory import DirectoryActor
from runtime.actors.gateway import make_gateway
from runtime.actors.ledger import LedgerActor
from runtime.actors.pool import ProcessState
from runtime.actors.proxies import LedgerProxy, SessionProxy
from runtime.actors.session import SessionActor
from runtime.actors.timing import Limits
from runtime.catalog import load_modules
from runtime.clock import SystemClock
from runtime.security import redaction

logger = logging.getLogger(__name__)

SESSION_CALLS_MAX = 1_000
SHARED_CALLS_MAX = 10_000
"""Calls that run in one actor at once; Ray queues what is above."""

SWITCH_INTERVAL_S = 0.0005
"""How long a spinning task may keep the interpreter from the actor's loop."""

DOOM_DELAY_S = 0.05
"""An actor that ends itself answers its last call first."""

LEDGER_FILE = "ledger.duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSpec:
    """What the actors of a runtime need to build themselves.

    Attributes:
        tasks: Task modules, as given to `up`; looked up from `folder`.
        run_dir: Temporary folder of this runtime; holds crumbs and pids.
        admin_key_hash: Hex SHA-256 of the local admin key.
    """

    data_dir: str
    run_dir: str
    tasks: tuple[str, ...]
    folder: str
    catalog_hash: str
    slots: int
    desks: int
    linger_s: float
    host: str
    port: int
    admin_key_hash: str
    version: str

    @property
    def crumbs_dir(self) -> Path:
        """One crumb and one pid file per pool actor."""
        return Path(self.run_dir) / "crumbs"

    @property
    def logs_dir(self) -> Path:
        """One log file per actor."""
        return Path(self.data_dir) / "logs"


class Host:
    """An actor's process: builds the actor of its name and serves calls to it."""

    def __init__(self, name: str, spec: RuntimeSpec) -> None:
        self._name = name
        self._spec = spec
        self._calls = RayCalls()
        self._target: object | None = None
        self._building = asyncio.Lock()
        self._is_set_up = False

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Serve one call; what fails is a `Failure`.

        Three are the host's own: `build` returns when the actor is built; `forever` never returns,
        it fails when this process ends; `call_counts` is `{"kind.method": calls made from here}`.
        """
        if method == "call_counts":
            return {".".join(key): count for key, count in self._calls.counter.items()}
        try:
            target = self._target or await self._build()
        except HelmrError as error:
            return Failure.of(error)
        if method == "build":
            return None
        if method == "forever":
            await asyncio.Event().wait()
        return await serve(target, method, args, kwargs)

    async def _build(self) -> object:
        async with self._building:
            if self._target is None:
                self._set_up()
                try:
                    self._target = await BUILDERS[_kind(self._name)](self)
                except HelmrError:
                    raise
                except Exception as error:  # the edge of an actor, as in `serve`
                    logger.exception("%s can't be built", self._name)
                    raise HelmrError(f"{self._name}: {type(error).__name__}: {error}") from error
            return self._target

    def _set_up(self) -> None:
        """Once per process: where its output goes, and its pid for whoever must end it."""
        if self._is_set_up:
            return
        self._is_set_up = True
        log_to(self._spec.logs_dir / f"{self._name}.log")
        if self._name.startswith(POOL_PREFIXES):
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            with contextlib.suppress(OSError):
                _pid_path(self._spec, self._name).write_text(str(os.getpid()))

    # --- builders -----------------------------------------------------------------------------

    async def ledger(self) -> object:
        """The ledger; it opens its file at its first call."""
        return LedgerActor(Path(self._spec.data_dir) / LEDGER_FILE, clock=SystemClock())

    async def directory(self) -> object:
        """A started directory."""
        spec = self._spec
        directory = DirectoryActor(
            ledger=LedgerProxy(self._calls),
            sessions=lambda name: SessionProxy(self._calls, name),
            spawner=RaySpawner(self._calls, spec),
            clock=SystemClock(),
            slots=spec.slots,
            desks=spec.desks,
            catalog_hash=spec.catalog_hash,
            limits=Limits(linger_s=spec.linger_s),
        )
        await directory.start()
        return directory

    async def gateway(self) -> object:
        """A gateway that serves."""
        spec = self._spec
        gateway = make_gateway(
            self._calls,
            host=spec.host,
            version=spec.version,
            data_dir=spec.data_dir,
            admin_key_hash=spec.admin_key_hash,
        )
        await gateway.start(spec.host, spec.port)
        return gateway

    async def session(self) -> object:
        """A pool actor; it imports the task modules when it is first asked who it is."""
        spec = self._spec
        return SessionActor(
            self._name,
            self._name.split("-")[1],
            LedgerProxy(self._calls),
            SystemClock(),
            lambda: load_modules(spec.tasks, folder=Path(spec.folder)),
            on_doom=_end_soon,
            crumb_path=_crumb_path(spec, self._name),
            linger_s=spec.linger_s,
        )


BUILDERS: dict[str, Callable[[Host], Awaitable[object]]] = {
    "ledger": Host.ledger,
    "directory": Host.directory,
    "gateway": Host.gateway,
    "session": Host.session,
}


def _kind(name: str) -> str:
    shared = {LEDGER: "ledger", DIRECTORY: "directory", GATEWAY: "gateway"}
    return shared.get(name, "session")


def _crumb_path(spec: RuntimeSpec, name: str) -> Path:
    return spec.crumbs_dir / f"{name}.crumb"


def _pid_path(spec: RuntimeSpec, name: str) -> Path:
    return spec.crumbs_dir / f"{name}.pid"


def _end_soon(reason: str) -> None:
    logger.info("ending: %s", reason)
    asyncio.get_running_loop().call_later(DOOM_DELAY_S, os._exit, 0)


def log_to(path: Path) -> None:
    """Send this process's log, and what it prints, to a file; secrets are taken out of the log."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    logging.basicConfig(
        stream=os.fdopen(2, "w", closefd=False, buffering=1),
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    redaction.install()
    faulthandler.enable(2)


class RaySpawner:
    """Pool actors over Ray; see `runtime.actors.pool.Spawner`."""

    def __init__(self, calls: RayCalls, spec: RuntimeSpec) -> None:
        self._calls = calls
        self._spec = spec

    async def spawn(self, role: str) -> str:
        """Create an actor with a fresh name."""
        unique = new_id("actor").partition("_")[2]
        name = f"helmr-{role}-{unique}"
        await create_host(self._calls, name, self._spec)
        return name

    async def kill(self, name: str, pid: int | None) -> None:
        """SIGKILL the process if it is on this machine, and tell Ray."""
        await asyncio.to_thread(self._kill_process, name, pid)
        await self._calls.kill(name)

    def _kill_process(self, name: str, pid: int | None) -> None:
        path = _pid_path(self._spec, name)
        if pid is None:
            try:
                pid = int(path.read_text())
            except (OSError, ValueError):
                return
        one = processes.process(pid)
        if one is not None and _is_pool_process(one.pid):
            processes.kill(one)
        path.unlink(missing_ok=True)

    async def names(self) -> Sequence[str]:
        """The pool actors that Ray knows."""
        return [name for name in await self._calls.names() if name.startswith(POOL_PREFIXES)]

    async def look(self, pid: int) -> ProcessState:
        """What /proc says of a process."""
        found = await asyncio.to_thread(processes.look, pid)
        if found is None or found[0] in "ZX":
            return ProcessState.GONE
        return ProcessState.STOPPED if found[0] in "Tt" else ProcessState.RUNNING

    async def crumb(self, name: str) -> Crumb | None:
        """What a dead actor held and did."""
        path = _crumb_path(self._spec, name)
        crumb = await asyncio.to_thread(breadcrumb.read, path)
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return crumb


def _is_pool_process(pid: int) -> bool:
    """A Ray worker of ours has this pid, not a process that got it later."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.startswith(b"ray::") or b"default_worker.py" in command


async def create_host(calls: RayCalls, name: str, spec: RuntimeSpec) -> None:
    """Create the actor of that name; it is built at its first call.

    Pool actors never restart by themselves: the directory replaces them. The others do, for ever.
    """
    is_pool = name.startswith(POOL_PREFIXES)
    options: dict[str, Any] = {
        "max_restarts": 0 if is_pool else -1,
        "max_concurrency": SESSION_CALLS_MAX if is_pool else SHARED_CALLS_MAX,
    }
    if is_pool:
        options["resources"] = {SLOT_RESOURCE: 1}
    await calls.create(name, Host, name, spec, options=options)
