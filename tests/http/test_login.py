"""`helmr login` on a real runtime and an issuer behind real HTTP: who then answers, and who is out after logout."""

from __future__ import annotations

import asyncio
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from helmr.cli.app import ExitCode
from helmr.cli.main import invoke
from helmr.client import AsyncClient
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.client.test_signing_in import Provider
from tests.http.issuer import CLIENT, serving
from tests.service.stack import Stack


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(Provider) as found:
        yield found


@pytest.fixture
async def stack(tmp_path: Path, provider: Provider) -> AsyncIterator[Stack]:
    people = {"issuer": provider.url, "client_id": CLIENT, "ada": {"email": "ada@example.com"}}
    stack = Stack(tmp_path / "data")
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def test_who_logs_in_answers_as_themselves_and_is_out_after_logout(
    stack: Stack,
    provider: Provider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HELMR_URL", stack.url)
    monkeypatch.delenv("HELMR_API_KEY", raising=False)
    provider.interval = 0

    async def helmr(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(invoke, words)
        found = capsys.readouterr()
        return code, found.out + found.err

    wait = (await stack.started())["session"]["wait"]["id"]
    code, said = await helmr("login", "--device")
    assert code == ExitCode.OK, said
    assert "AB-CD" in said
    assert "ada@example.com" in said
    code, said = await helmr("wait", "answer", wait, "decision=approve")
    assert code == ExitCode.OK, said
    by = (await stack.http.get(f"/v1/waits/{wait}")).json()["resolved_by"]
    assert (by["type"], by["id"], by["via"]) == ("person", "ada", f"{provider.url}#u-1")
    async with await asyncio.to_thread(lambda: AsyncClient(url=stack.url)) as client:
        me = await client.people.whoami()
    assert me.person is not None
    assert me.person.id == "ada"
    code, _ = await helmr("logout")
    assert code == ExitCode.OK
    assert provider.revoked
    assert (await helmr("whoami"))[0] == ExitCode.NOT_ALLOWED


async def test_a_browser_of_this_machine_logs_in(
    stack: Stack,
    provider: Provider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HELMR_API_KEY", raising=False)
    threads: list[threading.Thread] = []

    def show(page: str) -> bool:
        visit = threading.Thread(target=lambda: httpx.get(page, follow_redirects=True, timeout=20))
        threads.append(visit)
        visit.start()
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    code = await asyncio.to_thread(invoke, ["--url", stack.url, "login"])
    said = capsys.readouterr()
    assert code == ExitCode.OK, said.err
    assert "ada" in said.out
    for visit in threads:
        visit.join()
