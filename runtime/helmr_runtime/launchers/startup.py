"""Options of `helmr up`, and the checks and preparations before it starts anything."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from helmr import platform
from helmr.client.discovery import CREDENTIALS_FILE, LOCK_FILE, pointer_dir, read_credentials
from helmr.errors import Conflict, RuntimeHeld, StoreUnavailable, UsageError
from helmr.hash_seed import FILE, VARIABLE, fresh_seed, is_seed, kept_seed
from helmr.limits import Limit
from helmr.models import Catalog
from helmr.person.inbox_link import inbox_link
from helmr.private_file import write_private
from helmr.version import version
from helmr_runtime import tracing
from helmr_runtime.catalog import Registry, load_registry
from helmr_runtime.clock import SystemClock
from helmr_runtime.features import FEATURES
from helmr_runtime.launchers import watchdog
from helmr_runtime.ledger.log.files import check_is_database
from helmr_runtime.notices.secrets import Secrets
from helmr_runtime.notices.targets import Target, for_people, to_json
from helmr_runtime.process import local_access
from helmr_runtime.process.local_access import KEY_NAME, stored_key
from helmr_runtime.process.spec import (
    LEDGER_NAME,
    RING_NAME,
    RuntimeSettings,
    RuntimeSpec,
)
from helmr_runtime.rpc import sockets
from helmr_runtime.security.keys import ensure_key_ring, read_key_ring
from helmr_runtime.security.people import read_people
from helmr_runtime.security.private_files import open_private, secure_folder
from helmr_runtime.security.secrets import secret_hash

SESSIONS_PER_HOST_MAX = 500
"""The default: a thread with a loop costs a session tens of kilobytes, and what its code holds comes on top."""

FILES_PER_SESSION = 4
LOGS = "logs"
LOGS_KEPT = 100
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions(RuntimeSettings):
    """The options of `helmr up`.

    Attributes:
        hosts: Processes that sessions live in; None: one for two cores, since what they run mostly waits.
        sessions_per_host: Sessions whose code one of them may have at once; None: 500, or fewer if this user may open
            fewer files.
        address: Join this Ray cluster instead of starting one; the runtime goes on in it.
        folder: Tasks are looked up from it; None is the current folder.
        ready_fd: A line of JSON (`Credentials`) is written there when the runtime is ready.
        in_process: Without Ray, in this process alone.
        reloads: Start it again when a task file changes; only in one process.
        notices: Where notices go; their secrets are checked before it starts.
        people: The table `[people]`; None: the runtime knows no people.
        limits: The table `[limits]`.
        sections: Tables of `helmr.toml` that features read, by the feature's name; checked before it starts.
    """

    data_dir: Path = Path(".helmr")
    hosts: int | None = None
    sessions_per_host: int | None = None
    address: str | None = None
    folder: Path | None = None
    ready_fd: int | None = None
    in_process: bool = False
    reloads: bool = False
    notices: tuple[Target, ...] = ()
    people: Mapping[str, Any] | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what can't be kept.

        Raises:
            UsageError: A bound is set on what can't be ended, traces are wanted that nothing here can make, or a
                notice target lacks its secret.
        """
        if self.traces:
            tracing.check_installed()
        if self.notices and not self.serves_http:
            raise UsageError(
                "the process that serves HTTP sends the notices",
                hint="Leave out --no-http, or the notice targets.",
            )
        if self.external_url is not None:
            _check_base_url(self.external_url)
        people = read_people(self.people, "helmr.toml")
        for target in self.notices:
            for_people(target, people).check(Secrets(os.environ))
        if self.in_process and self.host_memory_bytes is not None:
            raise UsageError(
                "--host-memory needs Ray: in one process, no host can be replaced on its own",
                hint="Leave out --host-memory, or run on Ray.",
            )

    @property
    def hosts_count(self) -> int:
        """Number of hosts: as requested, else the default."""
        return self.hosts or (1 if self.in_process else max(1, (os.cpu_count() or 1) // 2))

    @property
    def host_room(self) -> int:
        """Sessions per host: as requested, else the default."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self.in_process:
            files //= self.hosts_count  # they share them
        return self.sessions_per_host or max(
            1, min(SESSIONS_PER_HOST_MAX, files // FILES_PER_SESSION)
        )

    def spec(
        self,
        folder: Path,
        data_dir: Path,
        run_dir: Path,
        *,
        catalog_hash: str,
        key: str,
        **more: Any,
    ) -> RuntimeSpec:
        """Build the spec of every actor. Equal options give equal specs, so specs can be compared.

        Args:
            folder: Tasks are looked up from it.
            data_dir: Holds the ledger's file and the logs.
            run_dir: Holds statuses and pids.
            catalog_hash: The code that hosts must have loaded.
            key: The local admin key.
            more: Further fields of the spec, and fields that override the options.
        """
        found = {
            **self.settings(),
            "hosts": self.hosts_count,
            "sessions_per_host": self.host_room,
            "notices": to_json(self.notices),
            "people": self.people,
            "features": tuple(one.name for one in FEATURES),
            "sections": self.sections,
            **more,
        }
        return RuntimeSpec(
            data_dir=str(data_dir),
            run_dir=str(run_dir),
            folder=str(folder),
            catalog_hash=catalog_hash,
            admin_key_hash=secret_hash(key),
            version=version(),
            **found,
        )

    def folders(self) -> tuple[Path, Path]:
        """Return the folder of the tasks, and the data directory, which is created."""
        folder = (self.folder or Path.cwd()).resolve()
        data_dir = (folder / self.data_dir).resolve()
        with writing(data_dir):
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder, data_dir


def _check_base_url(url: str) -> None:
    """Raise unless links can begin with this URL."""
    try:
        parts = urlsplit(url)
        is_base = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_base = is_base and not any(char in url for char in "?#@")
    except ValueError:
        is_base = False
    if not is_base:
        raise UsageError(
            f"--external-url {url[:200]!r} can't be the beginning of links",
            hint="Write scheme and host, like https://helmr.example.com or https://example.com/helmr.",
        )


@contextmanager
def writing(data_dir: Path) -> Iterator[None]:
    """A failure to make or write something here is reported as the data directory's fault."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            path = Path(error.filename or data_dir)
            is_inside = path.is_relative_to(data_dir)
            place = f"the data directory {data_dir}" if is_inside else f"{path.parent}"
            raise StoreUnavailable(
                f"the disk of {place} is full: {error.strerror}",
                hint="Free space there, then start again: nothing that was acknowledged is lost.",
            ) from error
        name = f"{error.filename}: " if error.filename is not None else ""
        raise UsageError(
            f"{data_dir} can't be used as data directory: {name}{error.strerror}",
            hint="Make it a folder that this user may write, or name another --data-dir.",
        ) from error


@contextmanager
def lock(data_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the data directory; the kernel gives it back with this process, whatever ends it, and whatever it forked.

    Raises:
        RuntimeHeld: Another runtime has it, or has the one that it is a copy of.
        UsageError: Others may write it, or something in it is not the runtime's.
        StoreUnavailable: Its disk is full.
    """
    with writing(data_dir):
        for folder in (data_dir, data_dir / LOGS):
            if folder.is_dir() or folder.is_symlink():
                secure_folder(folder, say)
        descriptor = open_private(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _Holder.read(descriptor)
        os.close(descriptor)
        raise _held(data_dir, holder) from error
    sockets.hold(descriptor)
    try:
        _check_not_copied(data_dir, _Holder.read(descriptor), descriptor)
        with writing(data_dir):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _Holder.own(descriptor).text.encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(
                descriptor, 0
            )  # the process may go on, and holds no copy that is made from now on
    finally:
        sockets.release(descriptor)
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Holder:
    """Contents of the lock file: its holder, and its own identity.

    Earlier versions wrote only the pid.
    """

    pid: str
    process: str = ""
    file: str = ""

    @classmethod
    def own(cls, descriptor: int) -> _Holder:
        """This process, of this file."""
        status = os.fstat(descriptor)
        pid = os.getpid()
        return cls(str(pid), _process(pid), f"{status.st_dev}:{status.st_ino}")

    @classmethod
    def read(cls, descriptor: int) -> _Holder:
        """Read the lock file."""
        text = os.pread(descriptor, 4096, 0).decode(errors="replace")
        return cls(*[*text.splitlines(), "", "", ""][:3])

    @property
    def text(self) -> str:
        """Text of the lock file, with the pid in the first line."""
        return f"{self.pid}\n{self.process}\n{self.file}\n"

    @property
    def works(self) -> bool:
        """True while that very process runs, not a later one with the same pid."""
        return self.pid.isdigit() and self.process != "" and self.process == _process(int(self.pid))


def _process(pid: int) -> str:
    """Names a process for as long as this machine runs; empty if it has ended."""
    found = platform.look(pid)
    gone = found is None or found[0] in platform.ENDED
    # One word that is no number: `kill $(cat up.lock)`, which was right when the pid stood alone, kills no one else.
    return "" if gone or found is None else f"{platform.boot_id()}:{found[1]}"


def _check_not_copied(data_dir: Path, before: _Holder, descriptor: int) -> None:
    """Refuse a directory that was copied while a runtime worked on it, as long as that one works."""
    if before.works and before.file != _Holder.own(descriptor).file:
        raise RuntimeHeld(
            f"{data_dir} is a copy of a data directory that the runtime with pid {before.pid} works on: both would "
            "execute the same steps",
            hint="End that one first. A copy of a running one is made by `helmr backup` and `helmr restore`. To run "
            f"both on purpose, delete {data_dir / LOCK_FILE}.",
            pid=int(before.pid),
            data_dir=str(data_dir),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartClaim:
    """Resources that a foreground runtime holds exclusively."""

    folder: Path
    data_dir: Path
    port: int


@contextmanager
def claim(options: UpOptions, say: Callable[[str], None]) -> Iterator[StartClaim]:
    """Hold data directory and port, and end what an earlier runtime has left.

    Raises:
        RuntimeHeld: Another runtime has the data directory; names it.
        Conflict: The port is taken.
        DataError: The ledger's file is not a database.
        UsageError, MasterKeyMissing: The ledger is not to be gone on with as things are.
    """
    folder, data_dir = options.folders()
    with lock(data_dir, say):
        say(f"Helmr {version()} on {data_dir}")
        if options.log_url is None:  # else it is a cache, and made again
            check_is_database(data_dir / LEDGER_NAME)
        local_access.withdraw(data_dir, None)  # of a runtime that was killed
        ended = watchdog.end_leftovers(data_dir)
        if ended:
            noun = "process" if ended == 1 else "processes"
            say(f"ended {ended} {noun} that an earlier runtime had left")
        look_at_ledger(data_dir, options.log_url)
        port, held = hold_port(options.host, options.port)
        with held:
            yield StartClaim(folder=folder, data_dir=data_dir, port=port)


def make_spec(
    options: UpOptions,
    claimed: StartClaim,
    code: tuple[Registry, Catalog],
    *,
    run_dir: Path,
    key: str,
) -> RuntimeSpec:
    """Build the spec of every actor of a foreground runtime; `key` is its local admin key.

    Raises:
        TaskNotFound, UsageError: The session to ensure can't be started.
        BadDefinition: The code names an undeclared limit, or misuses one.
    """
    registry, catalog = code
    if options.ensured is not None:
        options.ensured.check(catalog)
    return options.spec(
        claimed.folder,
        claimed.data_dir,
        run_dir,
        catalog_hash=catalog.code_hash,
        key=key,
        port=claimed.port,
        serves_http=True,
        limits=registry.limits.settled(options.limits),
    )


def announce(
    options: UpOptions,
    claimed: StartClaim,
    key: str,
    say: Callable[[str], None],
    state: str = "ready",
) -> Path:
    """Publish the runtime, ready or standing by, to local programs; return the path of its pointer."""
    data_dir = claimed.data_dir
    credentials = local_access.credentials(
        options.host,
        claimed.port,
        key=key,
        data_dir=data_dir,
        is_shared=options.log_url is not None,
    )
    pointer = local_access.publish(credentials, pointer_dir(os.environ))
    say(f"{state} on {credentials.url} (Ctrl-C ends it)")
    if state == "ready" and sys.stderr.isatty() and is_loopback(options.host):
        link = inbox_link(credentials.url, key, SystemClock().now())
        say(f"open it in a browser, once and within ten minutes: {link}")
    if (warning := in_clear(options.host, claimed.port, options.external_url)) is not None:
        say(warning)
    if options.ready_fd is not None and state == "ready":
        os.write(options.ready_fd, credentials.model_dump_json().encode() + b"\n")
        os.close(options.ready_fd)
    return pointer


def is_loopback(host: str) -> bool:
    """Only this machine reaches what listens there; a name may have any address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def in_clear(host: str, port: int, external_url: str | None) -> str | None:
    """Warn of keys on the network, if other machines may connect and no proxy is known to be in front."""
    if is_loopback(host) or (external_url or "").startswith("https://"):
        return None
    name = f"[{host}]" if ":" in host.strip("[]") and not host.startswith("[") else host
    return (
        f"listens on {name}:{port}, which other machines may reach: keys and answers go over the network in clear; "
        "put a proxy with TLS in front and name it by --external-url https://…"
    )


def _held(data_dir: Path, holder: _Holder) -> RuntimeHeld:
    credentials = read_credentials(data_dir / CREDENTIALS_FILE)
    url = credentials.url if credentials is not None else None
    place = f" at {url}" if url is not None else ""
    return RuntimeHeld(
        f"{data_dir} is in use by the runtime with pid {holder.pid}{place}",
        hint=f"Use that one, end it with `helmr down --data-dir {data_dir}`, "
        "or name another --data-dir.",
        pid=int(holder.pid) if holder.pid.isdigit() else None,
        url=url,
        data_dir=str(data_dir),
    )


def load_code(
    tasks: tuple[str, ...], folder: Path, say: Callable[[str], None]
) -> tuple[Registry, Catalog]:
    """Import the task modules, as every host will, and read their definitions."""
    registry, catalog = load_registry(tasks, folder=folder)
    noun = "task" if len(catalog.tasks) == 1 else "tasks"
    say(f"{len(catalog.tasks)} {noun}: {', '.join(task.id for task in catalog.tasks)}")
    return registry, catalog


def hold_port(host: str, port: int) -> tuple[int, socket.socket]:
    """The port if it is free, or a free one for 0; known before anything is started.

    The socket keeps the system from giving the port to another program that asks for a free one, and does not listen:
    the gateway may. Close it when the runtime has ended.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _no_address(host) from error
    family, kind, protocol, _, address = found[0]
    holder = socket.socket(family, kind, protocol)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(address)
    except OSError as error:
        holder.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_address(host) from error
        raise Conflict(
            f"can't listen on {host}:{port}: {error.strerror}",
            hint="Choose another with --port, or end what listens there.",
            port=port,
        ) from error
    return holder.getsockname()[1], holder


def _no_address(host: str) -> UsageError:
    return UsageError(f"{host!r} is not an address of this machine", hint="Check --host.")


def look_at_ledger(data_dir: Path, log_url: str | None = None) -> None:
    """Check that keys may be created beside the ledger; existing keys are checked when it opens.

    Args:
        data_dir: Where it is, or will be.
        log_url: The store of its log, if other machines reach it.

    Raises:
        UsageError: It is a follower's copy, or the log has entries and there are no keys here.
        MasterKeyMissing: It was written with other master keys than are here, or there are none here.
        StoreUnavailable: The store does not answer.
    """
    ring, path = read_key_ring(data_dir / RING_NAME, os.environ), data_dir / LEDGER_NAME
    if log_url is not None:
        from helmr_runtime.ledger.log.stores import require_new  # noqa: PLC0415 - as below

        if ring is None:
            require_new(log_url)
    elif path.is_file() and (ring is None or not (data_dir / KEY_NAME).is_file()):
        # Loads the engine, which a supervisor does not carry for nothing.
        from helmr_runtime.ledger.open import look_before_start  # noqa: PLC0415

        look_before_start(path, ring)


def keep_keys(spec: RuntimeSpec, key: str) -> None:
    """Store the admin key and the master keys, if they are fresh.

    Comes when nothing can refuse the start any more: a refused one leaves no keys that open nothing.
    """
    data_dir = Path(spec.data_dir)
    with writing(data_dir):
        if stored_key(data_dir) != key:
            write_private(data_dir / KEY_NAME, key)
        ensure_key_ring(spec.ring_path, os.environ, now=SystemClock().now())


def trim_logs(folder: Path) -> None:
    """Keep the newest logs of earlier runtimes."""
    folder.mkdir(mode=0o700, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in logs[LOGS_KEPT:]:
        path.unlink(missing_ok=True)


def give_seed(data_dir: Path) -> None:
    """Give the stored seed, or a fresh one, to processes started from now on; `keep_seed` stores it."""
    os.environ.setdefault(VARIABLE, kept_seed(data_dir) or fresh_seed())


def keep_seed(data_dir: Path, say: Callable[[str], None]) -> None:
    """Keep the seed of this environment for the next start; says so if the sessions have begun with another.

    Comes when nothing can refuse the start any more, as keys do.
    """
    given, kept = os.environ.get(VARIABLE, ""), kept_seed(data_dir)
    if kept is None and is_seed(given):
        write_private(data_dir / FILE, f"{given}\n")
    elif kept is not None and given and given != kept:
        say(
            f"{VARIABLE} is {given}, and {kept} in {data_dir / FILE}: sessions that go through a set of texts "
            "may be blocked. Unset it, or remove that file."
        )
