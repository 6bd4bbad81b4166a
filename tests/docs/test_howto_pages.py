"""The how-to pages whose code talks to others: their files, as printed, against stand-ins and a runtime."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import hmac
import importlib
import json
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from helmr import AsyncClient, Client, Task, embedded
from helmr.models import WaitInfo
from helmr_runtime.catalog import Registry
from tests.cli.test_answer_all import Ran, Script
from tests.docs.stand_ins import mail_server, service
from tests.docs.test_python_blocks import ROOT, load
from tests.service.stack import Stack

pytestmark = pytest.mark.allows_blocking

FILE = re.compile(r"^```python\n(# (\w+)\.py\n.*?)^```$", flags=re.M | re.S)
WITHIN_S = 30.0
PAYLOAD = ROOT / "helmr/examples/data/pull_request.opened.json"

Import = Callable[[str], ModuleType]


@pytest.fixture
def from_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Import]]:
    """Writes the files of a page; gives what imports them."""
    written: list[str] = []

    def write(page: str) -> Import:
        for text, name in FILE.findall((ROOT / "docs" / f"{page}.md").read_text("utf-8")):
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
            written.append(name)
        return importlib.import_module

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@asynccontextmanager
async def running(task: Task[..., Any], environ: Callable[..., None]) -> AsyncIterator[AsyncClient]:
    """A runtime with the page's task, found as the page's app finds it."""
    async with embedded.running(task, in_process=True) as runtime, runtime.async_client() as client:
        environ(HELMR_URL=runtime.url, HELMR_API_KEY=runtime.key)
        yield client


async def the_wait(client: AsyncClient) -> WaitInfo:
    async with asyncio.timeout(WITHIN_S):
        while True:
            async for wait in client.waits.list():
                return wait
            await asyncio.sleep(0.02)


async def calls(app: Any, path: str, body: bytes, **headers: str) -> int:
    """What the app says to a request."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        return (await http.post(path, content=body, headers=given)).status_code


# --- Slack


class Slack:
    """A workspace: messages by their `ts`, and a person who presses buttons."""

    def __init__(self) -> None:
        self.messages: dict[str, Any] = {}
        self.busy = 1

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.busy:
            self.busy -= 1
            return 200, {"ok": False, "error": "ratelimited"}
        ts = body.get("ts", f"{len(self.messages) + 1}.000")
        assert path == ("/chat.update" if "ts" in body else "/chat.postMessage")
        self.messages[ts] = body
        return 200, {"ok": True, "channel": "C1", "ts": ts}

    def press(self, name: str, user: str) -> bytes:
        [message] = self.messages.values()
        [button] = [b for b in message["blocks"][1]["elements"] if b["action_id"] == name]
        payload = {"actions": [button], "user": {"username": user}}
        return urlencode({"payload": json.dumps(payload)}).encode()


def signed_by_slack(
    body: bytes, *, secret: bytes = b"slack-secret", age_s: int = 0
) -> dict[str, str]:
    at = str(int(time.time()) - age_s)
    signature = hmac.new(secret, b"v0:%b:%b" % (at.encode(), body), hashlib.sha256).hexdigest()
    return {"x_slack_request_timestamp": at, "x_slack_signature": f"v0={signature}"}


async def test_a_question_is_asked_and_answered_in_slack(
    from_page: Callable[[str], Import], environ: Callable[..., None]
) -> None:
    files, slack = from_page("slack"), Slack()
    with service(slack.answer) as url:
        environ(SLACK_API=url, SLACK_BOT_TOKEN="xoxb", SLACK_SIGNING_SECRET="slack-secret")
        async with running(files("publish").publish, environ) as client:
            session = await client.sessions.start("publish", "News")
            await the_wait(client)
            app = files("slack_app").app
            body = slack.press("approve", "ada")
            for bad in (
                {},
                signed_by_slack(body, secret=b"another"),
                signed_by_slack(body, age_s=600),
                signed_by_slack(b"another body"),
                {**signed_by_slack(body), "x_slack_request_timestamp": "yesterday"},
            ):
                assert await calls(app, "/slack/actions", body, **bad) == 401
            later = slack.press("reject", "bob")
            for each in (body, body, later):  # Slack delivers again, and Bob is late
                assert await calls(app, "/slack/actions", each, **signed_by_slack(each)) == 200
            run = await client.runs.wait(session.started_run.id, timeout=WITHIN_S)
            assert run.result == "approved by ada"
            await session.close()
            assert await calls(app, "/slack/actions", later, **signed_by_slack(later)) == 200
    [message] = slack.messages.values()
    assert message["blocks"] == [
        {"type": "section", "text": {"type": "plain_text", "text": "News: approved by ada"}}
    ]


