"""What `helmr[runtime]` promises: a runtime of one's own. Prints where it answers, and ends with its input."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys

import httpx
from review_tasks import by_token, review  # type: ignore[import-not-found]

from helmr import embedded
from helmr.client import Client
from helmr.errors import MissingExtra
from helmr.testing import Harness


async def with_clients_of_the_harness() -> None:
    async with Harness(review) as harness, harness.async_client() as client:
        started = await client.sessions.start(review, "otters")
        await client.sessions.open(started.id).input("approval").send({"decision": "approve"})
        assert (await client.runs.get(started.started_run.id)).result == "approve"


def by_link(client: Client) -> None:
    """A person completes a token on its page."""
    token = client.tokens.create(subject="Send it?", schema={"type": "boolean"})
    assert token.callback_url is not None
    page = httpx.get(token.callback_url, headers={"Accept": "text/html"})
    assert "Send it?" in page.text
    assert httpx.post(token.callback_url, json={"data": True}).status_code == 200
    assert client.tokens.get(token.id).data is True


def main() -> None:
    for other in ("textual", "polars", "pandas", "pyarrow", "matplotlib"):
        assert importlib.util.find_spec(other) is None, other
    asyncio.run(with_clients_of_the_harness())
    with embedded.start(review, data_dir="data", hosts=1) as runtime, runtime.client() as client:
        by_link(client)
        started = client.sessions.start_and_wait(by_token, "otters", timeout="30s")
        assert started.started_run.status == "waiting"
        found = client.query("SELECT task FROM sessions")
        assert found.rows() == [{"task": "by-token"}]
        with contextlib.suppress(MissingExtra):
            found.arrow()
            raise AssertionError("tables are of another extra")
        client.sessions.start_and_wait(review, "the console", timeout="30s")
        print(json.dumps({"url": runtime.url, "key": runtime.key}), flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main()
