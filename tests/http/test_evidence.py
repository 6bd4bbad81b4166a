"""Evidence of a wait on each face: the same facts, links and diff, and none of it more than text (S-70)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from textual.content import Content

from helmr import streams, task, tokens
from helmr.approvals import approval_schema
from helmr.cli.describe import wait_fields
from helmr.evidence import evidence
from helmr.link_templates import read_links
from helmr.models import (
    BODY_DRAWN_CHARS,
    Evidence,
    EvidenceLink,
    WaitInfo,
    WaitKind,
    WaitStatus,
)
from helmr.person.forms import form_of, tool_call
from helmr.person.review.question import BODY_LINES, body_lines, is_cut, wait_lines
from helmr.wait_details import asks
from helmr_console.widgets.markdown import unframed
from helmr_console.widgets.panes import asked_parts
from helmr_runtime.catalog import Registry
from helmr_runtime.features.mcp.runs import message_of
from helmr_runtime.http.answer_page import render_page
from helmr_runtime.process.gateway import GatewayActor
from tests.hostile import HOSTILE, MARKUP, hidden
from tests.http.answer_page.pages import page
from tests.http.answer_page.test_page import TAGS, Document
from tests.service.stack import Stack, until

NOW = datetime(2026, 12, 2, tzinfo=UTC)
FACTS = {"amount": 120.5, "risk": "high", "repeat": False}
LINKS = {"Trace": "https://trace.example.com/t/1?a=1&b=2", "Owner": "mailto:ada@example.com"}
DIFF = ({"limit": 100}, {"limit": 500})
SHOWN = [
    *("amount", "120.5", "risk", "high", "repeat", "no"),
    *("Trace", "https://trace.example.com/t/1?a=1&b=2", "Owner", "mailto:ada@example.com"),
    *('-  "limit": 100', '+  "limit": 500', "Raise the limit?"),
]
ATTACK = f"{HOSTILE} | <script>alert(1)</script> **b** `c` [d](javascript:e) ```\n```"

ask = streams.input("ask", schema=bool)


@task
async def raise_limit(payload: dict[str, int]) -> bool:
    """Asks with everything that there is to see."""
    return await ask.wait(
        subject="Raise it?", body="Raise the limit?", facts=FACTS, links=LINKS, diff=DIFF
    ).unwrap()


@task
async def by_token(token_id: str) -> Any:
    """Waits on that token, else on one of its own with evidence."""
    if token_id:
        return await tokens.wait(token_id, body="Raise the limit?").unwrap()
    made = await tokens.create(
        subject="Raise it?", body="Raise the limit?", facts=FACTS, links=LINKS, diff=DIFF
    )
    return await made.wait().unwrap()


@task
async def with_own(token_id: str) -> Any:
    """Waits on a token with a fact of its own."""
    return await tokens.wait(token_id, facts={"mine": 1}).unwrap()


REGISTRY = Registry(
    [raise_limit, by_token, with_own], modules=[__name__], code_hash="code-evidence"
)


def wait(**changes: Any) -> WaitInfo:
    shown = Evidence.model_validate(evidence(FACTS, LINKS, DIFF))
    known = WaitInfo(
        id="wait_1", session_id="ses_1", run_id="run_1", task="t", kind=WaitKind.INPUT,
        stream="ask", subject="Raise it?", status=WaitStatus.PENDING, opened_at=NOW,
        body="Raise the limit?", evidence=shown,
    )  # fmt: skip
    return known.model_copy(update=changes)


def on_page(one: WaitInfo) -> Document:
    shown = page(subject=one.subject, body=one.body, evidence=one.shown_evidence)
    return Document(render_page(shown))


def on_console(one: WaitInfo) -> str:
    parts = asked_parts(one)
    assert all(isinstance(line, Content) for line in unframed(parts))
    return "\n".join(line.plain for line in unframed(parts))


TRACE = EvidenceLink(label="Langfuse", url="https://langfuse.example.com/t/4bf9?a=1&b=2")
"""A link of the runtime."""

FACES = {
    "page": lambda one: on_page(one).text,
    "console": on_console,
    "next": lambda one: "\n".join(wait_lines(one, "1 of 1", due="") + body_lines(one)),
    "wait get": lambda one: "\n".join(f"{name}: {said}" for name, said in wait_fields(one)),
    "mcp": message_of,
}


@pytest.mark.parametrize("face", FACES)
def test_every_face_shows_all_of_it_and_the_body(face: str) -> None:
    said = FACES[face](wait())
    assert [one for one in SHOWN if one not in said] == []


@pytest.mark.parametrize("face", FACES)
def test_every_face_shows_links_of_the_runtime_below_those_of_the_task(face: str) -> None:
    said = FACES[face](wait(links=[TRACE]))
    order = (LINKS["Trace"], TRACE.label, TRACE.url, '-  "limit": 100', "Raise the limit?")
    places = [said.index(one) for one in order]
    assert places == sorted(places)
    alone = FACES[face](wait(links=[TRACE], evidence=None))
    assert alone.index(TRACE.url) < alone.index("Raise the limit?")


def test_a_notebook_shows_links_of_the_runtime_too() -> None:
    shown = wait(links=[TRACE])._repr_html_()
    assert "https://langfuse.example.com/t/4bf9?a=1&amp;b=2" in shown


def hostile() -> WaitInfo:
    found = evidence({ATTACK[:60]: ATTACK}, {ATTACK[:60]: "https://a.example/x"}, ATTACK)
    return wait(evidence=Evidence.model_validate(found))


def test_nothing_hostile_acts_in_a_terminal() -> None:
    lines = wait_lines(hostile(), "1 of 1", due="") + body_lines(hostile())
    assert hidden("".join(lines)) == []
    said = on_console(hostile())
    assert hidden(said.replace("\n", "")) == []
    assert MARKUP in said, "shown as it is"
    assert "Raise the limit?" in said


def test_nothing_hostile_acts_on_the_page() -> None:
    document = on_page(hostile())
    assert {tag for tag, _ in document.elements} <= TAGS
    assert [one["href"] for one in document.all("a") if "rel" in one] == ["https://a.example/x"]
    assert "<script>alert(1)</script>" in document.text, "as text"
    assert "\x1b" not in document.text
    assert "\u202e" not in document.text


def test_evidence_counts_as_text_that_is_shown_whole_or_announced_as_cut() -> None:
    short = wait(body=None, evidence=Evidence(facts={"a": 1}))
    assert not is_cut(short)
    many = wait(body=None, evidence=Evidence(facts={f"f{n}": n for n in range(BODY_LINES + 5)}))
    assert is_cut(many)
    assert "5 more lines" in wait_lines(many, "1 of 1", due="")[-1]
    huge = wait(body="x" * BODY_DRAWN_CHARS)
    assert "the beginning is drawn" in on_console(huge)
    assert "amount" in on_console(huge)


def test_evidence_stands_above_the_card_of_a_call() -> None:
    form = form_of(approval_schema("refund", None), initial={"arguments": {"cents": 5}})
    call = tool_call(form)
    assert call is not None
    shown = wait(body="The tool `refund` is about to be called.")
    said = "\n".join(line.plain for line in unframed(asked_parts(shown, call=call)))
    assert "120.5" in said
    assert any("amount: 120.5" in line for line in wait_lines(shown, "1 of 1", due="", call=call))


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with links of its own."""
    stack = Stack(tmp_path, registry=REGISTRY)
    table = {
        "Session": "https://l.example/{session_id}/{task}",
        "Trace": "https://l.example/{trace_id}",
    }
    stack.service = stack.make_service(links=read_links(table, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start()
    try:
        yield stack
    finally:
        await stack.stop()


async def test_the_api_has_it_in_the_read_of_one_wait_and_the_page_shows_it(stack: Stack) -> None:
    """The links of the runtime stand beside the evidence, so that the question hash is that of what was asked."""
    session_id = (await stack.started(raise_limit.id, {}))["session"]["id"]
    found = await stack.http.get("/v1/waits", params={"session_id": session_id})
    listed = found.json()["items"][0]
    assert not {"evidence", "links", "trace_id"} & listed.keys()
    served = (await stack.http.get(f"/v1/waits/{listed['id']}")).json()
    assert served["evidence"] == evidence(FACTS, LINKS, DIFF)
    url = f"https://l.example/{session_id}/raise_limit"
    assert served["links"] == [{"label": "Session", "url": url}], "no traces are sent"
    assert asks(served, served["question_hash"])
    whole = (await stack.http.get(f"/v1/sessions/{session_id}")).json()["wait"]
    assert whole["links"] == served["links"]
    link = await stack.http.post(f"/v1/waits/{listed['id']}/links", json={"person": "ada"})
    path = f"/v1/links/{link.json()['url'].rpartition('/')[2]}"
    shown = Document((await stack.http.get(path, headers={"Accept": "text/html"})).text)
    assert [one for one in [*SHOWN, url] if one not in shown.text] == []


async def made(stack: Stack, **parts: Any) -> dict[str, Any]:
    response = await stack.http.post("/v1/tokens", json={"timeout": "1h", **parts})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def behind(stack: Stack, token: dict[str, Any]) -> Document:
    """The page behind a token's URL, for whoever has it."""
    path = f"/v1/callbacks/{token['callback_url'].rpartition('/')[2]}"
    async with httpx.AsyncClient(base_url=stack.url) as http:
        return Document((await http.get(path, headers={"Accept": "text/html"})).text)


async def waited(stack: Stack, task_id: str, payload: Any) -> dict[str, Any]:
    """The wait of a session that begins."""
    wait_id = (await stack.started(task_id, payload))["session"]["wait"]["id"]
    found: dict[str, Any] = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    return found


async def test_a_clients_token_shows_its_evidence_and_so_does_a_wait_on_it(stack: Stack) -> None:
    said = evidence(FACTS, LINKS, DIFF)
    token = await made(stack, subject="Raise it?", body="Raise the limit?", evidence=said)
    assert token["evidence"] == said
    assert (await stack.http.get(f"/v1/tokens/{token['id']}")).json()["evidence"] == said
    (listed,) = (await stack.http.get("/v1/tokens")).json()["items"]
    assert "evidence" not in listed
    shown = await behind(stack, token)
    assert [one for one in SHOWN if one not in shown.text] == []
    wait = await waited(stack, by_token.id, token["id"])
    assert wait["evidence"] == said
    assert asks(wait, wait["question_hash"])
    assert not asks({**wait, "evidence": None}, wait["question_hash"])
    assert [one["label"] for one in wait["links"]] == ["Session"]
    assert "l.example" not in (await behind(stack, token)).text, "the operator's links are not its"


async def test_evidence_of_the_wait_goes_before_that_of_its_token(stack: Stack) -> None:
    token = await made(stack, subject="Go?", evidence={"facts": {"its": 1}})
    wait = await waited(stack, with_own.id, token["id"])
    assert wait["evidence"]["facts"] == {"mine": 1}
    assert "its" in (await behind(stack, token)).text


async def test_a_tasks_token_shows_its_evidence_and_so_does_its_wait(stack: Stack) -> None:
    wait = await waited(stack, by_token.id, "")
    assert wait["evidence"] == evidence(FACTS, LINKS, DIFF)
    token = (await stack.http.get(f"/v1/tokens/{wait['token_id']}")).json()
    assert token["evidence"] == wait["evidence"]


async def test_a_page_without_a_question_of_its_own_shows_that_of_the_wait(stack: Stack) -> None:
    token = await made(stack)
    await waited(stack, with_own.id, token["id"])
    await until(lambda: _names_wait(stack, token["id"]))
    assert "mine" in (await behind(stack, token)).text


async def _names_wait(stack: Stack, token_id: str) -> bool:
    return bool((await stack.service.tokens.in_full(token_id))["waits"])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"links": [{"url": "javascript:alert(1)"}]}, "can follow"),
        ({"links": [{"url": "https://a.example/\u001b[2J"}]}, "characters"),
        ({"links": [{"url": "https://u:pw@a.example"}]}, "user or password"),
        ({"links": [{"url": "https://a.example", "label": " \n "}]}, "1 to 100"),
        ({"facts": {"a": "x" * 501}}, "longer than 500"),
        ({"facts": {"a": [1]}}, "facts.a"),
        ({"facts": {str(n): n for n in range(51)}}, "facts"),
        ({"diff": "x" * 32_769}, "diff"),
        ({"files": []}, "files"),
        ([], "evidence"),
    ],
)
async def test_what_a_client_sends_is_bounded_like_what_a_task_says(
    stack: Stack, said: Any, told: str
) -> None:
    response = await stack.http.post("/v1/tokens", json={"evidence": said})
    assert response.status_code == 400, response.text
    assert told in response.text
    assert "pw" not in response.text
    assert (await stack.http.get("/v1/tokens")).json()["items"] == []


async def test_of_a_hostile_token_nothing_acts_on_its_page(stack: Stack) -> None:
    found = evidence(
        {ATTACK[:60]: ATTACK}, {f"two\nlines {ATTACK[:40]}": "https://a.example/x"}, ATTACK
    )
    shown = await behind(stack, await made(stack, evidence=found))
    assert {tag for tag, _ in shown.elements} <= TAGS
    assert [one["href"] for one in shown.all("a") if "rel" in one] == ["https://a.example/x"]
    assert "<script>alert(1)</script>" in shown.text
    assert "two lines" in shown.text
    assert "\x1b" not in shown.text
