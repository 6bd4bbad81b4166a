"""The outside world against a whole runtime: browsers, kills, the command line, and no secret left anywhere."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr import Client, auth
from helmr.client.sync import SessionHandle
from helmr.errors import Unavailable
from helmr.models import RunInfo
from helmr.wire import ids
from helmr_runtime.launchers.embedded import RuntimeProcess
from helmr_runtime.security.payloads import find_secrets

# The browser's driver keeps an event loop in this thread; the tests beside it are plain blocking code.
pytestmark = [
    # In each run: a browser at pages and of another origin (tests/http/answer_page, tests/http/test_browser_tokens.py),
    # uses under retries (tests/http/test_access_tokens.py), kills (tests/stack/test_supervisor_kills.py). What is left
    # by any test is searched for secrets.
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

BOUND_S = 60.0
CHROMIUM = shutil.which("chromium")
OPTIONS: dict[str, Any] = {
    "tasks": ["outside_tasks.py", "helmr.examples.publish_review"],
    "folder": Path(__file__).parent,
    "hosts": 1,
    "encrypts": True,
}
WEBHOOK = "data/pull_request.opened.json"
APPROVE = {"decision": "approve", "amount": 2, "note": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[RuntimeProcess]:
    environment = {"XDG_STATE_HOME": str(folder / "state")}
    with RuntimeProcess.start(
        data_dir=folder / "data", environment=environment, **OPTIONS
    ) as runtime:
        yield runtime


@pytest.fixture
def client(runtime: RuntimeProcess) -> Iterator[Client]:
    with Client(url=runtime.url, key=runtime.key) as client:
        until(lambda: is_ready(client))
        yield client


def is_ready(client: Client) -> bool:
    try:
        return client.health().ready
    except Unavailable:
        return False


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + BOUND_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def mailed(client: Client, folder: Path, **parts: str) -> tuple[SessionHandle, str, str]:
    """A session that waits for its link: the session, the link, the token's public token."""
    path = folder / "mail" / f"{ids.new_id('mail')}.txt"
    payload = {"path": str(path), **parts}
    session = client.sessions.start("by-link", payload, result_timeout="30s")
    link, secret = path.read_text().split()
    return session, link, secret


def ended(session: SessionHandle) -> RunInfo:
    def run() -> RunInfo | None:
        (found,) = session.runs()
        return found if found.status.is_final else None

    found: RunInfo = until(run)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.browser
def test_a_person_opens_the_link_fills_the_form_and_the_session_goes_on(
    client: Client, folder: Path, browser: Any
) -> None:
    session, link, _ = mailed(client, folder)
    context = browser.new_context(java_script_enabled=False, viewport={"width": 480, "height": 900})
    page = context.new_page()
    page.goto(link)
    page.screenshot(path=str(folder / "answer-page.png"), full_page=True)
    page.get_by_label("approve").check()
    page.get_by_label("How many?").or_(page.get_by_label("Amount")).first.fill("3")
    page.get_by_role("button").click()
    assert "Answer recorded" in page.content()
    assert ended(session).result == {"decision": "approve", "amount": 3, "note": None}
    again = context.new_page()
    again.goto(link)
    assert "Answer recorded" in again.content()
    context.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A web app's folder, served under two origins."""
    (tmp_path / "index.html").write_text("<!doctype html><title>app</title>")
    handler = lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=str(tmp_path))  # noqa: E731
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    first, second = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    yield tmp_path, first, second
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.browser
def test_a_page_of_another_origin_sends_only_if_its_origin_is_allowed(
    client: Client, runtime: RuntimeProcess, browser: Any, site: tuple[Path, str, str]
) -> None:
    session = client.sessions.start("talk", result_timeout="30s")
    _, allowed, other = site
    made = client.auth.create_public_token(
        scope=auth.send_to("words", session=session.id), allowed_origins=[allowed]
    )
    script = """async ([url, secret]) => {
        try {
            const answer = await fetch(url, {
                method: "POST",
                headers: {Authorization: `Bearer ${secret}`, "Content-Type": "application/json"},
                body: JSON.stringify({data: "hello"}),
            });
            return answer.status;
        } catch (error) { return String(error); }
    }"""
    target = [
        f"{runtime.url}/v1/sessions/{session.id}/inputs/words",
        made.public_access_token,
    ]
    page = browser.new_page()
    page.goto(allowed)
    assert page.evaluate(script, target) == 200
    page.goto(other)
    assert page.evaluate(script, target) == 403
    page.close()
    assert len(list(session.input("words").list())) == 1


