"""The chat page of the docs in a real browser: words show as they come, and the record takes their place."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helmr.examples import chat
from helmr_runtime.catalog import Registry
from tests.service.stack import BOUND_S, Stack, until

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]
async_api = pytest.importorskip("playwright.async_api", reason="needs playwright")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "streaming.md"
HTML = re.compile(r"^```html\n(.*?)^```$", flags=re.M | re.S)


class Site:
    """A server that gives the page, and beside it what the page is handed."""

    def __init__(self) -> None:
        [html] = HTML.findall(PAGE.read_text(encoding="utf-8"))
        self.handed: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_page = self.path == "/"
                body = html if is_page else json.dumps(site.handed)
                is_known = is_page or self.path == "/chat.json"
                self.send_response(200 if is_known else 404)
                kind = "text/html; charset=utf-8" if is_page else "application/json"
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode() if is_known else b"")

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    registry = Registry([chat.chat], modules=["helmr.examples.chat"], code_hash="code-1")
    stack = Stack(tmp_path, registry=registry)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def token(stack: Stack, origin: str, **scope: str) -> str:
    body = {"scope": scope, "max_uses": None, "allowed_origins": [origin]}
    made = await stack.http.post("/v1/public-tokens", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["public_access_token"])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    """A tab that shows the page."""
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        tab = await browser.new_page()
        tab.set_default_timeout(BOUND_S * 1000)
        await tab.goto(url)
        yield tab
        await browser.close()


async def begun(stack: Stack, site: Site) -> str:
    """A chat whose secrets the page is handed; its session."""
    body = {"task": "chat", "payload": None, "result_timeout_s": BOUND_S}
    session_id = (await stack.http.post("/v1/sessions", json=body)).json()["session"]["id"]
    site.handed = {
        "helmr": stack.url,
        "session": session_id,
        "sends": await token(
            stack,
            site.origin,
            type="session.input.send",
            session=session_id,
            stream="messages",
        ),
        "reads": await token(
            stack,
            site.origin,
            type="session.output.read",
            session=session_id,
            stream="replies",
        ),
    }
    return str(session_id)


async def test_words_show_as_they_come_and_the_record_takes_their_place(
    stack: Stack, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    async def think(message: str, *, number: int, summary: str) -> str:
        chat.replies.emit(chat.Reply(to=number, text="Hello <b>"))
        while not goes_on.is_set():
            await asyncio.sleep(0.01)
        chat.replies.emit(chat.Reply(to=number, text="there"))
        return "Hello <b>there"

    monkeypatch.setattr(chat.think, "function", think)
    session_id = await begun(stack, site)
    async with opened(site.origin) as tab:
        await tab.wait_for_selector("body[data-state=following]")
        await tab.get_by_label("Message").fill("hi")
        await tab.get_by_role("button", name="Send").click()
        coming = tab.locator("#coming")
        await async_api.expect(coming).to_have_text("Hello <b>")
        goes_on.set()
        await async_api.expect(tab.locator("#said li")).to_have_text(["hi", "Hello <b>there"])
        await async_api.expect(coming).to_have_text("")
        closed = await stack.http.post(f"/v1/sessions/{session_id}/close", json={"end_input": True})
        assert closed.status_code == 200
    await until(lambda: stack.service.hub.followers == 0)


@pytest.mark.long  # tests/service/test_chunks.py
async def test_a_thousand_chunks_a_second_show_in_order_and_none_is_stored(
    stack: Stack, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    words = [f"word{number}. " for number in range(1_000)]

    async def think(message: str, *, number: int, summary: str) -> str:
        for place, word in enumerate(words):
            chat.replies.emit(chat.Reply(to=number, text=word))
            if place % 10 == 9:
                await asyncio.sleep(0.01)
        while not goes_on.is_set():
            await asyncio.sleep(0.01)
        return "counted"

    monkeypatch.setattr(chat.think, "function", think)
    session_id = await begun(stack, site)
    async with opened(site.origin) as tab:
        await tab.wait_for_selector("body[data-state=following]")
        await tab.get_by_label("Message").fill("count")
        await tab.get_by_role("button", name="Send").click()
        await async_api.expect(tab.locator("#coming")).to_have_text("".join(words).strip())
        goes_on.set()
        await async_api.expect(tab.locator("#said li")).to_have_text(["count", "counted"])
        entries = await stack.http.get(f"/v1/sessions/{session_id}/transcript?limit=200")
        assert len(entries.json()["items"]) < 20
        assert "word998." not in entries.text
        await stack.http.post(f"/v1/sessions/{session_id}/close", json={"end_input": True})
    await until(lambda: stack.service.hub.followers == 0)