# --- e-mail


async def test_a_mail_has_a_link_whose_page_answers(
    from_page: Callable[[str], Import], environ: Callable[..., None]
) -> None:
    files = from_page("email")
    with mail_server() as (port, mails):
        environ(SMTP_HOST="127.0.0.1", SMTP_PORT=str(port))
        async with running(files("invoice").invoice, environ) as client:
            session = await client.sessions.start("invoice", 4200)
            await the_wait(client)
            [mail] = mails
            assert mail["Subject"] == "Pay 42.00 €?"
            link = link_of(mail)
            async with httpx.AsyncClient() as browser:
                await answer_on_the_page(
                    browser, link, "Pay 42.00 €?", {"pay": "false", "note": "twice"}
                )
            run = await client.runs.wait(session.started_run.id, timeout=WITHIN_S)
            assert run.result == "not paid: twice"


def link_of(mail: Any) -> str:
    found = re.search(r"Answer here: (\S+)", mail.get_content())
    assert found
    return found[1]


async def answer_on_the_page(
    browser: httpx.AsyncClient, link: str, question: str, answer: dict[str, str]
) -> None:
    """Opens the page twice, as a scanner and a person do, and sends its form."""
    await browser.get(link, headers={"Accept": "text/html"})
    page = await browser.get(link, headers={"Accept": "text/html"})
    assert question in unescape(page.text)
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    sent = await browser.post(
        link, data={**hidden, **{f"f/{name}": said for name, said in answer.items()}}
    )
    assert sent.status_code == 303, sent.text


async def test_waits_are_mailed_to_their_assignees_once(
    from_page: Callable[[str], Import], environ: Callable[..., None], tmp_path: Path
) -> None:
    files = from_page("email")
    asks = load(
        "asks_two",
        "from helmr import streams, task\n"
        "answers = streams.input('answers', schema=bool)\n"
        "@task\n"
        "async def asks(who: str | None) -> bool:\n"
        "    return await answers.wait(subject='Well?', assignee=who).unwrap()\n",
        tmp_path,
    )
    with mail_server() as (port, mails):
        environ(SMTP_HOST="127.0.0.1", SMTP_PORT=str(port))
        async with running(asks.asks, environ) as client:
            hers = await client.sessions.start_and_wait("asks", "ada@example.com", timeout=WITHIN_S)
            await client.sessions.start_and_wait("asks", None, timeout=WITHIN_S)
            mail_links = files("mail_links")

            def mail() -> int:
                with Client() as blocking:
                    return int(mail_links.mail_new_waits(blocking))

            environ(SMTP_PORT="9")  # nobody is there
            with pytest.raises(OSError, match="refused"):
                await asyncio.to_thread(mail)
            environ(SMTP_PORT=str(port))
            assert await asyncio.to_thread(mail) == 1
            assert await asyncio.to_thread(mail) == 0
            [sent] = mails
            assert (sent["To"], sent["Subject"]) == ("ada@example.com", "Well?")
            async with httpx.AsyncClient() as browser:
                done = await browser.post(link_of(sent), json={"data": True})
                assert done.status_code == 200, done.text
            assert (await client.runs.wait(hers.started_run.id, timeout=WITHIN_S)).result is True
            said = [entry async for entry in hers.transcript() if entry.kind == "input.accepted"]
            assert said[0].principal.on_behalf_of == "ada@example.com"
    sys.modules.pop("asks_two")


# --- GitHub


