"""Pushes beside real parts: what stands on the phone says what became of its wait, whoever ended it (S-140)."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr_runtime.catalog import Registry
from helmr_runtime.service import notices
from tests import reaper
from tests.notices.receivers import PushServer, push_server
from tests.service import inbox_tasks
from tests.service.stack import until
from tests.service.test_notices import ANSWER, Told, waiting

SHOWN_WITHIN_S = 3.0
NTFY = shutil.which("ntfy")
REGISTRY = Registry.of_modules([inbox_tasks])


@pytest.fixture
def server() -> Iterator[PushServer]:
    with push_server() as one:
        yield one


def push(server: PushServer, **parts: Any) -> dict[str, Any]:
    place = {"type": "ntfy", "url": server.url, "topic": "t", "private_addresses": True}
    return {**place, "events": ["wait.opened"], "longest_pause": "1s", **parts}


@pytest.fixture
async def stack(tmp_path: Path, server: PushServer) -> AsyncIterator[Told]:
    stack = Told(tmp_path, registry=REGISTRY, linger_s=0.01)
    stack.with_targets(phone=push(server))
    await stack.start(sessions_per_host=8)
    await stack.begun()
    yield stack
    await stack.stop()


async def asked(stack: Told, subject: str, **how: Any) -> dict[str, Any]:
    """The session of a question that waits, with its wait."""
    return await waiting(stack, task="ask", payload={"subject": subject, **how})


async def answer(stack: Told, session: dict[str, Any]) -> None:
    sent = await stack.http.post(f"/v1/waits/{session['wait']['id']}/answer", json=ANSWER)
    assert sent.status_code == 200, sent.text


def titles(server: PushServer) -> list[str]:
    """What the phone shows, in the order in which it asked."""
    return sorted(one["title"] for one in server.shown)


async def shows(server: PushServer, *wanted: str) -> None:
    try:
        await until(lambda: titles(server) == sorted(wanted))
    except TimeoutError:
        raise AssertionError(f"shown: {titles(server)}, not {wanted}") from None


async def test_what_became_of_each_wait_stands_where_it_was_asked(
    stack: Told, server: PushServer
) -> None:
    first, second = await asked(stack, "First"), await asked(stack, "Second")
    await asked(stack, "Third", timeout="1s")
    await shows(server, "Waits: First", "Waits: Second", "Timed out: Third")
    began_s = time.monotonic()
    await answer(stack, first)
    cancelled = await stack.http.post(f"/v1/sessions/{second['id']}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    try:
        await until(lambda: not any(one.startswith("Waits") for one in titles(server)))
    except TimeoutError:
        raise AssertionError(server.bodies) from None
    assert time.monotonic() - began_s < SHOWN_WITHIN_S
    first_title, second_title, _ = titles(server)
    assert re.fullmatch(r"Answered by .+: First", first_title)
    assert re.fullmatch(r"Cancelled( by .+)?: Second", second_title)
    (listed,) = await stack.listed()
    assert listed["events"][-2:] == ["wait.resolved", "wait.timed_out"]


async def test_a_wait_that_goes_to_someone_else_is_no_longer_asked_here_and_brings_no_link(
    stack: Told, server: PushServer
) -> None:
    await stack.begin_anew(phone=push(server, filter="assignee:mia", links="assignee"))
    mine, other = await asked(stack, "Mine", assignee="mia"), await asked(stack, "Other")
    await shows(server, "Waits: Mine")
    assert "/v1/links/" in server.shown[0]["click"]
    for session, assignee in ((mine, "bo"), (other, "mia")):
        path = f"/v1/waits/{session['wait']['id']}/assign"
        await stack.http.post(path, json={"assignee": assignee})
    await shows(server, "Assigned to bo: Mine", "Assigned to mia: Other")
    clicks = {one["title"]: one["click"] for one in server.shown}
    assert "/v1/links/" in clicks["Assigned to mia: Other"]
    assert clicks["Assigned to bo: Mine"].endswith(f"/inbox/{mine['wait']['id']}")
    before = len(server.posts)
    await answer(stack, mine)
    await answer(stack, other)
    await until(lambda: len(server.posts) > before)
    assert re.match(r"Answered by .+: Other", server.bodies[-1]["title"])
    assert titles(server)[1] == "Assigned to bo: Mine", "bo's answer is nothing for mia"


@pytest.mark.parametrize("keeps_sequences", [True, False])
async def test_a_push_of_a_gateway_that_dies_before_it_is_noted_is_doubled_at_most(
    stack: Told, monkeypatch: pytest.MonkeyPatch, keeps_sequences: bool
) -> None:
    with push_server(keeps_sequences=keeps_sequences) as server:
        await stack.begin_anew(phone=push(server))

        async def never(self: Any) -> None:
            """It died before."""

        monkeypatch.setattr(notices.NoticeOperations, "_store", never)
        session = await asked(stack, "Once")
        await until(lambda: len(server.posts) == 1)
        await stack.begin_anew()
        await until(lambda: len(server.posts) == 2)
        assert titles(server) == ["Waits: Once"] * (1 if keeps_sequences else 2)
        await answer(stack, session)
        await until(lambda: server.bodies[-1]["title"].startswith("Answered"))
        assert (len(server.posts), len(server.shown)) == (3, 1 if keeps_sequences else 3)


async def test_what_ended_while_the_server_was_down_is_not_asked_any_more(
    stack: Told, server: PushServer
) -> None:
    await asked(stack, "Shown")
    await shows(server, "Waits: Shown")
    server.down()
    session = await asked(stack, "Missed")
    await answer(stack, session)
    await asked(stack, "Pending")

    async def fails() -> bool:
        (one,) = await stack.listed()
        return bool(one["queued"] == 3 and one["failing_since"])

    await until(fails)
    server.up()
    await stack.http.post("/v1/notices/phone/retry")
    await until(lambda: len(server.posts) == 3)
    shown = titles(server)
    assert re.fullmatch("Answered by .+: Missed", shown[0])
    assert shown[1:] == ["Waits: Pending", "Waits: Shown"]


async def test_a_test_says_what_the_server_can_not(stack: Told, server: PushServer) -> None:
    told = (await stack.http.post("/v1/notices/phone/test")).json()
    assert told == {"target": "phone", "taken": True, "error": None, "remark": None}
    with push_server(keeps_sequences=False) as old:
        await stack.begin_anew(phone=push(old))
        told = (await stack.http.post("/v1/notices/phone/test")).json()
    assert (told["taken"], told["error"]) == (True, None)
    assert "replaces no notification" in told["remark"]


# --- the server that Debian has ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RealServer:
    """A server that lets no one in without the token."""

    url: str
    token: str

    def messages(self) -> list[dict[str, Any]]:
        """All that was published to the topic, oldest first."""
        auth = {"Authorization": f"Bearer {self.token}"}
        found = httpx.get(f"{self.url}/alerts/json?poll=1", headers=auth, trust_env=False)
        found.raise_for_status()
        return [json.loads(line) for line in found.text.splitlines()]


@pytest.fixture
def real() -> Iterator[RealServer]:
    assert NTFY is not None
    folder = reaper.folder("helmr-ntfy-")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "server.yml").write_text(
        f'listen-http: "127.0.0.1:{port}"\n'
        f'cache-file: "{folder / "cache.db"}"\n'
        f'auth-file: "{folder / "auth.db"}"\n'
        'auth-default-access: "deny-all"\n'
    )
    config = ("--config", str(folder / "server.yml"))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([NTFY, "serve", *config], stdout=log, stderr=log) as process,
    ):
        try:
            _is_up(f"http://127.0.0.1:{port}")

            def say(*words: str) -> str:
                env = {**os.environ, "NTFY_PASSWORD": "of the test"}
                done = subprocess.run(
                    [NTFY, words[0], *config, *words[1:]],
                    capture_output=True, text=True, check=True, env=env,
                )  # fmt: skip
                return done.stdout + done.stderr

            say("user", "add", "ada")
            say("access", "ada", "alerts", "rw")
            token = re.search("tk_[a-z0-9]+", say("token", "add", "ada"))
            assert token is not None
            yield RealServer(f"http://127.0.0.1:{port}", token[0])
        finally:
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _is_up(url: str) -> None:
    for _ in range(400):
        try:
            if httpx.get(f"{url}/v1/health", trust_env=False).json()["healthy"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("ntfy does not answer")


@pytest.mark.allows_blocking
@pytest.mark.skipif(NTFY is None, reason="needs ntfy")
async def test_a_real_server_takes_question_and_answer_and_hears_nothing_secret(
    real: RealServer, tmp_path: Path, stack: Told
) -> None:
    (tmp_path / "token").write_text(real.token)
    place = {"url": real.url, "topic": "alerts", "token_file": str(tmp_path / "token")}
    phone = {"type": "ntfy", **place, "private_addresses": True, "detail": "none"}
    await stack.begin_anew(phone=phone)
    test = (await stack.http.post("/v1/notices/phone/test")).json()
    assert test["taken"], test
    began_s = time.monotonic()
    session = await asked(stack, "Refund of DE02 1203", body="of DE02 1203", tags=["DE02 1203"])
    await until(lambda: len(real.messages()) == 2)
    assert time.monotonic() - began_s < SHOWN_WITHIN_S
    await answer(stack, session)
    await until(lambda: len(real.messages()) == 3)
    tried, opened, ended = real.messages()
    assert (opened["title"], opened.get("priority", 3)) == ("Waits: ask", 3)
    assert opened["click"].endswith(f"/inbox/{session['wait']['id']}")
    assert (ended["title"], ended["priority"]) == ("Answered: ask", 2)
    assert "DE02" not in str(real.messages())
    assert opened.get("sequence_id") == ended.get("sequence_id")
    assert ("sequence_id" in tried) == (test["remark"] is None)
