"""`helmr up`: starts a runtime in the foreground, watches it, and ends all of it.

Owns the data directory while it runs (a lock), the local admin key, the credentials that local
programs find, and every process it has started: a clean end parks what waits; after any other end
the watchdog and the kernel end the rest within seconds, and the next `up` looks once more.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from helmr.client.discovery import CREDENTIALS_FILE, pointer_dir, read_credentials
from helmr.errors import BadDefinition, Conflict, HelmrError, RuntimeHeld, UsageError
from helmr.models import Catalog, Credentials
from runtime.actors import leftovers, processes
from runtime.actors.cluster import LOOPBACK, Cluster, make_run_dir, prepare_environment
from runtime.actors.leftovers import Record, write_private
from runtime.actors.spec import RuntimeSpec
from runtime.actors.terminal import Terminal
from runtime.actors.watchdog import Watchdog
from runtime.catalog import load_modules
from runtime.clock import SystemClock
from runtime.security.keys import ensure_key_ring
from runtime.security.secrets import SecretKind, make_secret, parse_secret, secret_hash

DEFAULT_PORT = 4356
DEFAULT_DESKS = 2
DEFAULT_LINGER_S = 30.0
SLOTS_MAX = 8
LOCK_NAME = "up.lock"
KEY_NAME = "admin.key"
LOGS_KEPT = 100
STOP_WITHIN_S = 10.0
"""From a signal to the end of everything."""

TERMINAL = Terminal()
"""The process has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `helmr up` was told.

    Attributes:
        tasks: Task modules, dotted or as files, looked up from `folder`.
        port: 0 takes a free one.
        slots: None: twice the cores, at most 8.
        address: Join this Ray cluster instead of starting one.
        folder: None is the current folder.
        encrypts: Whether bodies of new entries are sealed; None as the data directory remembers.
        external_url: What the links of tokens begin with, if not with host and port.
        ready_fd: A line of JSON (`Credentials`) is written there when the runtime is ready.
    """

    tasks: tuple[str, ...]
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    data_dir: Path = Path(".helmr")
    slots: int | None = None
    desks: int = DEFAULT_DESKS
    linger_s: float = DEFAULT_LINGER_S
    address: str | None = None
    folder: Path | None = None
    ready_fd: int | None = None
    external_url: str | None = None
    encrypts: bool | None = None


def run_up(options: UpOptions) -> int:
    """Run a runtime until a signal ends it; returns the exit code.

    Raises:
        RuntimeHeld: Another runtime has the data directory; names it.
        BadDefinition: A task module can't be used.
        Conflict: The port is taken.
        Unavailable: Ray or the ledger can't be started.
    """
    if not options.tasks:
        raise UsageError("no tasks are named", hint="Name task files or modules.")
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folder = (options.folder or Path.cwd()).resolve()
    data_dir = (folder / options.data_dir).resolve()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock(data_dir):
        TERMINAL.say(f"Helmr {version()} on {data_dir}")
        catalog = _load_catalog(options.tasks, folder)
        ended = leftovers.end_leftovers(data_dir)
        if ended:
            TERMINAL.say(f"ended {ended} processes that an earlier runtime had left")
        port = _free_port(options.host, options.port)
        run = _Run(options, folder=folder, data_dir=data_dir, port=port, catalog=catalog)
        try:
            return run.run()
        except KeyboardInterrupt:
            TERMINAL.say("stopped before it was ready")
            return 0
        finally:
            run.clean_up()


def version() -> str:
    """Of Helmr."""
    try:
        return metadata.version("helmr")
    except metadata.PackageNotFoundError:
        return "0.0.0+source"


class _Run:
    """One runtime from its first process to its last."""

    def __init__(
        self, options: UpOptions, *, folder: Path, data_dir: Path, port: int, catalog: Catalog
    ) -> None:
        self._options = options
        self._folder = folder
        self._data_dir = data_dir
        self._port = port
        self._catalog = catalog
        self._run_dir = make_run_dir()
        self._mark = processes.Mark(os.urandom(16).hex(), self._run_dir)
        self._key = _local_key(data_dir)
        self._watchdog = Watchdog(data_dir, self._mark)
        self._cluster = Cluster(self._run_dir, options.address)
        self._pointer: Path | None = None
        self._recorded: tuple[processes.Process, ...] = ()
        (self._run_dir / "crumbs").mkdir()
        _trim_logs(data_dir / "logs")

    def run(self) -> int:
        """Start everything, serve until a signal, park and stop."""
        self._record(())
        prepare_environment(
            marker=self._mark.marker,
            run_dir=self._run_dir,
            is_joined=self._options.address is not None,
        )
        self._watchdog.start()
        # Ray gives the current folder to its workers as the first place to import from.
        os.chdir(self._run_dir)
        TERMINAL.divert(self._data_dir / "logs" / "supervisor.log")
        address = self._cluster.start()
        TERMINAL.say(f"Ray runs on {address}")
        from runtime.actors.keeper import Keeper  # noqa: PLC0415 - imports ray, see Cluster.start

        spec = self._spec()
        ensure_key_ring(spec.ring_path, os.environ, now=SystemClock().now())
        keeper = Keeper(
            spec,
            self._catalog,
            is_cluster_alive=lambda: not self._cluster.dead_processes(),
            look_after=self._look_after,
            on_ready=self._ready,
            say=TERMINAL.say,
        )
        return asyncio.run(keeper.run())

    def _spec(self) -> RuntimeSpec:
        """What every actor is built from."""
        me = _this_process()
        return RuntimeSpec(
            data_dir=str(self._data_dir),
            run_dir=str(self._run_dir),
            tasks=self._options.tasks,
            folder=str(self._folder),
            catalog_hash=self._catalog.code_hash,
            slots=self._options.slots or min(SLOTS_MAX, 2 * (os.cpu_count() or 1)),
            desks=self._options.desks,
            linger_s=self._options.linger_s,
            host=self._options.host,
            port=self._port,
            admin_key_hash=secret_hash(self._key),
            version=version(),
            supervisor=(me.pid, me.started),
            boot_id=processes.boot_id(),
            is_joined=self._options.address is not None,
            encrypts=self._options.encrypts,
            external_url=self._options.external_url,
        )

    def _record(self, found: tuple[processes.Process, ...]) -> None:
        """Write down what there is to end, should this process be killed."""
        me = _this_process()
        leftovers.write_record(
            self._data_dir,
            Record(mark=self._mark, supervisor=me, processes=found),
        )

    def _look_after(self) -> None:
        if not self._watchdog.is_alive:
            self._watchdog.start()
        found = tuple(processes.marked(self._mark))
        if found != self._recorded:
            self._recorded = found
            self._record(found)

    def _ready(self) -> None:
        """Let local programs find this runtime."""
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        if host in ("0.0.0.0", "[::]"):
            host = LOOPBACK
        credentials = Credentials(
            url=f"http://{host}:{self._port}",
            key=self._key,
            pid=os.getpid(),
            data_dir=str(self._data_dir),
        )
        text = credentials.model_dump_json()
        write_private(self._data_dir / CREDENTIALS_FILE, text)
        self._pointer = pointer_dir(os.environ) / f"{self._port}.json"
        self._pointer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._pointer, text)
        TERMINAL.say(f"ready on {credentials.url} (Ctrl-C ends it)")
        if self._options.ready_fd is not None:
            os.write(self._options.ready_fd, text.encode() + b"\n")
            os.close(self._options.ready_fd)

    def clean_up(self) -> None:
        """End whatever is left, and take back what pointed here."""
        os.chdir("/")
        if self._pointer is not None:
            self._pointer.unlink(missing_ok=True)
            (self._data_dir / CREDENTIALS_FILE).unlink(missing_ok=True)
        try:
            self._cluster.stop()
        finally:
            spare = [self._watchdog.pid] if self._watchdog.pid is not None else []
            left = processes.end_all(
                self._mark, self._recorded, spare=spare, within_s=STOP_WITHIN_S / 2
            )
            self._watchdog.dismiss(timeout_s=STOP_WITHIN_S / 2)
            leftovers.remove_run_dir(self._run_dir)
            TERMINAL.restore()
        if left:
            TERMINAL.say(f"{len(left)} processes could not be ended; the next start tries again")
            self._record(tuple(left))
        else:
            leftovers.forget_record(self._data_dir)


# --- parts ----------------------------------------------------------------------------------------


def _this_process() -> processes.Process:
    me = processes.process(os.getpid())
    assert me is not None, "this process runs"
    return me


@contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; the kernel gives it back with this process, whatever ends it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(data_dir / LOCK_NAME, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise _held(data_dir, holder) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    try:
        yield
    finally:
        os.close(descriptor)


def _held(data_dir: Path, holder: str) -> RuntimeHeld:
    credentials = read_credentials(data_dir / CREDENTIALS_FILE)
    url = credentials.url if credentials is not None else None
    place = f" at {url}" if url is not None else ""
    return RuntimeHeld(
        f"{data_dir} is in use by the runtime with pid {holder}{place}",
        hint=f"Use that one, end it with `helmr down --data-dir {data_dir}`, "
        "or name another --data-dir.",
        pid=int(holder) if holder.isdigit() else None,
        url=url,
        data_dir=str(data_dir),
    )


def _load_catalog(tasks: tuple[str, ...], folder: Path) -> Catalog:
    """Import the task modules, as every slot will, and read what is in them."""
    try:
        catalog = load_modules(tasks, folder=folder).catalog()
    except HelmrError:
        raise
    except (Exception, SystemExit) as error:  # user code runs here: whatever it raises is its own
        raise BadDefinition(
            f"{', '.join(tasks)} can't be imported: {type(error).__name__}: {error}"
        ) from error
    TERMINAL.say(f"{len(catalog.tasks)} tasks: {', '.join(task.id for task in catalog.tasks)}")
    return catalog


def _free_port(host: str, port: int) -> int:
    """The port if it is free, or a free one for 0; known before anything is started."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise UsageError(f"{host!r} is no address of this machine", hint="Check --host.") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Conflict(
                f"can't listen on {host}:{port}: {error.strerror}",
                hint="Choose another with --port, or end what listens there.",
                port=port,
            ) from error
        free: int = probe.getsockname()[1]
        return free


def _local_key(data_dir: Path) -> str:
    """The admin key of this data directory; the same after every restart."""
    path = data_dir / KEY_NAME
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        key = ""
    if parse_secret(key) is SecretKind.API_KEY:
        path.chmod(0o600)
        return key
    key = make_secret(SecretKind.API_KEY)
    write_private(path, key)
    return key


def _trim_logs(folder: Path) -> None:
    """Keep the newest logs of earlier runtimes."""
    folder.mkdir(mode=0o700, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in logs[LOGS_KEPT:]:
        path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run a runtime from one argument, the options as JSON; how `runtime.actors.embedded` does."""
    parser = argparse.ArgumentParser(prog="runtime.actors.supervisor")
    parser.add_argument("options", help="UpOptions as JSON")
    values = json.loads(parser.parse_args(arguments).options)
    values["tasks"] = tuple(values["tasks"])
    for name in ("data_dir", "folder"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    try:
        return run_up(UpOptions(**values))
    except HelmrError as error:
        TERMINAL.say(f"error: {error.message}")
        if error.hint:
            TERMINAL.say(f"hint: {error.hint}")
        return error.exit_code


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
