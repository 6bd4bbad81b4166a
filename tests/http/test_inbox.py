"""The inbox as a page: what is listed for whom, answered there, taken back, and word of what changes (S-118)."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from helmr import features
from helmr.gate import CALL_TASK
from helmr.models import WaitInfo
from helmr.wire import ids
from helmr.wire.operation import PATH_IDS
from helmr.wire.roles import Need, Role
from helmr_runtime.catalog import Registry
from helmr_runtime.core.answerers import GROUPS_AGE_MAX
from helmr_runtime.http import inbox
from helmr_runtime.http.answer_page import InboxPage, InboxView, SignedInBar, render_inbox
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.service.sign_in import GROUPS_FRESH
from tests.http.issuer import CLIENT, serving
from tests.http.test_access_tokens import bearing, key
from tests.http.test_links import linked, path_of
from tests.http.test_people import personal
from tests.http.test_sign_in_pages import ADA, CY, PageProvider, Tab, hidden
from tests.ledger.sessions import running
from tests.service import inbox_tasks, vote_tasks
from tests.service.stack import Events, Stack

REGISTRY = Registry(
    [inbox_tasks.ask, vote_tasks.refund, vote_tasks.signed_refund],
    modules=["tests.service.inbox_tasks", "tests.service.vote_tasks"],
    code_hash="code-inbox",
)
FINANCE = ["group:finance"]
APPROVE = {"f/decision": '"approve"', "f/note": ""}
ANSWER = {"data": {"decision": "approve", "note": ""}}


@pytest.fixture
def provider() -> Iterator[PageProvider]:
    with serving(PageProvider) as found:
        yield found


@pytest.fixture
async def stack(tmp_path: Path, provider: PageProvider) -> AsyncIterator[Stack]:
    people = {
        "issuer": provider.url,
        "client_id": CLIENT,
        "groups_claim": "groups",
        "domains": ["example.com"],
        "ada": {"email": "ada@example.com"},
        "bo": {"groups": ["finance"]},
        "dan": {"groups": ["sales"]},
        "eve": {"role": "viewer"},
    }
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as found:
        yield found


async def asked(stack: Stack, subject: str, **how: Any) -> str:
    """The id of a new wait."""
    return str((await stack.started("ask", {"subject": subject, **how}))["session"]["wait"]["id"])


async def tab_of(stack: Stack, opened: AsyncExitStack, person: str) -> Tab:
    """A browser in which that person is signed in, with a key."""
    tab = Tab(stack, opened)
    sent = await tab.sign_in_with((await personal(stack, person))["secret"])
    assert sent.status_code == 303, sent.text
    return tab


def listed(page: httpx.Response) -> list[str]:
    """The ids of the waits, in order."""
    assert page.status_code == 200, page.text
    return re.findall(r'<li id="(wait_\w+)"', page.text)


async def test_what_waits_for_a_person_is_listed_soonest_first_and_nothing_of_others(
    stack: Stack, opened: AsyncExitStack
) -> None:
    late = await asked(stack, "Late <b>?", timeout="2h")
    never = await asked(stack, "Never")
    soon = await asked(stack, "Soon", timeout="1h", priority="high", tags=["eu"])
    finance = await asked(stack, "For finance", answerers=FINANCE, timeout="30m")
    dan, bo = [await tab_of(stack, opened, one) for one in ("dan", "bo")]
    page = await dan.get("/inbox")
    assert listed(page) == [soon, late, never]
    assert "3 questions." in page.text
    assert "3 questions wait" in (await dan.get("/")).text
    assert "4 questions wait" in (await bo.get("/")).text
    assert "Late &lt;b&gt;?" in page.text
    assert "For finance" not in page.text
    assert "in 59m" in page.text
    assert listed(await bo.get("/inbox")) == [finance, soon, late, never]
    assert listed(await bo.get("/inbox?show=mine")) == [finance]
    for query, expected in (
        ("tag=eu", [soon]),
        ("priority=high", [soon]),
        ("task=ask", [soon, late, never]),
        ("task=refund", []),
        ("show=nonsense", [soon, late, never]),
    ):
        assert listed(await dan.get(f"/inbox?{query}")) == expected, query
    for query in ("priority=urgent", "cursor=x", f"task={'x' * 300}"):
        refused = await dan.get(f"/inbox?{query}")
        assert (refused.status_code, 'role="alert"' in refused.text) == (400, True), query
    others = await dan.get(f"/inbox/{finance}")
    assert (others.status_code, "For finance" in others.text) == (404, False)
    for nothing in (ids.new_id(ids.WAIT), "x", ids.new_id(ids.SESSION)):
        found = await dan.get(f"/inbox/{nothing}")
        assert found.status_code == 404
        assert found.text == _without_nonces(others.text, found.text)


def nonce_of(page: httpx.Response, field: str) -> str:
    """The nonce of the form with this field."""
    form = next(one for one in page.text.split("<form") if f'name="{field}"' in one)
    return form.partition('name="nonce" value="')[2].partition('"')[0]


def _without_nonces(text: str, like: str) -> str:
    """The text with the nonce that another page has: all else is to be equal."""
    nonce = re.compile(r'name="nonce" value="([^"]*)"')
    found = nonce.search(like)
    assert found is not None
    return nonce.sub(found[0], text)


async def test_tasks_are_chosen_among_those_of_ones_own_waits(
    stack: Stack, opened: AsyncExitStack
) -> None:
    await asked(stack, "Publish?", tags=["eu"])
    await stack.started("refund", 1)  # for finance
    dan, bo = [await tab_of(stack, opened, one) for one in ("dan", "bo")]
    for tab, query, tasks in (
        (dan, "", ["ask"]),
        (bo, "", ["ask", "refund"]),
        (bo, "?task=refund", ["ask", "refund"]),
        (bo, "?task=ask&tag=eu", ["ask"]),
        (bo, "?task=gone", ["ask", "gone", "refund"]),
    ):
        page = await tab.get(f"/inbox{query}")
        choice = page.text.partition('<select id="task"')[2].partition("</select>")[0]
        assert re.findall(r'<option value="([^"]+)"', choice) == tasks, query
        selected = re.findall(r'<option value="([^"]+)" selected', choice)
        assert selected == re.findall(r"task=(\w+)", query)


async def test_pages_follow_each_other(
    stack: Stack, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_runtime.http.inbox.ROWS_MAX", 2)
    waits = [await asked(stack, f"Number {n}", timeout=f"{n + 1}h") for n in range(3)]
    tab = await tab_of(stack, opened, "dan")
    page = await tab.get("/inbox?task=ask")
    assert listed(page) == waits[:2]
    assert "3 questions, page 1 of 2." in page.text
    assert "3 questions wait" in (await tab.get("/")).text
    following = re.search(r'href="(/inbox\?[^"]+)" rel="next"', page.text)
    assert following is not None
    last = await tab.get(following[1].replace("&amp;", "&"))
    assert listed(last) == waits[2:]
    assert "3 questions, page 2 of 2." in last.text
    monkeypatch.setattr("helmr_runtime.http.inbox.ROWS_MAX", 1)
    assert "3 questions, page 1 of 3." in (await tab.get("/inbox")).text
    assert (await stack.http.post(f"/v1/waits/{waits[0]}/answer", json=ANSWER)).status_code == 200
    behind = await tab.get(following[1].replace("&amp;", "&"))
    assert listed(behind) == waits[2:]
    assert "2 questions, page 2 of 2." in behind.text
    assert "First page" in last.text
    assert 'rel="next"' not in last.text


async def test_a_person_answers_on_the_page_and_sees_what_they_have_answered(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?", body="# Look\n\n*well*")
    other = await asked(stack, "And this?")
    tab, stranger = [await tab_of(stack, opened, one) for one in ("dan", "bo")]
    form = await tab.get(f"/inbox/{wait}")
    assert "<em>well</em>" in form.text
    wrong = await tab.post(f"/inbox/{wait}", nonce=hidden(form, "nonce"), **{"f/decision": ""})
    assert (wrong.status_code, "needs your attention" in wrong.text) == (422, True)
    sent = await tab.post(f"/inbox/{wait}", nonce=hidden(form, "nonce"), **APPROVE)
    assert (sent.status_code, sent.headers["location"]) == (303, f"/inbox/{wait}")
    assert "The answer is recorded" in (await tab.get(f"/inbox/{wait}")).text
    assert listed(await tab.get("/inbox")) == [other]
    assert listed(await tab.get("/inbox?show=answered")) == [wait]
    assert listed(await stranger.get("/inbox?show=answered")) == []
    overtaken = await stranger.get(f"/inbox/{wait}")
    assert "dan</bdi> answered it first" in overtaken.text
    assert "approve" not in overtaken.text
    late = await stranger.post(f"/inbox/{wait}", nonce="x", **APPROVE)
    assert late.status_code == 409
    found = (await stack.http.get(f"/v1/waits/{wait}")).json()
    assert (found["mode"], found["resolved_by"]["id"]) == ("person", "dan")


async def test_a_vote_is_shown_replaced_and_taken_back(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    wait = (await stack.started("refund", 2))["session"]["wait"]["id"]
    bo, ada = await tab_of(stack, opened, "bo"), Tab(stack, opened)
    path = f"/inbox/{wait}"
    form = await ada.sign_in(path)
    sent = await ada.post(path, nonce=hidden(form, "nonce"), f='{"cents": 7}')
    assert sent.status_code == 303, sent.text
    assert listed(await ada.get("/inbox")) == []
    assert listed(await ada.get("/inbox?show=voted")) == [wait]
    page = await bo.get("/inbox")
    assert "1 of 2 agree" in page.text
    form = await bo.get(path)
    assert "ada stands for 7" in form.text
    assert "&#34;cents&#34;: 7" in form.text.partition("<textarea")[2]
    voted = await ada.get(path)
    assert "Take my answer back" in voted.text
    withdraw = nonce_of(voted, "withdraw")
    for nonce, count in ((hidden(form, "nonce"), 1), ("x", 1), (withdraw, 0)):
        await ada.post(path, nonce=nonce, withdraw="1")
        assert (await stack.http.get(f"/v1/waits/{wait}")).json()["have"] == count
    assert "Take my answer back" not in (await ada.get(path)).text
    assert listed(await ada.get("/inbox")) == [wait]


def test_a_row_says_how_old_it_is_and_what_is_answered_without_a_person() -> None:
    now = datetime(2026, 11, 30, 14, tzinfo=UTC)
    empty = InboxPage(now=now, bar=SignedInBar(name="dan"), filters={})
    assert '<p class="quiet" id="count"></p>' in render_inbox(empty)
    assert "The soonest end comes first." in render_inbox(empty)
    assert "The newest comes first." in render_inbox(replace(empty, view=InboxView.ANSWERED))
    wait = WaitInfo.model_validate(
        {
            "id": "wait_1",
            "session_id": "ses_1",
            "run_id": "run_1",
            "task": "ask",
            "kind": "input",
            "status": "pending",
            "opened_at": now - timedelta(hours=2),
            "ends_at": now + timedelta(hours=1),
            "default_at": now + timedelta(hours=1),
            "escalation": [{"do": "default", "value": {"decision": "reject"}}],
        }
    )
    page = render_inbox(replace(empty, waits=[wait], total=1, tasks=("ask", CALL_TASK)))
    assert '<p class="quiet" id="count">1 question.</p>' in page
    assert f'<option value="{CALL_TASK}">calls of agents</option>' in page
    many: dict[str, Any] = {"total": 1_000, "place": 2, "places": 20}
    page = render_inbox(replace(empty, waits=[wait], cursor="next", **many))
    assert "1,000 questions, page 2 of 20." in page
    assert "<bdi>then reject</bdi>" in page
    assert re.search(r'asked <time datetime="[^"]+">2h ago</time>', page)


async def test_who_works_on_a_wait_is_said_and_answered_over_only_if_one_says_so(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    tab = await tab_of(stack, opened, "dan")
    async with bearing(stack, (await personal(stack, "bo"))["secret"]) as http:
        assert (await http.post(f"/v1/waits/{wait}/claim", json={})).status_code == 200
    assert "bo is working on it" in (await tab.get("/inbox")).text
    form = await tab.get(f"/inbox/{wait}")
    assert "Answer although" in form.text
    refused = await tab.post(f"/inbox/{wait}", nonce=hidden(form, "nonce"), **APPROVE)
    assert refused.status_code == 409
    assert "bo is working on it. Tick the box to answer all the same." in refused.text
    assert wait not in refused.text.partition("<form")[0]
    assert 'value="&#34;approve&#34;" checked' in refused.text
    fields = {**APPROVE, "override_claim": "1", "nonce": hidden(refused, "nonce")}
    assert (await tab.post(f"/inbox/{wait}", **fields)).status_code == 303


async def test_groups_that_grow_old_are_asked_for_again_when_a_page_is_shown(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = await asked(stack, "For finance", answerers=FINANCE)
    tab, path = Tab(stack, opened), f"/inbox/{wait}"
    form = await tab.sign_in(path)
    start, later = stack.service.now(), GROUPS_AGE_MAX + timedelta(minutes=1)
    sessions = stack.service.browser_sessions
    [session] = sessions._open.values()
    session.began_at -= later
    session.proof = _older(session.proof, later)
    stack.service.people_view._claims.clear()
    refused = await tab.post(path, nonce=hidden(form, "nonce"), **APPROVE)
    assert refused.status_code == 503, refused.text
    assert "Sign in again" in refused.text
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
    by_script = await tab.http.get(path, headers={"Sec-Fetch-Dest": "empty"})
    assert by_script.status_code == 200
    provider.who = {**ADA, "groups": ["sales"]}
    gone = await tab.get(path)  # by way of the issuer, who says other groups now
    assert (gone.status_code, len(gone.history)) == (404, 4)
    assert listed(await tab.get("/inbox")) == []
    provider.who = ADA
    [session] = sessions._open.values()
    session.proof = _older(session.proof, GROUPS_FRESH)
    stack.service.people_view._claims.clear()
    session.began_at = start - GROUPS_FRESH
    assert listed(await tab.get("/inbox?show=mine")) == [wait]


def _older(proof: Any, by: timedelta) -> Any:
    return replace(proof, groups_at=proof.groups_at - by)


async def test_a_browser_without_a_sign_in_is_sent_there_and_a_program_refused(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    tab = Tab(stack, opened)
    for path in ("/inbox", "/inbox?show=mine&tag=eu", f"/inbox/{wait}"):
        page = await tab.get(path)
        assert page.url.path == "/sign-in"
        assert page.url.params["next"] == path
    posted = await tab.post(f"/inbox/{wait}", **APPROVE)
    assert (posted.status_code, "/sign-in?next=%2Finbox%2Fwait_" in posted.text) == (403, True)
    assert (await tab.http.get("/inbox/events")).status_code == 401
    eve = await tab_of(stack, opened, "eve")
    refused = await eve.get("/inbox")
    assert (refused.status_code, "viewer, answers nothing" in refused.text) == (403, True)
    for page in (refused, await eve.get("/sign-in")):
        assert "role = &#34;operator&#34;" in page.text or 'role = "operator"' in page.text
        assert 'href="/inbox"' not in page.text, "a page that sends a viewer in a circle"
    assert (await eve.http.get("/inbox/events")).status_code == 401


async def test_no_key_opens_a_page_for_people_and_no_cookie_a_route_of_the_api(
    stack: Stack, opened: AsyncExitStack
) -> None:
    """Each row by each credential of the other kind."""
    wait = await asked(stack, "Publish?")
    pages = [row for row in features.OPERATIONS if row.need is Need.PAGE]
    assert len(pages) == 4
    secrets = [stack.key, (await personal(stack, "dan"))["secret"]]
    secrets += [await key(stack, role.value, role.value) for role in Role]
    for secret in secrets:
        async with bearing(stack, secret) as http:
            for row in pages:
                path = row.at(*[wait] * len(row.path_names))
                response = await http.request(row.method, path)
                assert response.status_code == 401, (row.route, response.text)
    tab = await tab_of(stack, opened, "dan")
    for row in features.OPERATIONS:
        if row.needs_key:
            path = row.at(*(_an_id(name) for name in row.path_names))
            response = await tab.http.request(row.method, path)
            assert response.status_code == 401, row.route


def _an_id(name: str) -> str:
    return ids.new_id(PATH_IDS[name]) if name in PATH_IDS else "x"


async def test_word_of_a_change_comes_to_whom_it_concerns_and_ends_with_the_sign_in(
    stack: Stack, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr_runtime.http.inbox.CHANGES_EVERY_S", 0.0)
    dan, bo = [await tab_of(stack, opened, one) for one in ("dan", "bo")]
    followers = []
    for tab in (dan, bo):
        response = await opened.enter_async_context(tab.http.stream("GET", "/inbox/events"))
        assert response.headers["content-type"].startswith("text/event-stream")
        followers.append(Events(response))
        await followers[-1].first_bytes()
    await asked(stack, "For finance", answerers=FINANCE)
    [word] = await followers[1].take(1)
    assert (word.type, word.data) == ("changed", "{}")
    wait = await asked(stack, "For all")
    for follower in followers:
        await follower.take(1)
    assert followers[0].text.count("event: changed") == 1
    page = await dan.get(f"/inbox/{wait}")
    await dan.post("/sign-out", nonce=hidden(page, "nonce", "/sign-out"))
    await stack.http.post("/v1/people/bo/disable", json={})
    await asked(stack, "Another")
    for follower in followers:
        await follower.end()


class Entries:
    """What a feed brings, a batch each time that it is asked."""

    def __init__(self, *batches: list[str]) -> None:
        self.batches = list(batches)
        self.is_closed = False
        self.waits: list[float] = []

    async def take_items(self, timeout_s: float) -> list[Any]:
        self.waits.append(timeout_s)
        kinds = self.batches.pop(0) if self.batches else []
        return [SimpleNamespace(kind=kind, entry={"body": {}}) for kind in kinds]

    def close(self) -> None:
        self.is_closed = True


async def test_changes_come_at_most_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(inbox, "_now_s", lambda: now[0])
    entries = Entries(["run.started"], ["wait.opened", "wait.opened"], ["wait.voted"], [], [])
    changes = inbox.InboxChanges(
        entries,  # type: ignore[arg-type]
        lambda item: inbox.concerns(item, frozenset()),
        lambda: False,
    )
    assert await changes.take(15.0) == []
    assert len(await changes.take(15.0)) == 1
    assert await changes.take(15.0) == []
    assert await changes.take(15.0) == []
    assert entries.waits[-1] == inbox.CHANGES_EVERY_S  # no longer than until it may say so
    now[0] += inbox.CHANGES_EVERY_S
    assert len(await changes.take(15.0)) == 1
    changes.close()
    assert changes.is_closed


async def test_the_page_itself_runs_one_script_and_keeps_no_session_open(
    stack: Stack, opened: AsyncExitStack
) -> None:
    tab = await tab_of(stack, opened, "dan")
    page = await tab.get("/inbox")
    policy = page.headers["content-security-policy"]
    assert re.search(r"script-src 'sha256-[^']+';", policy)
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    [session] = stack.service.browser_sessions._open.values()
    before = session.seen_at
    await tab.http.get("/inbox", headers={"Sec-Fetch-Dest": "empty"})
    assert session.seen_at == before
    await tab.get("/inbox")
    assert session.seen_at > before


async def test_a_link_of_a_restricted_wait_takes_a_vote_back_too(
    stack: Stack, provider: PageProvider, opened: AsyncExitStack
) -> None:
    wait = (await stack.started("refund", 2))["session"]["wait"]["id"]
    path = path_of(await linked(stack, wait, "cy@example.com"))
    bo = await tab_of(stack, opened, "bo")
    form = await bo.get(path)
    await bo.post(path, nonce=hidden(form, "nonce"), f='{"cents": 7}')
    voted = await bo.get(path)
    withdraw = nonce_of(voted, "withdraw")
    assert (await bo.post(path, nonce=withdraw, withdraw="1")).headers["location"] == path
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["have"] == 0
    provider.who = CY
    cy = Tab(stack, opened)
    assert "Others answer this" in (await cy.sign_in(path)).text
    assert (await cy.get(f"/inbox/{wait}")).status_code == 404


# --- sizes ----------------------------------------------------------------------------------------

ROUNDS = 25
RATIO_MAX = 1.5


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_first_page_of_ten_thousand_takes_about_as_long_as_that_of_a_hundred(
    tmp_path: Path, opened: AsyncExitStack
) -> None:
    """In turns, in one process, by its processor time: only their ratio is judged."""
    people = read_people({"bo": {"groups": ["finance"]}}, "helmr.toml")
    tabs = []
    for count in (100, 10_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        stack = Stack(folder, registry=REGISTRY)
        stack.service = stack.make_service(people=people)
        stack.gateway = GatewayActor(stack.service, stack.settings())
        opened.push_async_callback(stack.stop)
        await _fill(stack, count)
        await stack.start()
        tabs.append(await tab_of(stack, opened, "bo"))
    took: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for tab, times in zip(tabs, took, strict=True):
            began_at_s = time.process_time()
            page = await tab.get("/inbox")
            times.append(time.process_time() - began_at_s)
            assert len(listed(page)) == inbox.ROWS_MAX
    few, many = (statistics.median(times) for times in took)
    assert many <= RATIO_MAX * few, f"{many * 1000:.1f} ms and {few * 1000:.1f} ms"


async def _fill(stack: Stack, count: int) -> None:
    """Waits of every kind, as sessions that wait and that no host holds."""
    at_once = asyncio.Semaphore(64)

    async def one(number: int) -> None:
        async with at_once:
            hand = await running(stack.ledger, stack.clock, task="ask")
            ends_at = stack.clock.now() + timedelta(hours=1, seconds=number)
            more: dict[str, Any] = {"answerers": FINANCE, "approvals": 2} if number % 2 else {}
            wait = hand.wait(
                stream="verdicts",
                subject=f"Number {number}",
                body="text " * 50,
                deadline_at=ends_at if number % 3 else None,
                **more,
            )
            await hand.stored(wait)
            await hand.stored(checkpoint=True, release=True)

    await asyncio.gather(*(one(number) for number in range(count)))


async def test_what_one_typed_outlives_the_sign_in_and_says_that_nothing_was_recorded(
    stack: Stack, opened: AsyncExitStack
) -> None:
    wait = await asked(stack, "Publish?")
    tab, path = await tab_of(stack, opened, "dan"), f"/inbox/{wait}"
    fields = {**APPROVE, "f/note": 'ten "minutes" of <work>\nand more'}
    nonce = hidden(await tab.get(path), "nonce")
    stack.service.browser_sessions.end_of("dan")  # as a restart does
    kept = await tab.post(path, nonce=nonce, **fields)
    assert (kept.status_code, "Nothing was recorded yet" in kept.text) == (403, True)
    assert "ten &#34;minutes&#34; of &lt;work&gt;" in kept.text
    foreign = await tab.post(path, site="cross-site", nonce=nonce, **fields)
    assert foreign.status_code == 403
    again = await tab_of(stack, opened, "dan")
    page = await again.post(path, **fields)
    assert "Please check and send again" in page.text
    assert "ten &#34;minutes&#34; of &lt;work&gt;" in page.text
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
    sent = await again.post(path, nonce=hidden(page, "nonce"), **fields)
    assert sent.status_code == 303
    answer = (await stack.http.get(f"/v1/waits/{wait}")).json()["answer"]
    assert answer["note"].replace("\r\n", "\n") == fields["f/note"]
