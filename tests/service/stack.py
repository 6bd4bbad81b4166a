"""The real parts of a runtime in one process: DuckDB, hosts, directory, service, HTTP server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import httpx

from helmr.client.calls import Event, EventReader
from helmr.limits import Limit
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import HostLocation, PoolPlan, PoolTimings, ProcessState
from helmr_runtime.directory.work import delivery
from helmr_runtime.features import FEATURES
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.http.settings import HttpSettings
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.rpc.calls import (
    DIRECTORY,
    HOST_PREFIX,
    LEDGER,
    OWN_HOST_PREFIX,
    directory_of,
    host_of,
    ledger_client_of,
    ledger_of,
)
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.rate_limits import RateLimits
from helmr_runtime.security.secrets import SecretKind, make_secret, secret_hash
from helmr_runtime.service import Service, ServiceOptions
from helmr_runtime.service.health import Introduction
from helmr_runtime.session.host import HostActor, HostSettings
from tests.ledger.made import made
from tests.rpc.local_calls import LocalCalls
from tests.service import tasks

BOUND_S = 20.0
"""Longest that a test waits for anything."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: httpx would read all certificates for each, which took a quarter of a stack's start."""

BASE_URL = "http://helmr.test"
WIDE = RateLimits(
    per_secret="100000/minute",
    per_source="100000/minute",
    malformed_per_source="100000/minute",
    failures_per_source="100000/minute",
    failures="100000/minute",
)
"""Tests ask more often than people do; the limits have tests of their own."""

REGISTRY = Registry(
    [
        tasks.review,
        tasks.quick_review,
        tasks.echo,
        tasks.fail_once,
        tasks.give_back,
        tasks.by_link,
        tasks.by_token,
    ],
    modules=["tests.service.tasks"],
    code_hash="code-1",
)


@lru_cache(maxsize=16)
def catalog_of(registry: Registry) -> dict[str, Any]:
    """What is in a registry, as it is written; to make its schemas takes a tenth of the time of a stack's start."""
    return registry.catalog().model_dump(by_alias=True)


RING = KeyRing((MasterKey("k1", bytes(range(32))),))


class LocalSpawner:
    """`helmr_runtime.directory.pool.Spawner` over real hosts in this process."""

    def __init__(self, stack: Stack, registry: Registry) -> None:
        self._stack = stack
        self._registry = registry
        self._count = 0

    async def spawn(self, *, is_exclusive: bool) -> str:
        self._count += 1
        name = f"{OWN_HOST_PREFIX if is_exclusive else HOST_PREFIX}{self._count}"
        host = HostActor(
            name,
            ledger_of(self._stack.calls),
            self._stack.clock,
            lambda: self._registry,
            HostSettings(
                is_exclusive=is_exclusive,
                linger_s=self._stack.timings.linger_s,
                base_url=BASE_URL,
                limits={n: not one.unlimited for n, one in self._stack.bounds.items()},
                people=self._stack.service.people_view.named,
            ),
        )
        self._stack.hosts[name] = host
        self._stack.calls.register(name, host)
        return name

    async def crash_of(self, name: str) -> str:
        return await self._stack.calls.crash_of(name)

    async def kill(self, place: HostLocation) -> None:
        self._stack.kill(place.name, "killed by the runtime")

    async def names(self) -> Sequence[str]:
        return [n for n in self._stack.calls.names() if n in self._stack.hosts]

    async def look(self, place: HostLocation) -> ProcessState:
        return ProcessState.RUNNING

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        return {}


