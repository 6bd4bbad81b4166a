"""Settings of a runtime and specs of its actors, as frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from helmr.errors import ExternalIdConflict, SchemaMismatch, TaskNotFound, UsageError
from helmr.models import Catalog
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import Retention
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.ports import StartSession
from helmr_runtime.rpc.calls import LEDGER, Calls
from helmr_runtime.security.schemas import DataSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """A session of that task is to be open under that external id."""

    task: str
    external_id: str
    payload: Any = None

    def check(self, catalog: Catalog) -> None:
        """Return if it can be started, before anything is.

        Raises:
            TaskNotFound: The code has no such task.
            UsageError: The payload does not fit.
        """
        task = next((one for one in catalog.tasks if one.id == self.task), None)
        if task is None:
            known = ", ".join(one.id for one in catalog.tasks)
            raise TaskNotFound(f"--ensure {self.task}: no such task; there are {known}")
        try:
            DataSchema(task.payload_schema).check(self.payload)
        except SchemaMismatch as error:
            raise UsageError(
                f"--ensure {self.task}: {error.message}", hint="Give it a --payload that fits."
            ) from error


async def ensure(calls: Calls, ensured: Ensured, say: Callable[[str], None]) -> None:
    """Start the session unless one is open under its external id.

    One that has ended is not brought back before the next start: its code ended it, or a person did.
    """
    start = StartSession(
        session_id=ids.new_id(ids.SESSION),
        run_id=ids.new_id(ids.RUN),
        task=ensured.task,
        payload=ensured.payload,
        external_id=ensured.external_id,
        tags=(),
        metadata={},
        idempotency_key=None,
        principal=RUNTIME,
        operation=None,
        request_hash=jsontext.same_data_hash([ensured.task, ensured.payload]),
    )
    try:
        made = await calls.call(LEDGER, "start_session", start)
    except ExternalIdConflict as error:
        say(f"{error.facts['session_id']} is open as {ensured.external_id}, begun with other input")
        return
    how = "started" if made["created"] else "is open"
    say(f"{made['session']['id']} {how} as {ensured.external_id}")


LOOPBACK = "127.0.0.1"

HOST_RESOURCE = "session_host"
"""What a node of a Ray cluster offers, and each host takes one of."""

LEDGER_NAME = "ledger.duckdb"
RING_NAME = "master-keys.json"

SOCKETS = "sockets"
"""The transport that is not `ray`."""


DEFAULT_PORT = 4356
DEFAULT_LINGER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Settings of a runtime that its actors follow.

    Attributes:
        tasks: Task modules, dotted or as files, looked up from a folder.
        port: 0 takes a free one.
        linger_s: Seconds that a waiting session stays in memory.
        host_memory_bytes: Memory that a host may allocate before it is replaced; None: a quarter of its machine's
            memory, or of its control group's limit.
        serves_http: False: nothing listens, only programs in the cluster reach it.
        encrypts: True seals bodies of new entries; None keeps the data directory's setting.
        external_url: Base URL of token links, if not made of host and port.
        trusted_proxies: Networks, like `10.0.0.0/8`, of proxies whose X-Forwarded headers are believed.
        transport: How actors on one machine call each other: `sockets` or `ray`.
        traces: Make spans, and send them where the OTEL_ variables say.
        json_logs: Log files hold a JSON object a line.
        ensured: A session that is started with the runtime unless it is open.
        retention: Time that ended sessions are kept; None keeps them for ever.
        log_url: The store of the log of commits; None: it stands beside the database.
        log_peer: The other runtime of a pair, to which a standby sends browsers.
        links: The table `[links]`: by label, a template of the URL that each wait shows (`helmr.link_templates`).
    """

    tasks: tuple[str, ...]
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    linger_s: float = DEFAULT_LINGER_S
    host_memory_bytes: int | None = None
    serves_http: bool = True
    encrypts: bool | None = None
    external_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    transport: str = SOCKETS
    traces: bool = False
    json_logs: bool = False
    ensured: Ensured | None = None
    retention: Retention | None = None
    log_url: str | None = None
    log_peer: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Their values by name."""
        return {one.name: getattr(self, one.name) for one in fields(RuntimeSettings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSpec(RuntimeSettings):
    """Crosses to every actor's process when it is created.

    Attributes:
        data_dir: Holds the ledger's file and the logs.
        run_dir: Temporary folder of this runtime; holds statuses and pids.
        folder: Tasks are looked up from it.
        catalog_hash: The code that hosts must have loaded.
        admin_key_hash: Hex SHA-256 of the local admin key.
        hosts: Processes that sessions live in.
        sessions_per_host: Sessions whose code one of them may have at once.
        version: Of Helmr.
        is_joined: Ray was there before: its nodes may be other machines, and no one watches over
            this runtime but itself.
        pointer_dir: Where a joined runtime's gateway leaves its pointer.
        notices: The notice targets, as `helmr_runtime.notices.targets` reads them.
        people: The table `[people]`, as `helmr_runtime.security.people` reads it; None: it knows no people.
        is_development: Runs begin again from their journals at the first answer, as they would after a park.
        limits: Those of the code, and the table `[limits]`, which goes before it, as `helmr.limits` reads it.
        features: Names of those that it has; each process loads their parts by them.
        sections: Tables of `helmr.toml` that features read, by the feature's name.
    """

    data_dir: str
    run_dir: str
    folder: str
    catalog_hash: str
    hosts: int
    sessions_per_host: int
    admin_key_hash: str
    version: str
    is_joined: bool = False
    pointer_dir: str | None = None
    notices: Mapping[str, Any] = field(default_factory=dict)
    people: Mapping[str, Any] | None = None
    is_development: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> Mapping[str, Any]:
        """All of it; what two processes with other versions of this class can compare."""
        lists = {
            name: list(getattr(self, name)) for name in ("tasks", "trusted_proxies", "features")
        }
        return {**asdict(self), **lists}

    @property
    def base_url(self) -> str:
        """Base URL of token links."""
        if self.external_url is not None:
            return self.external_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{self.port}"

    @property
    def ledger_path(self) -> Path:
        """The database."""
        return Path(self.data_dir) / LEDGER_NAME

    @property
    def ring_path(self) -> Path:
        """The master keys; only ledger and gateway read them."""
        return Path(self.data_dir) / RING_NAME

    @property
    def logs_dir(self) -> Path:
        """One log file per actor."""
        return Path(self.data_dir) / "logs"

    @property
    def status_dir(self) -> Path:
        """A pid file per actor and a status per host; fresh with every `up`."""
        return Path(self.run_dir) / "statuses"

    def status_path(self, name: str) -> Path:
        """Return the path of a host's status file."""
        return self.status_dir / f"{name}.status"

    def pid_path(self, name: str) -> Path:
        """Return the path of an actor's pid file."""
        return self.status_dir / f"{name}.pid"
