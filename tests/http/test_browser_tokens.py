"""A page in a real browser uses a public token, or reads what the token lacks."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.http.test_access_tokens import echo, public_token
from tests.service.stack import BOUND_S, Stack

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]
async_api = pytest.importorskip("playwright.async_api", reason="needs playwright")

SEND = """async ([url, secret]) => {
  const answer = await fetch(url, {
    method: "POST",
    headers: {Authorization: `Bearer ${secret}`, "Content-Type": "application/json"},
    body: JSON.stringify({data: "from a page"}),
  });
  return [answer.status, await answer.json()];
}"""


@pytest.fixture
def page_origin() -> Iterator[str]:
    """A server of empty pages: another origin than the runtime's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_page_is_told_what_to_add_and_sends_once_it_is_added(
    stack: Stack, page_origin: str
) -> None:
    session = await echo(stack)
    bare = await public_token(stack, session)
    allowed = await public_token(stack, session, allowed_origins=[page_origin], max_uses=1)
    url = f"{stack.url}/v1/sessions/{session}/inputs/words"
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        tab = await browser.new_page()
        tab.set_default_timeout(BOUND_S * 1000)
        await tab.goto(page_origin)

        async def send(made: dict[str, Any]) -> Any:
            return await tab.evaluate(SEND, [url, made["public_access_token"]])

        status, refusal = await send(bare)
        assert (status, refusal["code"]) == (403, "origin_denied")
        assert f'allowed_origins=["{page_origin}"]' in refusal["hint"]
        status, receipt = await send(allowed)
        assert (status, receipt["stream"]) == (200, "words")
        assert (await send(allowed))[1]["code"] == "token_exhausted"
        await browser.close()
    sent = (await stack.http.get(f"/v1/sessions/{session}/inputs/words")).json()["items"]
    assert [one["data"] for one in sent] == ["from a page"]
