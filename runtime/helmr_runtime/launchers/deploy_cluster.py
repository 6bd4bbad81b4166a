"""A runtime in a Ray cluster that was there before: `helmr up --address` starts it and returns.

No one watches over it: its actors are detached, Ray restarts those that exist once, on the node where the
data directory is, and the directory replaces the others. `up`, run again, puts right what is missing or has
changed; `down` ends its actors and nothing else. A record in the data directory says which cluster has it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helmr.client.discovery import JOINED_FILE, pointer_dir
from helmr.errors import Conflict, RuntimeHeld, RuntimeNotFound, Unavailable
from helmr.models import Catalog
from helmr.private_file import write_private
from helmr.version import version
from helmr_runtime.launchers import watchdog
from helmr_runtime.launchers.cluster import Cluster, prepare_to_join
from helmr_runtime.launchers.startup import (
    UpOptions,
    hold_port,
    keep_keys,
    load_code,
    lock,
    look_at_ledger,
    trim_logs,
)
from helmr_runtime.ledger.log.files import LOCK_SUFFIX, FileLock, check_is_database
from helmr_runtime.process import local_access
from helmr_runtime.process.local_access import local_key
from helmr_runtime.process.output import Terminal
from helmr_runtime.process.spec import LEDGER_NAME, RuntimeSpec

if TYPE_CHECKING:
    from helmr_runtime.launchers.cluster_deployment import ClusterDeployment

RECORD_BYTES_MAX = 64 * 1024
RUN_NAME = "run"
LOG_NAME = "up.log"
GONE_WITHIN_S = 15.0
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRecord:
    """Record of the cluster that runs a data directory's runtime.

    Shape on disk: `{address, pointer}`.
    """

    address: str
    pointer: str | None


def read_joined(data_dir: Path) -> DeploymentRecord | None:
    """The record; None if there is none that can be read."""
    try:
        with (data_dir / JOINED_FILE).open() as file:
            body = json.loads(file.read(RECORD_BYTES_MAX))
        pointer = body["pointer"]
        return DeploymentRecord(
            address=str(body["address"]), pointer=None if pointer is None else str(pointer)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def join(options: UpOptions, terminal: Terminal) -> int:
    """Start the runtime in the cluster, or put it right; returns the exit code when it is ready.

    Raises:
        RuntimeHeld: The data directory, or the cluster, has another runtime.
        BadDefinition: A task module can't be used.
        Conflict: The port is taken.
        DataError: The ledger's file is not a database.
        UsageError: The cluster has no room for a host, or the ledger's log stands elsewhere.
        Unavailable: The cluster can't be reached, or the runtime did not get ready.
    """
    folder, data_dir = options.folders()
    is_first = not (data_dir / RUN_NAME).exists()
    with lock(data_dir, terminal.say):
        terminal.say(f"Helmr {version()} on {data_dir}")
        if options.log_url is None:  # else it is a cache, and made again
            check_is_database(data_dir / LEDGER_NAME)
        _check_log(data_dir / LEDGER_NAME, options.log_url)
        if not _is_held(data_dir):
            look_at_ledger(data_dir, options.log_url)
        prepare_to_join()  # a task module may import ray, which reads the environment then
        registry, catalog = load_code(options.tasks, folder, terminal.say)
        limits = registry.limits.settled(options.limits)
        watchdog.end_leftovers(data_dir)
        key = local_key(data_dir)
        code_hash = catalog.code_hash
        spec = _spec(options, (folder, data_dir), catalog_hash=code_hash, key=key, limits=limits)
        try:
            with _connected(data_dir, options.address, terminal) as (cluster, joining):
                room, wanted = cluster.room(), options.hosts_count
                if room < wanted:
                    terminal.say(
                        f"the nodes have places for {room} of {wanted} hosts; "
                        "the others wait for more nodes"
                    )
                asyncio.run(_bring_up(joining, spec, catalog, cluster.address, key=key))
        except RuntimeHeld:
            if is_first:  # nothing was started here
                shutil.rmtree(data_dir / RUN_NAME, ignore_errors=True)
            raise
        except KeyboardInterrupt:
            terminal.say("stopped before it was ready; `helmr down` ends what has started")
            return 0
    return 0


def _check_log(ledger: Path, log_url: str | None) -> None:
    """Refuse what the ledger would refuse, before the runtime that is at work on it is replaced."""
    if not ledger.exists():
        return
    # Both load the engine, which a first start does not carry for nothing.
    from helmr_runtime.ledger.log.snapshots import require_cache, require_none  # noqa: PLC0415
    from helmr_runtime.ledger.log.stores import open_objects  # noqa: PLC0415

    if log_url is None:
        require_none(ledger)
    else:
        with closing(open_objects(log_url)) as objects:
            require_cache(ledger, objects.name)


def leave(data_dir: Path, terminal: Terminal) -> str:
    """End the runtime that a cluster has for this data directory; returns the cluster's address.

    Raises:
        RuntimeNotFound: There is none.
        Unavailable: The cluster can't be reached, and the runtime may run.
    """
    os.umask(0o077)
    record = read_joined(data_dir)
    if record is None:
        raise RuntimeNotFound(f"no cluster has a runtime for {data_dir}")
    with lock(data_dir, terminal.say):
        try:
            with _connected(data_dir, record.address, terminal) as (_, joining):
                asyncio.run(joining.end())
        except Unavailable as error:
            if _is_held(data_dir):
                raise
            terminal.say(f"the cluster has ended, and the runtime with it ({error.message})")
        _until_let_go(data_dir)
        shutil.rmtree(data_dir / RUN_NAME, ignore_errors=True)
        pointer = Path(record.pointer) if record.pointer is not None else None
        local_access.withdraw(data_dir, pointer)
        (data_dir / JOINED_FILE).unlink(missing_ok=True)
    return record.address


def take_over(data_dir: Path, terminal: Terminal) -> None:
    """Make a cluster's runtime for this data directory open its log, if it stands by.

    Raises:
        RuntimeNotFound: There is none.
        Unavailable: The cluster can't be reached.
    """
    record = read_joined(data_dir)
    if record is None:
        raise RuntimeNotFound(f"no cluster has a runtime for {data_dir}")
    with _connected(data_dir, record.address, terminal) as (_, joining):
        asyncio.run(joining.take_over())


def _spec(
    options: UpOptions,
    folders: tuple[Path, Path],
    *,
    catalog_hash: str,
    key: str,
    limits: Mapping[str, Any],
) -> RuntimeSpec:
    """Build the spec of the actors."""
    folder, data_dir = folders
    return options.spec(
        folder,
        data_dir,
        data_dir / RUN_NAME,
        catalog_hash=catalog_hash,
        key=key,
        is_joined=True,
        pointer_dir=str(pointer_dir(os.environ)),
        ensured=None,
        limits=limits,
    )


async def _bring_up(
    joining: ClusterDeployment, spec: RuntimeSpec, catalog: Catalog, address: str, *, key: str
) -> None:
    with ExitStack() as held:
        await _put_right(joining, spec, address, held, key=key)
        await joining.until_ready(catalog)


async def _put_right(
    joining: ClusterDeployment, spec: RuntimeSpec, address: str, held: ExitStack, *, key: str
) -> None:
    """Afterwards the cluster has the shared actors of this spec, and no others; `held` keeps their port."""
    data_dir = Path(spec.data_dir)
    running = await joining.look(spec)
    if running is not None and joining.changed:
        await joining.end()
        await asyncio.to_thread(_until_let_go, data_dir)
        running = None
    if running is None and _is_held(data_dir):
        raise RuntimeHeld(
            f"{data_dir} is in use by a runtime that this cluster does not know",
            hint="End that one with `helmr down` where it runs.",
        )
    port = joining.port
    if spec.serves_http and (running is None or port is None):
        port, holder = await asyncio.to_thread(
            _port, spec.host, port or spec.port, fallback=spec.port
        )
        held.enter_context(holder)
    pointer = Path(spec.pointer_dir or "") / f"{port}.json" if spec.serves_http else None
    record = DeploymentRecord(address=address, pointer=None if pointer is None else str(pointer))
    keep_keys(spec, key)
    _withdraw_if_moved(data_dir, record.pointer)
    if running is None:
        local_access.withdraw(data_dir, None)  # of one that was killed
    write_private(data_dir / JOINED_FILE, json.dumps(asdict(record)))
    await joining.create(port=port if port is not None else spec.port)


def _withdraw_if_moved(data_dir: Path, pointer: str | None) -> None:
    """The gateway listens elsewhere from now on, or nowhere: what says where it did holds the key."""
    before = read_joined(data_dir)
    if before is not None and before.pointer not in (None, pointer):
        local_access.withdraw(data_dir, Path(before.pointer))


def _port(host: str, port: int, *, fallback: int) -> tuple[int, socket.socket]:
    """Return the port to listen on; the port of a gateway just ended becomes free in a moment."""
    deadline = time.monotonic() + GONE_WITHIN_S / 3
    while True:
        try:
            return hold_port(host, port)
        except Conflict:
            if time.monotonic() >= deadline:
                if fallback != port:
                    return hold_port(host, fallback)
                raise
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _connected(
    data_dir: Path, address: str | None, terminal: Terminal
) -> Iterator[tuple[Cluster, ClusterDeployment]]:
    """Connect this process to the cluster for a while."""
    run_dir = data_dir / RUN_NAME
    (run_dir / "statuses").mkdir(mode=0o700, parents=True, exist_ok=True)
    trim_logs(data_dir / "logs")
    prepare_to_join()
    before = Path.cwd()
    # Ray gives the current folder to its workers as the first place to import from.
    os.chdir(run_dir)
    terminal.divert(data_dir / "logs" / LOG_NAME)
    cluster = Cluster(run_dir, address)
    try:
        cluster.start()
        from helmr_runtime.launchers.cluster_deployment import ClusterDeployment  # noqa: PLC0415 - imports ray, see Cluster.start

        yield cluster, ClusterDeployment(terminal.say)
    finally:
        cluster.stop()
        os.chdir(before)
        terminal.restore()


def _is_held(data_dir: Path) -> bool:
    """A ledger has the file."""
    held = FileLock(data_dir / (LEDGER_NAME + LOCK_SUFFIX))
    if not held.path.exists():
        return False
    try:
        held.acquire()
    except RuntimeHeld:
        return True
    held.release()
    return False


def _until_let_go(data_dir: Path) -> None:
    """Wait for the end of an actor that was killed."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while _is_held(data_dir):
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"a ledger process still holds {data_dir}",
                hint="Find that process by its pid and end it.",
            )
        time.sleep(LOOK_EVERY_S)
