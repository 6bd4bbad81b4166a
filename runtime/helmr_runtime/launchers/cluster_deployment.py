"""The shared actors of a runtime in a cluster that was there before: found, compared, created, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from helmr.errors import HelmrError, RuntimeHeld, Unavailable
from helmr.models import Catalog
from helmr_runtime.launchers.runtime import RETRY_S, SHARED, Launch, park_and_close, superseded
from helmr_runtime.process.spawn import create_shared, end_actors
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import HOST_PREFIX, LEDGER, ActorDied, ActorNotFound
from helmr_runtime.rpc.ray import RayCalls

logger = logging.getLogger(__name__)

LOOK_WITHIN_S = 10.0
"""A shared actor that does not report its settings within these seconds is ended and replaced."""

CREATE_WITHIN_S = 10.0
"""Ray frees the name of an actor that was killed a moment later."""

END_TRIES_MAX = 200

FREE_PORT = 0


class ClusterDeployment:
    """One look at the runtime of a cluster, and what follows from it.

    Args:
        say: One line for the person at the terminal.

    Attributes:
        changed: What of the running runtime is not as wanted, by name.
        port: That the running gateway was given, unless another is wanted.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._calls = RayCalls()
        self._say = say
        self._missing: list[str] = list(SHARED)
        self._spec: RuntimeSpec | None = None
        self.changed: list[str] = []
        self.port: int | None = None

    async def look(self, spec: RuntimeSpec) -> Mapping[str, Any] | None:
        """Return the settings of the runtime in this cluster; None if there is none.

        Raises:
            RuntimeHeld: It has another data directory.
        """
        self._spec = spec
        found = {name: await self._ask(name) for name in SHARED}
        self._missing = [name for name, running in found.items() if running is None]
        running = next((one for one in found.values() if one is not None), None)
        if running is None:
            return None
        if running["data_dir"] != spec.data_dir:
            raise RuntimeHeld(
                f"this Ray cluster has a runtime already, on {running['data_dir']}",
                hint="A Ray cluster holds one runtime; end that one first.",
                data_dir=running["data_dir"],
            )
        self.changed = changes(running, spec.to_json())
        if await self._is_superseded():
            self.changed.append("the runtime at work on its log")
        if self.changed:
            self._missing = list(SHARED)
        if spec.port in (FREE_PORT, running["port"]):
            self.port = int(running["port"])
        return running

    async def _ask(self, name: str) -> Mapping[str, Any] | None:
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                running: Mapping[str, Any] = await self._calls.call(name, "spec")
        except (ActorNotFound, ActorDied):
            return None
        except (TimeoutError, HelmrError) as error:
            logger.warning("%s is ended: it does not say what it is built from: %s", name, error)
            await self._calls.kill(name)
            return None
        return running

    async def _is_superseded(self) -> bool:
        """True if another runtime has opened its log: this one stops serving, and stands by when restarted."""
        assert self._spec is not None, "`look` came first"
        if LEDGER in self._missing:
            return False
        return await superseded(self._calls, self._spec, LOOK_WITHIN_S) is not None

    async def take_over(self) -> None:
        """Make the ledger open its log now, if it stands by."""
        await self._calls.call(LEDGER, "take_over")

    async def create(self, *, port: int) -> None:
        """Create the shared actors that are missing."""
        assert self._spec is not None, "`look` came first"
        self._spec = replace(self._spec, port=port)
        if len(self._missing) < len(SHARED):
            lacking = ", ".join(name.removeprefix("helmr-") for name in self._missing)
            self._say(
                f"the runtime runs; {f'started again: {lacking}' if lacking else 'all is there'}"
            )
        if len(self._missing) == len(SHARED):
            await self._end_strangers(self._spec)
        for name in self._missing:
            await self._create(name, self._spec)

    async def _end_strangers(self, spec: RuntimeSpec) -> None:
        """End hosts that a runtime elsewhere, or with other options, has left; the directory takes the others."""
        for name in await self._calls.names():
            if name.startswith(HOST_PREFIX):
                found = await self._ask(name)
                if found is not None and changes(found, spec.to_json()):
                    await self._calls.kill(name)

    async def _create(self, name: str, spec: RuntimeSpec) -> None:
        async with asyncio.timeout(CREATE_WITHIN_S):
            while True:
                try:
                    await create_shared(self._calls, spec, name)
                    return
                except RuntimeHeld as error:
                    logger.info("%s", error)
                await asyncio.sleep(RETRY_S)

    async def until_ready(self, catalog: Catalog) -> None:
        """Return when the runtime serves; see `Launch.until_ready`."""
        spec = self._spec
        assert spec is not None, "`look` came first"
        launch = Launch(spec, catalog, self._calls, on_up=lambda name: None, say=self._say)
        await launch.until_ready()
        place = spec.base_url if spec.serves_http else "no port: programs in the cluster reach it"
        self._say(f"ready on {place} (it goes on in the cluster; `helmr down` ends it)")

    async def end(self) -> None:
        """Park what waits, close the file, end the runtime's actors."""
        if self.changed:
            self._say(f"replaced, since this has changed: {', '.join(self.changed)}")
        if any([await self._ask(name) is not None for name in SHARED]):
            await park_and_close(self._calls, self._say)
        count = await end_actors(self._calls)
        if not count:
            logger.info("no actor of the runtime was there")
        await self._until_ended()

    async def _until_ended(self) -> None:
        """An actor that was being restarted may come back once."""
        for _ in range(END_TRIES_MAX):
            if not await end_actors(self._calls):
                return
            await asyncio.sleep(RETRY_S)
        raise Unavailable("actors of the runtime have not ended", hint="Ask again.")


WORDS = {
    "catalog_hash": "the tasks' code",
    "tasks": "tasks",
    "admin_key_hash": "the local key",
    "version": "Helmr's version",
    "linger_s": "linger",
    "log_url": "the store of its log",
    "log_peer": "the other runtime of the pair",
    "encrypts": "encryption",
    "external_url": "the external URL",
    "serves_http": "HTTP",
    "pointer_dir": "the folder of pointers",
    "run_dir": "the run folder",
    "sections": "tables of features in helmr.toml",
    "links": "templates of links in helmr.toml",
}
"""Words for the settings whose field names would not tell a person."""


def changes(running: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ, in words. Port 0 matches any port."""
    found = []
    for name in sorted({*running, *wanted}):
        if name == "port" and wanted.get(name) == FREE_PORT:
            continue
        if running.get(name) != wanted.get(name):
            found.append(WORDS.get(name, name))
    return found
