"""The link that `helmr up` and `helmr dev` print in a terminal, opened by a browser without scripts (S-116)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.console.flow.terminal import HELMR, Terminal
from tests.http.test_sign_in_pages import hidden
from tests.service.stack import BOUND_S, NO_TLS

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

STARTS_WITHIN_S = 60.0
TASKS = """
from helmr import task

@task
async def idle(payload: int) -> int:
    return payload
"""


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    found = Terminal(240, 40)
    yield found
    await found.close()


def browser(url: str) -> httpx.AsyncClient:
    own = {"Accept": "text/html", "Origin": "null", "Sec-Fetch-Site": "same-origin"}
    return httpx.AsyncClient(base_url=url, timeout=BOUND_S, verify=NO_TLS, headers=own)


@pytest.mark.parametrize("command", ["up", "dev"])
async def test_the_printed_link_signs_in_once_and_says_so(
    terminal: Terminal, tmp_path: Path, command: str
) -> None:
    (tmp_path / "my_tasks.py").write_text(TASKS)
    options = ["--in-process"] if command == "up" else []
    options += ["--port", "0", "--data-dir", str(tmp_path / ".helmr")]
    place = {"PYTHONPATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    await terminal.run(*HELMR, command, "my_tasks", *options, **place)
    await terminal.comes_to("open it in a browser, once", within_s=STARTS_WITHIN_S)
    await terminal.shows(r"/sign-in/local\?code=\S+")
    found = re.search(r"(http://127\.0\.0\.1:\d+)(/sign-in/local\?code=\S+)", terminal.text())
    assert found is not None, terminal.text()
    url, link = found.groups()
    async with browser(url) as tab, browser(url) as other:
        page = await tab.get(link)
        fields = {name: hidden(page, name) for name in ("state", "code")}
        sent = await tab.post("/sign-in/local", data=fields)
        assert (sent.status_code, sent.headers["location"]) == (303, "/inbox")
        assert (await tab.get("/inbox")).status_code == 200
        again = await other.get(link)
        assert again.status_code == 403
        assert "helmr inbox-link" in again.text
        assert (await other.get("/inbox")).status_code != 200
    await terminal.press("\x03")
    assert await terminal.ended(within_s=STARTS_WITHIN_S) in (0, 130)
