"""The client of a harness, whose clock the sequence moves, and a notice target beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

from helmr.client import AsyncClient
from helmr.client.http import AsyncHttpTransport
from helmr.client.inprocess import AppTransport
from helmr.errors import PersonDisabled, UsageError
from helmr.testing import Harness
from helmr.testing.clients import HARNESS
from helmr.testing.routes import HarnessGateway
from helmr.wire.roles import Need, Role, ScopeType
from helmr_runtime.core.answerers import GROUPS_AGE_MAX, Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import person_principal
from helmr_runtime.http.app import GatewayApp
from helmr_runtime.http.exchange import Exchange
from tests.programs.model.client_door import ClientDoor
from tests.programs.model.compare import Reply
from tests.programs.model.naive import IN_FILE, PEOPLE, Model
from tests.programs.model.script import TASKS
from tests.programs.model.told import Told

TICK_S = 1e-6
LATE_KEY = "key_2"
"""The gateway has not heard that who comes with it is disabled: what decides refuses it."""


@dataclass(frozen=True)
class Proven:
    """A person who calls."""

    principal: Principal
    identity: Identity
    is_checked: bool
    """The gateway knows whether they are disabled."""


CALLING: ContextVar[Proven | None] = ContextVar("calling", default=None)


class PeopleToo:
    """The authenticator of the harness's app, for which who calls is proven as well.

    Args:
        app: It.
    """

    def __init__(self, app: GatewayApp) -> None:
        self._authenticate = app.authenticator.authenticate
        self._people = app.service.people_view

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        """Who calls."""
        proven = CALLING.get()
        if proven is None:
            return await self._authenticate(exchange, need, scope)
        known = (await self._people.known()).get(str(proven.principal.id), {})
        if proven.is_checked and known.get("disabled_at") is not None:
            raise PersonDisabled(f"{proven.principal.id} is disabled")
        exchange.role, exchange.identity = Role.OPERATOR, proven.identity
        return proven.principal


class HarnessDoor(ClientDoor):
    """The client of a harness, whose clock the sequence moves."""

    time_passes = False
    within_s = 0.0

    def __init__(self, runner: asyncio.Runner, harness: Harness) -> None:
        self.harness = harness
        self.told = Told(harness)
        carrier = AppTransport(harness._clients._gateway(harness._clients._settle))
        app = cast(GatewayApp, cast(HarnessGateway, carrier._gateway)._app)
        app.authenticator.authenticate = PeopleToo(app).authenticate  # type: ignore[method-assign]
        client = AsyncClient._over(AsyncHttpTransport(HARNESS, carrier=carrier))
        super().__init__(runner, client, begin=harness.clock.now(), nothing=self._wrong)
        self.groups = dict(PEOPLE)

    @classmethod
    def opened(cls, runner: asyncio.Runner) -> Self:
        """Over a harness of its own."""

        async def enter() -> Self:
            harness = Harness(*TASKS)
            await harness.__aenter__()
            door = cls(runner, harness)
            await door.told.begin()
            return door

        return runner.run(enter())

    def close(self) -> None:
        """End the harness."""

        async def leave() -> None:
            await self.told.close()
            await self.client.close()
            await self.harness.__aexit__(None, None, None)

        self.runner.run(leave())

    async def _do(self, kind: str, args: dict[str, Any]) -> Reply:
        """As whoever calls."""
        me, groups, via = (args.pop(one, None) for one in ("me", "groups", "via"))
        if me is None:
            return await super()._do(kind, args)
        wait = self.lines.waits.get(self.lines.ids.get(args.get("wait", ""), ""), {})
        is_decided_there = (wait.get("kind"), wait.get("status")) == ("input", "pending")
        is_refused_before = (
            "operation" in args or args.get("why") is not None
        )  # by the gateway itself
        is_late = kind == "answer" and is_decided_there and not is_refused_before
        long_ago = self.harness.clock.now() - GROUPS_AGE_MAX - timedelta(milliseconds=1)
        identity = Identity(
            id=me,
            groups=self.groups[me] if groups != "unknown" else None,
            groups_at=long_ago if groups == "old" else None,
            file_groups=IN_FILE[me],
        )
        is_checked = via != LATE_KEY or not is_late
        token = CALLING.set(Proven(person_principal(me, str(via)), identity, is_checked))
        try:
            reply = await super()._do(kind, args)
        finally:
            CALLING.reset(token)
        if not is_checked and isinstance(reply, str):
            # Gateway and host refuse by what they know: only what would be stored meets who is disabled.
            disabled = await self.harness.ledger.disabled()
            return "person_disabled" if me in disabled.people else reply
        return reply

    async def do_regroup(self, *, person: str, names: list[str]) -> Reply:
        """What the gateway knows of a person."""
        self.groups[person] = tuple(names)
        return {}

    async def _finish(self, model: Model) -> None:
        await self.told.settle()
        await super()._finish(model)

    def notices(self) -> dict[str, list[Any]]:
        """What the target has taken, each by the first time."""
        told: dict[str, list[Any]] = {}
        for notice in self.told.taken.values():
            data = notice.data
            about = data.get("wait_id", data["run_id"])
            session = told.setdefault(self.lines.names[data["session_id"]], [])
            session.append((notice.event, self.lines.names[about]))
        return told

    async def _wrong(self, session_id: str, how: str) -> None:
        if how == "park":
            with suppress(UsageError):
                await self.harness.park(session_id)
            self.told.store()
        else:
            await self.told.die()
            await self.harness.kill(session_id)
            await self.harness.settle()

    async def do_prune(self, *, older_than: int) -> Reply:
        """None is held by then, and all that they tell of is told."""
        await self.told.settle()
        for session_id in self.seqs:
            await self._wrong(session_id, "park")
        return await super().do_prune(older_than=older_than)

    async def do_advance(self, *, ms: int) -> Reply:
        """Move the clock, and let be told what falls due before it moves on: a notice that waits is passed by."""
        clock, target = self.harness.clock, self.harness.clock.now() + timedelta(milliseconds=ms)
        await self.told.settle()
        while clock.now() < target:
            at = min(clock.next_at or target, target)
            await self.harness.advance(max((at - clock.now()).total_seconds(), TICK_S))
            await self.told.settle()
        await self.harness.settle()
        return {}