class Stack:
    """A runtime whose actors live in this process. `http` is a client with the admin key."""

    def __init__(
        self,
        folder: Path,
        *,
        ring: KeyRing = RING,
        encrypts: bool | None = None,
        registry: Registry = REGISTRY,
        **timings: float,
    ) -> None:
        self.clock = SystemClock()
        self.calls = LocalCalls()
        self.hosts: dict[str, HostActor] = {}
        self.ring = ring
        self.registry = registry
        self.ledger = LedgerActor(
            LedgerPlace(made(folder / "helmr.duckdb"), features=FEATURES),
            clock=self.clock,
            ring=ring,
            encrypts=encrypts,
        )
        self.calls.register(LEDGER, self.ledger)
        self.timings = PoolTimings(**timings)
        self.bounds: dict[str, Limit] = {}
        """Of steps and tasks, by name; before `start`."""
        self.directory: DirectoryActor | None = None
        self.key = make_secret(SecretKind.API_KEY)
        self.reads = ledger_client_of(self.calls)
        self.service = self.make_service()
        self.gateway = GatewayActor(self.service, self.settings())
        self.url = ""
        self.http = httpx.AsyncClient(verify=NO_TLS, trust_env=False)

    def make_service(self, *, commit_timeout_s: float = 10.0, **parts: Any) -> Service:
        return Service(
            ledger=self.reads,
            directory=directory_of(self.calls),
            host_named=lambda name: host_of(self.calls, name),
            clock=self.clock,
            host=Introduction(
                version="0.0.test",
                started_at=self.clock.now(),
                data_dir="/data",
                base_url=BASE_URL,
            ),
            ring=self.ring,
            options=ServiceOptions(commit_timeout_s=commit_timeout_s, features=FEATURES, **parts),
        )

    def settings(self, **changes: Any) -> HttpSettings:
        return HttpSettings(
            **{
                "admin_key_hash": secret_hash(self.key),
                "version": "0.0.test",
                "limits": WIDE,
                **changes,
            }
        )

    async def start(self, *, hosts: int = 1, sessions_per_host: int = 2) -> None:
        await self.ledger.write_catalog(catalog_of(self.registry), RUNTIME)
        self.directory = DirectoryActor(
            ledger_of(self.calls),
            lambda name: host_of(self.calls, name),
            LocalSpawner(self, self.registry),
            PoolPlan(
                hosts=hosts,
                sessions_per_host=sessions_per_host,
                catalog_hash=self.registry.code_hash,
                limits={n: one for n, one in self.bounds.items() if not one.unlimited},
            ),
            clock=self.clock,
            timings=self.timings,
            deliver=partial(delivery, ledger_of(self.calls)),
        )
        self.calls.register(DIRECTORY, self.directory)
        await self.directory.start()
        port = await self.gateway.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        await self.http.aclose()
        self.http = self.client()
        await until(lambda: self._is_ready())

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}", **headers},
            timeout=BOUND_S,
            verify=NO_TLS,
            trust_env=False,  # nor look for proxies in the environment
        )

    async def stop(self) -> None:
        await self.http.aclose()
        await self.gateway.stop()
        if self.directory is not None:
            await self.directory.stop()
        for host in self.hosts.values():
            await host.crash()
        for name in self.calls.names():
            self.calls.kill(name, "the test is over")
        await asyncio.sleep(0)  # their long polls end
        await self.ledger.close()

    def kill(self, name: str, cause: str) -> None:
        """End a host as a signal does."""
        if name in self.calls.names():
            self.calls.kill(name, cause)
            asyncio.get_running_loop().create_task(self.hosts[name].crash())

    async def _is_ready(self) -> bool:
        return (await self.service.health.ready()).ready

    # --- what tests do again and again ------------------------------------------------------------

    async def started(
        self, task: str = "review", payload: Any = None, **parts: Any
    ) -> dict[str, Any]:
        """The receipt of a session whose run waits or has ended."""
        payload = {"title": "News"} if payload is None else payload
        body = {"task": task, "payload": payload, "result_timeout_s": BOUND_S, **parts}
        response = await self.http.post("/v1/sessions", json=body)
        assert response.status_code == 201, response.text
        receipt: dict[str, Any] = response.json()
        return receipt

    async def run_until(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """The run once it has one of the statuses."""
        found: dict[str, Any] = {}

        async def has_it() -> bool:
            found.update((await self.http.get(f"/v1/runs/{run_id}")).json())
            return found["status"] in statuses

        try:
            await until(has_it)
        except TimeoutError:
            entries = (await self.http.get(f"/v1/sessions/{found['session_id']}/transcript")).json()
            raise AssertionError(f"{run_id} is not {statuses}: {found}, {entries}") from None
        return found


class Events:
    """An open event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_text()
        self._reader = EventReader()
        self._ready: list[Event] = []
        self.text = ""

    async def take(self, count: int) -> list[Event]:
        """The next events."""
        async with asyncio.timeout(BOUND_S):
            while len(self._ready) < count:
                text = await anext(self._chunks)
                self.text += text
                self._ready += self._reader.feed(text)
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    async def first_bytes(self) -> str:
        """What the stream begins with."""
        async with asyncio.timeout(BOUND_S):
            while not self.text:
                self.text += await anext(self._chunks)
        return self.text

    async def end(self) -> None:
        """Return when the server has ended the stream."""
        async with asyncio.timeout(BOUND_S):
            async for text in self._chunks:
                self._ready += self._reader.feed(text)


async def until(holds: Callable[[], Any], within_s: float = BOUND_S) -> None:
    """Return when the condition holds; what takes long is looked at less often, as each look costs CPU."""
    pause_s = 0.005
    async with asyncio.timeout(within_s):
        while True:
            held = holds()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 0.04)
