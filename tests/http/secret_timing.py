"""How long the door takes for each thing that can be wrong with a secret, side by side (S-46).

Every round asks once in each way, in random order, over one kept connection of a real HTTP server; what counts is the
ratio of medians. `python -m tests.http.secret_timing` prints the table of docs/security.md.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from runtime.security.secrets import SecretKind, make_secret
from tests.service.stack import Stack, until

SEED = 46
Ask = Callable[[], Awaitable[httpx.Response]]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to be wrong, or right."""

    secret: str
    """`key`, `public token`, `callback`, or `public token in a link` where a callback's secret belongs."""
    what: str
    ask: Ask
    status: int


async def cases(stack: Stack, http: httpx.AsyncClient) -> list[Case]:
    """All of them; `http` comes without a key."""
    session = (await stack.started("echo", 0))["session"]["id"]
    outputs = f"/v1/sessions/{session}/outputs/echoes"
    scope = {"type": "session.output.read", "session": session, "stream": "echoes"}

    async def post(path: str, body: Any) -> dict[str, Any]:
        answer = await stack.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def delete(path: str) -> None:
        assert (await stack.http.delete(path)).status_code == 200

    def bearing(secret: Callable[[], str], path: str) -> Ask:
        return lambda: http.get(path, headers={"Authorization": f"Bearer {secret()}"})

    def callback(secret: Callable[[], str]) -> Ask:
        return lambda: http.post(f"/v1/callbacks/{secret()}", json={"data": 1})

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


async def measure(stack: Stack, rounds: int) -> Mapping[tuple[str, str], float]:
    """Median seconds by secret and what is wrong with it."""
    chance = random.Random(SEED)
    async with httpx.AsyncClient(base_url=stack.url, timeout=20) as http:
        asked = await cases(stack, http)
        took: dict[tuple[str, str], list[float]] = {(one.secret, one.what): [] for one in asked}
        for _ in range(rounds):
            for case in chance.sample(asked, len(asked)):
                began = time.perf_counter()
                answer = await case.ask()
                took[case.secret, case.what].append(time.perf_counter() - began)
                assert answer.status_code == case.status, (case.what, answer.text)
    return {case: statistics.median(times) for case, times in took.items()}


async def main(rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        try:
            await stack.start()
            medians = await measure(stack, rounds)
        finally:
            await stack.stop()
    for (secret, what), median in medians.items():
        sys.stdout.write(f"| {secret} | {what} | {median / medians[secret, 'unknown']:.2f} |\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