@pytest.mark.browser
def test_the_examples_page_answers_with_the_fetch_that_the_docs_show(
    client: Client,
    runtime: RuntimeProcess,
    browser: Any,
    site: tuple[Path, str, str],
    project_root: Path,
) -> None:
    folder, origin, other = site
    session = client.sessions.start(
        "publish-review",
        json.loads(files("helmr.examples").joinpath(WEBHOOK).read_text(encoding="utf-8")),
        metadata={"page_origin": origin, "page_dir": str(folder / "pages")},
        result_timeout="30s",
    )
    docs = (project_root / "docs" / "http.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```js\n(.*?)^```$", docs, flags=re.M | re.S)
    script = (
        f"async ([helmr, handed]) => {{ {shown}; return [answer.status, await answer.json()]; }}"
    )
    target = [runtime.url, f"/pages/{session.id}.json"]
    page = browser.new_page()
    page.goto(other)
    status, refusal = page.evaluate(script, target)
    assert (status, refusal["code"]) == (403, "origin_denied")
    page.goto(origin)
    status, receipt = page.evaluate(script, target)
    page.close()
    assert (status, receipt["outcome"]) == (200, "fulfilled")
    result: Any = ended(session).result
    assert result["status"] == "posted"
    sent = next(e for e in session.transcript() if e.kind == "input.accepted")
    assert sent.principal.type == "public_token"


def test_uses_hold_when_gateway_and_actor_are_killed_under_idempotent_retries(
    client: Client, runtime: RuntimeProcess
) -> None:
    session = client.sessions.start("talk", result_timeout="30s")
    made = client.auth.create_public_token(
        scope=auth.send_to("words", session=session.id), max_uses=3
    )
    path = f"{runtime.url}/v1/sessions/{session.id}/inputs/words"

    def send(n: int) -> int:
        headers = {
            "Authorization": f"Bearer {made.public_access_token}",
            "Operation-Id": ids.new_id(ids.OPERATION),
        }
        body = {"data": str(n), "idempotency_key": f"key-{n}"}
        deadline = time.monotonic() + BOUND_S
        while True:
            try:
                answer = httpx.post(path, json=body, headers=headers, timeout=20)
            except httpx.HTTPError:
                status = 503
            else:
                status = answer.status_code
            if status not in (503, 429) or time.monotonic() > deadline:
                return status
            time.sleep(0.1)

    pids = runtime.pids()
    with ThreadPoolExecutor(25) as pool:
        sending = [pool.submit(send, n) for n in range(50)]
        wait(sending, timeout=BOUND_S, return_when=FIRST_COMPLETED)
        for name, pid in pids.items():
            if "slot" in name or "desk" in name or "gateway" in name:
                os.kill(pid, signal.SIGKILL)
        under_way = sum(not one.done() for one in sending)
        codes = [one.result() for one in sending]
    assert under_way > 10
    assert codes.count(200) == 3, codes
    until(lambda: is_ready(client))
    assert set(codes) == {200, 403}
    assert len(list(session.input("words").list())) == 3
    shown = next(one for one in client.auth.list() if one.id == made.id)
    assert (shown.uses, shown.uses_left) == (3, 0)
    until(lambda: is_ready(client))


def test_a_gateway_killed_right_after_a_completion_changes_nothing(
    client: Client, runtime: RuntimeProcess, folder: Path
) -> None:
    session, link, _ = mailed(client, folder)
    assert httpx.post(link, json={"data": APPROVE}, timeout=20).status_code == 200
    os.kill(runtime.pids()["helmr-gateway"], signal.SIGKILL)
    until(lambda: is_ready(client))
    assert ended(session).result == APPROVE


