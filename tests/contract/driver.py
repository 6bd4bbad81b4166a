"""A Ray driver that runs the contract: `python -m tests.contract.driver RESULT`; options are JSON on its input.

A process of its own, as Ray's state is one per process. Over HTTP it asks the gateway like any client; over Ray it, a
task and an actor of the cluster call the runtime's actors, and the ports that Python code connected to meanwhile are
written down.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import ray

from helmr.client import AsyncClient, Client
from tests.contract import cases
from tests.contract.cases import CASES, PERSON, Way
from tests.contract.faces import Awaited, recorded

AT_ONCE = 6
IN_WORKERS = (
    cases.a_session_from_start_to_close,
    cases.following_meets_every_record_once,
    cases.following_an_output_ends_with_its_session,
    cases.tokens_are_completed_once,
    cases.every_refusal_is_its_own_error,
)
"""What a task and an actor do again."""
AGAIN = (
    *IN_WORKERS,
    cases.sends_say_what_they_did,
    cases.a_repeated_operation_gives_its_first_receipt,
    cases.keys_are_made_and_revoked,
    cases.what_is_not_there_is_not_found,
    cases.a_closed_client_says_so,
)
"""What each way does again in a short run, whose awaited HTTP client runs all cases."""


class Ports:
    """The ports that Python code of this process connects to."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            self.seen.add(int(arguments[1][1]))

    def taken(self) -> list[int]:
        """Those since the last call."""
        seen, self.seen = self.seen, set()
        return sorted(seen)


async def run(face: str, chosen: Sequence[Any], way: Way, **target: Any) -> dict[str, str | None]:
    """What each case said: None if it held."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(case: Any) -> str | None:
        async with turn, AsyncExitStack() as stack:
            client: Any
            if face == "async":
                client = await stack.enter_async_context(AsyncClient(on_behalf_of=PERSON, **target))
            else:
                blocking = await asyncio.to_thread(Client, on_behalf_of=PERSON, **target)
                stack.push_async_callback(asyncio.to_thread, blocking.close)
                client = Awaited(blocking)
            try:
                await case(client, way)
            except Exception:
                return traceback.format_exc()
            return None

    said = await asyncio.gather(*(one(case) for case in chosen))
    return {case.__name__: what for case, what in zip(chosen, said, strict=True)}


def found_by() -> str:
    """How a client without arguments finds its runtime here."""
    with Client() as client:
        return client.endpoint.found_by


@ray.remote(num_cpus=0)
def in_a_task() -> dict[str, Any]:
    """The blocking client in a Ray task."""
    ports = Ports()
    said = asyncio.run(run("blocking", IN_WORKERS, Way(principal="ray_job")))
    return {"cases": said, "ports": ports.taken(), "found_by": found_by()}


@ray.remote(num_cpus=0)
class Actor:
    """The awaited client in an async Ray actor."""

    async def run(self) -> dict[str, Any]:
        """Run what workers run."""
        ports = Ports()
        said = await run("async", IN_WORKERS, Way(principal="ray_job"))
        found = await asyncio.to_thread(found_by)
        return {"cases": said, "ports": ports.taken(), "found_by": found}


def main(options: dict[str, Any]) -> dict[str, Any]:
    """Run everything; the results by where it ran."""
    ports = Ports()
    ray.init(address=options["address"], log_to_driver=False, configure_logging=False)
    results: dict[str, Any] = {"job_id": ray.get_runtime_context().get_job_id()}
    ports.taken()
    with Client() as client:
        results["session_id"] = client.sessions.start("contract-echo", 0).id
    by_key = {"url": options["url"], "key": options["key"]}
    again = CASES if options["is_whole"] else AGAIN
    for name, face, chosen, way, target in (
        ("ray", "async", again, Way(principal="ray_job"), {}),
        ("ray", "blocking", again, Way(principal="ray_job"), {}),
        ("http", "async", CASES, Way(principal="api_key"), by_key),
        ("http", "blocking", again, Way(principal="api_key"), by_key),
    ):
        with recorded() as called:
            said = asyncio.run(run(face, chosen, way, **target))
        results[f"{name}-{face}"] = {
            "cases": said,
            "called": sorted(called),
            "ports": ports.taken(),
        }
    results["ray-async"]["found_by"] = found_by()
    actor: Any = Actor.remote()  # type: ignore[attr-defined]
    results["task"], results["actor"] = ray.get([in_a_task.remote(), actor.run.remote()])
    return results


if __name__ == "__main__":
    found = main(json.load(sys.stdin))
    Path(sys.argv[1]).write_text(json.dumps(found))
