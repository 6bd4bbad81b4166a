"""How long the door takes for each thing that can be wrong with a secret, side by side (S-46).

Every round asks once in each way, in random order, over a kept connection of a real HTTP server; what counts is the
ratio of medians. `python -m tests.http.secret_timing ROUNDS` measures with ledger and gateway in this process,
`… ROUNDS whole` against a runtime as `helmr up` starts it, within the limits that hold there: each few rounds come from
another address of this machine, and not more than so many in a minute.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from helmr_runtime.launchers.embedded import RuntimeProcess
from helmr_runtime.security.secrets import SecretKind, make_secret
from tests.service.stack import Stack, until

SEED = 46
WRONG_PER_SOURCE, WRONG_PER_MINUTE = 30, 300
"""How often the gateway bears a wrong secret (`helmr_runtime.security.rate_limits`)."""

Ask = Callable[[], Awaitable[httpx.Response]]
Medians = Mapping[tuple[str, str], float]


class Door(Protocol):
    """What is measured: `tests.service.stack.Stack`, or a whole runtime."""

    @property
    def url(self) -> str:
        """Where it answers."""
        ...

    @property
    def http(self) -> httpx.AsyncClient:
        """A client with an admin key."""
        ...

    async def started(self, task: str, payload: Any) -> dict[str, Any]:
        """Start a session; the receipt."""
        ...


@dataclass(frozen=True, slots=True)
class WholeRuntime:
    """A runtime as `helmr up` starts it."""

    url: str
    http: httpx.AsyncClient

    async def started(self, task: str, payload: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/sessions", json={"task": task, "payload": payload})
        assert answer.status_code == 201, answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt


class Stranger:
    """Somebody without a key who asks over one kept connection, from one address at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._moves = 0
        self._client: httpx.AsyncClient | None = None

    async def move(self) -> None:
        """Go on from the next address of this machine, connected."""
        await self.leave()
        self._moves += 1
        address = f"127.1.{self._moves // 250}.{1 + self._moves % 250}"
        transport = httpx.AsyncHTTPTransport(local_address=address)
        self._client = httpx.AsyncClient(base_url=self._url, timeout=20, transport=transport)
        assert (await self._client.get("/healthz")).status_code == 200

    async def leave(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """One request."""
        assert self._client is not None
        return await self._client.request(method, path, **parts)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to be wrong, or right."""

    secret: str
    """`key`, `public token`, `callback`, or `public token in a link` where a callback's secret belongs."""
    what: str
    ask: Ask
    status: int


async def cases(door: Door, stranger: Stranger) -> list[Case]:
    """All of them."""
    session = (await door.started("echo", 0))["session"]["id"]
    outputs = f"/v1/sessions/{session}/outputs/echoes"
    scope = {"type": "session.output.read", "session": session, "stream": "echoes"}

    async def post(path: str, body: Any) -> dict[str, Any]:
        answer = await door.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def delete(path: str) -> None:
        assert (await door.http.delete(path)).status_code == 200

    def bearing(secret: Callable[[], str], path: str) -> Ask:
        return lambda: stranger.ask("GET", path, headers={"Authorization": f"Bearer {secret()}"})

    def callback(secret: Callable[[], str]) -> Ask:
        return lambda: stranger.ask("POST", f"/v1/callbacks/{secret()}", json={"data": 1})

    def fresh(kind: SecretKind) -> Callable[[], str]:
        return lambda: make_secret(kind)

    def mistyped(kind: SecretKind) -> Callable[[], str]:
        return lambda: make_secret(kind)[:-6] + "AAAAAA"

    def fixed(secret: str) -> Callable[[], str]:
        return lambda: secret

    right_key = await post("/v1/api-keys", {"role": "viewer", "name": "right"})
    revoked_key = await post("/v1/api-keys", {"role": "viewer", "name": "revoked"})
    await delete(f"/v1/api-keys/{revoked_key['id']}")
    right, revoked = [await post("/v1/public-tokens", {"scope": scope}) for _ in range(2)]
    expired = await post("/v1/public-tokens", {"scope": scope, "expires_in": "1s"})
    await delete(f"/v1/public-tokens/{revoked['id']}")
    token = await post("/v1/tokens", {"raw": False})
    link = str(token["callback_url"]).rpartition("/")[2]
    ended = await post("/v1/public-tokens", _completing(token["id"]))
    await delete(f"/v1/public-tokens/{ended['id']}")
    expired_link = await post("/v1/public-tokens", {**_completing(token["id"]), "expires_in": "1s"})

    async def both_expired() -> bool:
        secret = fixed(expired["public_access_token"])
        old_link = fixed(expired_link["public_access_token"])
        answers = [await bearing(secret, outputs)(), await callback(old_link)()]
        return [one.status_code for one in answers] == [401, 404]

    await asyncio.sleep(1.1)
    await until(both_expired)
    key, pat, cb = SecretKind.API_KEY, SecretKind.PUBLIC_TOKEN, SecretKind.CALLBACK
    secret_of = "public_access_token"
    return [
        Case("key", "malformed", bearing(mistyped(key), outputs), 401),
        Case("key", "unknown", bearing(fresh(key), outputs), 401),
        Case("key", "revoked", bearing(fixed(revoked_key["secret"]), outputs), 401),
        Case("key", "right", bearing(fixed(right_key["secret"]), outputs), 200),
        Case("public token", "malformed", bearing(mistyped(pat), outputs), 401),
        Case("public token", "unknown", bearing(fresh(pat), outputs), 401),
        Case("public token", "revoked", bearing(fixed(revoked[secret_of]), outputs), 401),
        Case("public token", "expired", bearing(fixed(expired[secret_of]), outputs), 401),
        Case("public token", "right", bearing(fixed(right[secret_of]), outputs), 200),
        Case("callback", "malformed", callback(mistyped(cb)), 404),
        Case("callback", "unknown", callback(fresh(cb)), 404),
        Case("callback", "right", callback(fixed(link)), 200),
        Case("public token in a link", "unknown", callback(fresh(pat)), 404),
        Case("public token in a link", "revoked", callback(fixed(ended[secret_of])), 404),
        Case("public token in a link", "expired", callback(fixed(expired_link[secret_of])), 404),
    ]


def _completing(token_id: str) -> dict[str, Any]:
    return {"scope": {"type": "token.complete", "token": token_id}}


async def measure(door: Door, rounds: int, *, is_limited: bool = False) -> Medians:
    """Median seconds by secret and what is wrong with it."""
    chance = random.Random(SEED)
    stranger = Stranger(door.url)
    await stranger.move()
    try:
        asked = await cases(door, stranger)
        wrong = sum(case.status in (401, 404) for case in asked)
        pace = _Pace(wrong, stranger) if is_limited else None
        took: dict[tuple[str, str], list[float]] = {(one.secret, one.what): [] for one in asked}
        for _ in range(rounds):
            if pace is not None:
                await pace.next_round()
            for case in chance.sample(asked, len(asked)):
                began = time.perf_counter()
                answer = await case.ask()
                took[case.secret, case.what].append(time.perf_counter() - began)
                assert answer.status_code == case.status, (case.what, answer.text)
    finally:
        await stranger.leave()
    return {case: statistics.median(times) for case, times in took.items()}


class _Pace:
    """Stays within what the gateway bears; a fixed window never holds more than any 60 s do."""

    def __init__(self, wrong_per_round: int, stranger: Stranger) -> None:
        self._rounds_per_source = max(1, WRONG_PER_SOURCE // wrong_per_round)
        self._rounds_per_minute = WRONG_PER_MINUTE // wrong_per_round - 1
        self._stranger = stranger
        self._began: list[float] = []

    async def next_round(self) -> None:
        if len(self._began) % self._rounds_per_source == 0:
            await self._stranger.move()
        if len(self._began) >= self._rounds_per_minute:
            since_s = time.monotonic() - self._began[-self._rounds_per_minute]
            await asyncio.sleep(max(0.0, 61 - since_s))
        self._began.append(time.monotonic())


@asynccontextmanager
async def in_one_process(folder: Path) -> AsyncIterator[Door]:
    """Ledger and gateway in this process, with wide limits."""
    stack = Stack(folder)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


@asynccontextmanager
async def whole_runtime(folder: Path) -> AsyncIterator[Door]:
    """A runtime of its own, its actors in processes of theirs."""
    options: dict[str, Any] = {"folder": Path(__file__).parent, "sessions_per_host": 1}
    environment = {"XDG_STATE_HOME": str(folder / "state")}
    async with (
        RuntimeProcess.start(
            data_dir=folder / "data", tasks=["echo_tasks.py"], environment=environment, **options
        ) as runtime,
        httpx.AsyncClient(
            base_url=runtime.url, headers={"Authorization": f"Bearer {runtime.key}"}, timeout=30
        ) as http,
    ):
        yield WholeRuntime(runtime.url, http)


async def main(rounds: int, *, is_whole: bool) -> None:
    """Print the table."""
    opened = whole_runtime if is_whole else in_one_process
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as door:
            medians = await measure(door, rounds, is_limited=is_whole)
    for (secret, what), median in medians.items():
        ratio = median / medians[secret, "unknown"]
        sys.stdout.write(f"| {secret} | {what} | {ratio:.2f} | {median * 1000:.1f} ms |\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), is_whole="whole" in sys.argv[2:]))