class GitHub:
    """A repository with one pull request; its first answer to a post is lost."""

    def __init__(self) -> None:
        self.reviews: list[dict[str, str]] = []

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/files"):
            return 200, [{"filename": "a.py", "additions": 3}]
        assert path == "/repos/Codertocat/Hello-World/pulls/2/reviews"
        if method == "GET":
            return 200, self.reviews
        self.reviews.append({"body": body["body"], "html_url": "https://github.test/review-1"})
        return (502, {}) if len(self.reviews) == 1 else (200, self.reviews[-1])


def from_github(body: bytes, **changes: str) -> dict[str, str]:
    signature = hmac.new(b"github-secret", body, hashlib.sha256).hexdigest()
    return {
        "x_hub_signature_256": f"sha256={signature}",
        "x_github_event": "pull_request",
        "x_github_delivery": "delivery-1",
        **changes,
    }


async def test_a_delivery_becomes_a_review_that_a_person_has_edited(
    from_page: Callable[[str], Import], environ: Callable[..., None]
) -> None:
    files, github = from_page("github"), GitHub()
    with service(github.answer) as url:
        environ(GITHUB_API=url, GITHUB_TOKEN="t", GITHUB_WEBHOOK_SECRET="github-secret")
        async with running(files("review").review, environ) as client:
            app, body = files("github_app").app, PAYLOAD.read_bytes()
            forged = from_github(body, x_hub_signature_256="sha256=00")
            assert await calls(app, "/github", body, **forged) == 401
            for delivery in (
                from_github(body),
                from_github(body),
                from_github(body, x_github_event="ping"),
            ):
                assert await calls(app, "/github", body, **delivery) == 200
            [session] = [
                each async for each in client.sessions.list(tag="Codertocat/Hello-World#2")
            ]
            wait = await client.waits.get((await the_wait(client)).id)
            assert wait.initial == {"decision": "post", "text": "- a.py: +3"}
            await client.waits.answer(wait.id, {"decision": "post", "text": "Looks good."})
            [run] = [each async for each in client.runs.list(session_id=session.id)]
            run = await client.runs.wait(run.id, timeout=WITHIN_S)
            assert run.result == "https://github.test/review-1"
    [posted] = github.reviews  # it was looked for before the second try
    assert posted["body"].startswith("Looks good.\n")


# --- many at once


async def test_a_sheet_is_filled_in_and_sent_twice(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "batch-review.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    page = load("docs_batch_review", "\n".join(blocks), tmp_path)
    commands = re.findall(r"^\$ helmr (wait list .*|wait answer --csv .*)$", text, flags=re.M)
    assert len(commands) == 3
    (tmp_path / "data").mkdir()
    stack = Stack(
        tmp_path / "data", registry=Registry([page.moderate], modules=["x"], code_hash="x")
    )
    script = Script(stack, tmp_path)
    sheet = tmp_path / "spring.csv"

    async def runs(command: str, *more: str) -> Ran:
        words = shlex.split(command.partition(" > ")[0].replace("spring.csv", str(sheet)))
        return await script.runs(*words, *more)

    try:
        await stack.start(sessions_per_host=8)
        for n in range(4):
            await stack.started("moderate", f"text {n}", tags=["spring"])
        await stack.started("moderate", "of autumn", tags=["autumn"])
        listed = (await runs(commands[0])).out
        rows = {row["subject"]: row for row in csv.DictReader(listed.splitlines())}
        assert sorted(rows) == [f"text {n}" for n in range(4)]
        rows["text 0"]["decision"] = "publish"
        rows["text 1"]["decision"] = "perhaps"
        rows["text 2"]["decision"] = "drop"
        with sheet.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows["text 3"], "decision"])
            writer.writeheader()
            writer.writerows(rows.values())
        assert [one["progress"] for one in (await runs(commands[1], "--json")).lines].count(
            "planned"
        ) == 2
        for _ in range(2):
            came = await runs(commands[2], "--yes", "--json")
            progress = Counter(one["progress"] for one in came.lines)
            assert progress == {"accepted": 2, "refused": 1, "empty": 1}
        answered = await script.runs(
            "wait", "list", "--status", "fulfilled", "--filter", "batch:spring", "-o", "name"
        )
        assert set(answered.out.split()) == {rows["text 0"]["id"], rows["text 2"]["id"]}
    finally:
        await stack.stop()
    del sys.modules["docs_batch_review"]