def test_the_command_line_makes_lists_uses_and_revokes(
    runtime: RuntimeProcess, client: Client
) -> None:
    def helmr(*words: str) -> Any:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "helmr.cli",
                *words,
                "--json",
                "--data-dir",
                str(runtime.data_dir),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    key = helmr("key", "create", "--role", "operator", "--name", "on-call")
    with Client(url=runtime.url, key=key["secret"]) as other:
        assert other.health().ready
        token = helmr("token", "create", "--tag", "t", "--schema", '{"type": "integer"}')
        assert [one["id"] for one in helmr("token", "list", "--tag", "t")["items"]] == [token["id"]]
        other.tokens.complete(token["id"], 4)
    assert helmr("token", "get", token["id"])["ended_by"]["name"] == "on-call"
    assert helmr("key", "revoke", key["id"])["revoked_at"] is not None
    second = helmr("token", "create")
    public = helmr("public-token", "create", "--token", second["id"], "--max-uses", "1")
    done = client.tokens.complete(
        second["id"], "x", public_access_token=public["public_access_token"]
    )
    assert done.outcome == "completed"
    listed = next(
        one for one in helmr("public-token", "list", "--all")["items"] if one["id"] == public["id"]
    )
    assert listed["uses_left"] == 0
    assert helmr("public-token", "revoke", public["id"])["revoked_at"] is not None
    third = helmr("token", "create")
    assert helmr("token", "cancel", third["id"])["status"] == "cancelled"


def test_completed_before_the_deadline_and_dead_until_after_it_is_fulfilled(
    tmp_path: Path,
) -> None:
    options = {**OPTIONS, "environment": {"XDG_STATE_HOME": str(tmp_path / "state")}}
    runtime = RuntimeProcess.start(data_dir=tmp_path / "data", **options)
    with runtime, Client(url=runtime.url, key=runtime.key) as client:
        session, link, _ = mailed(client, tmp_path, wait_timeout="8s")
        late = client.tokens.create(timeout="1d")
        waiting = client.sessions.start("by-token", late.id, result_timeout="30s")
        session_ids = (session.id, waiting.id)
        wait = session.get().wait
        assert wait is not None
        assert wait.deadline_at is not None
        # Stopped, the directory delivers nothing.
        os.kill(runtime.pids()["helmr-directory"], signal.SIGSTOP)
        assert httpx.post(link, json={"data": APPROVE}, timeout=20).status_code == 200
        assert client.tokens.complete(late.id, "told").outcome == "completed"
        runtime.kill()
    # The deadline passes while nobody lives.
    time.sleep(max(0.1, (wait.deadline_at - datetime.now(UTC)).total_seconds() + 0.1))
    again = RuntimeProcess.start(data_dir=tmp_path / "data", **options)
    with again, Client(url=again.url, key=again.key) as client:
        assert ended(client.sessions.open(session_ids[0])).result == APPROVE
        assert ended(client.sessions.open(session_ids[1])).result == "told"
    assert secrets_in(tmp_path / "data") == {}


def test_no_secret_is_left_in_logs_or_data(
    runtime: RuntimeProcess, client: Client, folder: Path
) -> None:
    session, link, secret = mailed(client, folder)
    httpx.post(link, json={"data": {"decision": "no"}}, timeout=20)
    httpx.get(link + "x", timeout=20)
    text = "".join(entry.model_dump_json() for entry in session.transcript())
    assert list(find_secrets(text)) == []
    assert secrets_in(runtime.data_dir) == {}
    assert files_with(runtime.data_dir, b"three** remarks") == []  # bodies are encrypted
    assert files_with(runtime.data_dir, b"by-link")  # names of tasks are not
    assert link.rpartition("/")[2] not in runtime.output()
    assert secret not in runtime.output()


def secrets_in(data_dir: Path) -> dict[str, list[str]]:
    """Secrets in each file but those whose purpose is to hold one."""
    found = {}
    for path in data_dir.rglob("*"):
        if not path.is_file() or path.name in ("credentials.json", "admin.key"):
            continue
        text = path.read_bytes().decode("latin-1")
        if secrets := list(find_secrets(text)):
            found[path.name] = [one[:12] for one in secrets]
    return found


def files_with(data_dir: Path, text: bytes) -> list[str]:
    """The files in which a text can be read."""
    found = [path for path in data_dir.rglob("*") if path.is_file()]
    return [path.name for path in found if text in path.read_bytes()]
