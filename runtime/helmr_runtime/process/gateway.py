"""The gateway's process: serves HTTP from inside its actor's loop. A plain class; the actor around it is Ray's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import BaseModel

from helmr.errors import Conflict, UsageError
from helmr.link_templates import LinkTemplate, read_links
from helmr.models import Query, Request, Wire
from helmr_runtime.clock import SystemClock
from helmr_runtime.feature import Features
from helmr_runtime.features import named
from helmr_runtime.http.accepting import Accepting, OpenFiles
from helmr_runtime.http.app import GatewayApp
from helmr_runtime.http.connections import Connections, answering_to_the_end, behind_proxies
from helmr_runtime.http.settings import HttpSettings
from helmr_runtime.notices.content import Sender
from helmr_runtime.notices.targets import Target, for_people, read_targets
from helmr_runtime.process import local_access
from helmr_runtime.process.local_access import local_key
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc import sockets
from helmr_runtime.rpc.calls import Calls, directory_of, host_of, ledger_client_of
from helmr_runtime.security.host_names import allowed_hosts
from helmr_runtime.security.keys import KeyRing, pair_keys, read_key_ring
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig, read_people
from helmr_runtime.security.secrets import secret_hash
from helmr_runtime.service import Service, ServiceOptions
from helmr_runtime.service.health import Introduction


def _build(*bases: type[BaseModel]) -> None:
    """Build all models of these bases, which are else built at their first use: on the loop, and from files."""
    for base in bases:
        base.model_rebuild()
        _build(*base.__subclasses__())


_build(Wire, Request, Query)

BACKLOG = 2_048
UNSENT_BYTES = 128 * 1024
"""What the kernel keeps of what a client has not read. By itself it takes megabytes, so that clients which read
nothing are served for long."""

STOP_GRACE_S = 5.0
"""Requests under way get this long to end; event streams end at once."""


class GatewayActor:
    """One HTTP server over one service.

    Args:
        service: What the routes call; started and stopped with the server.
        settings: Keys, hosts and times.
        introduction: What it says of itself; None if no Ray job can come.
    """

    def __init__(
        self,
        service: Service,
        settings: HttpSettings,
        introduction: Introduction | None = None,
    ) -> None:
        self._service = service
        self._settings = settings
        self._introduction = introduction
        self._server: _Server | None = None
        self._listens_on = -1
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Serve on that address; port 0 takes a free one.

        Returns:
            The port.

        Raises:
            Conflict: Something else listens there.
        """
        listener = await _listen(host, port)
        self._listens_on = sockets.hold(listener.fileno())
        self._service.start()
        proxies = self._settings.trusted_proxies
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        bounds = self._settings.bounds.within(files_max)
        self.connections = Connections(bounds, proxies)
        app = GatewayApp(self._service, self._settings)
        config = uvicorn.Config(
            answering_to_the_end(behind_proxies(app, proxies)),
            http=self.connections.protocol(),
            proxy_headers=False,  # it would believe any program on this machine
            access_log=False,  # paths hold secrets
            log_config=None,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=bounds.idle_s,  # type: ignore[arg-type]  # tests take less than a second
            timeout_graceful_shutdown=int(STOP_GRACE_S),
            backlog=BACKLOG,
        )
        self._server = _Server(config, self.connections, files_max)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait({started, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._serving.done():
            self._serving.result()
        for accepting in self._server.accepting:
            self._service.health.watch(accepting.troubles)
        bound: int = listener.getsockname()[1]
        return bound

    async def introduce(self) -> Introduction | None:
        """Return the facts that a Ray job needs to call the actors itself."""
        return self._introduction

    async def stop(self) -> None:
        """Take no more requests, end the event streams, let the others finish. Idempotent."""
        if self._server is not None:
            self._server.should_exit = True
        await self._service.stop()
        if self._serving is not None:
            await asyncio.wait({self._serving})
            sockets.release(self._listens_on)


def make_gateway(
    calls: Calls,
    *,
    host: str,
    version: str,
    data_dir: str,
    admin_key_hash: str,
    ring: KeyRing | None,
    base_url: str,
    is_shared: bool = False,
    peer: str | None = None,
    trusted_proxies: tuple[str, ...] = (),
    is_published: Callable[[], bool] = lambda: True,
    notice_targets: Sequence[tuple[Target, Sender]] = (),
    people: PeopleConfig = NO_PEOPLE,
    features: Features = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    links: Sequence[LinkTemplate] = (),
) -> GatewayActor:
    """A gateway over actor calls, to be started on `host`.

    Args:
        calls: How it reaches ledger, directory and hosts.
        host: Its name, and the local ones, are those under which it may be asked.
        version: Of Helmr.
        data_dir: Shown by `/readyz`.
        admin_key_hash: Hex SHA-256 of the local admin key.
        ring: The master keys.
        base_url: The external base URL; its name is one under which it may be asked.
        is_shared: Other machines reach the log.
        peer: Where pages are while this runtime stands by.
        trusted_proxies: Networks of the proxies that may say for whom they ask.
        is_published: Whether local programs can find the runtime; it is not ready before.
        notice_targets: Where notices go, and how.
        people: Who there may be.
        features: Those that the runtime has.
        sections: Tables of `helmr.toml` that they read, by their names.
        links: Templates of the links that waits show.
    """
    clock = SystemClock()
    introduction = Introduction(
        version=version, started_at=clock.now(), data_dir=data_dir, base_url=base_url
    )
    service = Service(
        ledger=ledger_client_of(calls),
        directory=directory_of(calls),
        host_named=lambda name: host_of(calls, name),
        clock=clock,
        host=introduction,
        ring=ring,
        options=ServiceOptions(
            is_published=is_published,
            notice_targets=notice_targets,
            people=people,
            features=features,
            sections=sections or {},
            links=links,
        ),
    )
    settings = HttpSettings(
        admin_key_hash=admin_key_hash,
        version=version,
        allowed_hosts=allowed_hosts(host, (base_url,)),
        peer=peer,
        pair_key_hashes=tuple(map(secret_hash, pair_keys(ring))) if is_shared and ring else (),
        trusted_proxies=trusted_proxies,
    )
    return GatewayActor(service, settings, introduction)


class _Server(uvicorn.Server):
    """A server that leaves signals to the owner of the process, says when it serves, and accepts within bounds."""

    def __init__(self, config: uvicorn.Config, connections: Connections, files_max: int) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self.accepting: list[Accepting] = []
        self._connections = connections
        self._files_max = files_max

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start uvicorn without sockets, then accept on each of them ourselves."""
        await super().startup(sockets=[])
        files = OpenFiles(self._files_max, asyncio.get_running_loop().time)
        for listener in sockets or ():
            one = Accepting(listener, self._connections, self._make_protocol, files)
            self.accepting.append(one)
            one.start()
        self.has_started.set()

    def _make_protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let accepted connections settle, then shut uvicorn down."""
        for one in self.accepting:
            one.stop()
        for one in self.accepting:
            await one.settled()  # what comes later would not be closed, and be waited for
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _listen(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise UsageError(
            f"{host!r} is not an address of this machine", hint="Check --host."
        ) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)  # each takes it over
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"can't listen on {host}:{port}: {error.strerror}",
            hint="Choose another with --port, or end what listens there.",
            port=port,
        ) from error
    return listener


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> GatewayActor:
    """A gateway that serves; one of a joined runtime also tells local programs of itself."""
    gateway = make_gateway(
        calls,
        host=spec.host,
        version=spec.version,
        data_dir=spec.data_dir,
        admin_key_hash=spec.admin_key_hash,
        ring=read_key_ring(spec.ring_path, os.environ),
        base_url=spec.base_url,
        is_shared=spec.log_url is not None,
        peer=spec.log_peer,
        trusted_proxies=spec.trusted_proxies,
        is_published=partial(_is_published, spec),
        notice_targets=_notice_targets(spec, people := read_people(spec.people, "helmr.toml")),
        people=people,
        features=named(spec.features),
        sections=spec.sections,
        links=read_links(spec.links, "helmr.toml"),
    )
    if spec.serves_http:
        await gateway.start(spec.host, spec.port)
        if spec.is_joined:
            _publish(spec)
    return gateway


def _notice_targets(spec: RuntimeSpec, people: PeopleConfig) -> Sequence[tuple[Target, Sender]]:
    targets = [for_people(one, people) for one in read_targets(spec.notices, "helmr.toml")]
    if not targets:
        return []
    from helmr_runtime.notices.senders import sender_of  # noqa: PLC0415 - most runtimes tell no one, and mail and HTTP clients take time

    return [(one, sender_of(one, os.environ, SystemClock().now)) for one in targets]


def _is_published(spec: RuntimeSpec) -> bool:
    return not spec.serves_http or local_access.is_published(Path(spec.data_dir))


def _publish(spec: RuntimeSpec) -> None:
    assert spec.pointer_dir is not None, "a joined runtime has one"
    data_dir = Path(spec.data_dir)
    found = local_access.credentials(
        spec.host,
        spec.port,
        key=local_key(data_dir),
        data_dir=data_dir,
        is_shared=spec.log_url is not None,
    )
    local_access.publish(found, Path(spec.pointer_dir))
