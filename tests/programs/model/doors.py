"""Sequences through a client, and what differs, for tests and for a driver of Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from helmr.client import AsyncClient
from tests.programs.model.client_door import ClientDoor, Nothing, let_be
from tests.programs.model.commands import COMMANDS, Command
from tests.programs.model.compare import Difference, difference, report
from tests.programs.model.harness_door import HarnessDoor
from tests.programs.model.random_code import FAKE, REAL


def through_harness(seeds: Iterable[int], *, way: type[HarnessDoor] = HarnessDoor) -> list[str]:
    """What differs in harnesses, one for each sequence. `way`: in."""
    with asyncio.Runner() as runner:

        def drive(commands: Sequence[Command]) -> Difference | None:
            door = way.opened(runner)
            try:
                return difference(commands, door)
            finally:
                door.close()

        found = [report(seed, FAKE, COMMANDS, drive) for seed in seeds]
    return [one for one in found if one is not None]


def through_client(
    make: Callable[[], AsyncClient], seeds: Iterable[int], *, nothing: Nothing = let_be
) -> list[str]:
    """What differs in a runtime that a client reaches; it serves all sequences."""
    with asyncio.Runner() as runner:

        async def made() -> AsyncClient:
            return make()

        client = runner.run(made())

        def drive(commands: Sequence[Command]) -> Difference | None:
            return difference(commands, ClientDoor(runner, client, nothing=nothing))

        try:
            found = [report(seed, REAL, COMMANDS, drive) for seed in seeds]
        finally:
            runner.run(client.close())
    return [one for one in found if one is not None]
