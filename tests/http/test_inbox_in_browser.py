"""The inbox in a real browser: without scripts, live with them, by keys, on a phone, and what axe-core finds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from helmr.gate import tasks as gate_tasks
from helmr.person.inbox_link import inbox_link
from helmr_runtime.catalog import Registry
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.client.npm import installed
from tests.http.browsing import MARKS, chromium, tab_of
from tests.http.test_gate import NOW, ask, asker, event
from tests.http.test_inbox import FINANCE, REGISTRY, asked
from tests.http.test_people import personal
from tests.service import inbox_tasks, vote_tasks
from tests.service.stack import Stack

AXE = "axe-core@4.10.3"
WITH_CALLS = Registry.of_modules([gate_tasks, inbox_tasks, vote_tasks])
PHONE: dict[str, Any] = {"width": 360, "height": 740}
pytestmark = MARKS


def long(test: Any) -> Any:
    """Runs with the long tests, in their time."""
    return pytest.mark.long(pytest.mark.timeout(300)(test))


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=WITH_CALLS, linger_s=5.0)
    finance = {"groups": ["finance"]}
    people = {"bo": finance, "dan": finance, "eve": {"role": "viewer"}}
    stack.service = stack.make_service(people=read_people(people, "helmr.toml"))
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    stack.service.base_url = stack.url
    yield stack
    await stack.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    async with chromium() as found:
        yield found


async def signed_in(
    stack: Stack, browser: Any, person: str, heading: str = "For you", **options: Any
) -> Any:
    """A tab at that person's inbox, signed in as people do it with a key."""
    tab = await tab_of(browser, stack.url, **options)
    await tab.goto("/inbox")
    await tab.get_by_label("Your personal key").fill((await personal(stack, person))["secret"])
    await tab.get_by_role("button", name="Sign in with the key").click()
    assert await tab.get_by_role("heading", name=heading).is_visible()
    return tab


async def test_a_person_signs_in_answers_and_signs_out_without_scripts_on_a_phone(
    stack: Stack, browser: Any
) -> None:
    wait = await asked(stack, "Publish?", body="**Look**", timeout="1h")
    await asked(stack, "Refund?", answerers=FINANCE)
    tab = await signed_in(stack, browser, "dan", java_script_enabled=False, viewport=PHONE)
    rows = tab.locator("#waits > li > a")
    assert await rows.all_inner_texts() == ["Publish?", "Refund?"]
    await _fits(tab, PHONE["width"])
    await rows.first.click()
    await _fits(tab, PHONE["width"])
    await tab.get_by_role("group", name="Decision").get_by_label("approve").check()
    await tab.get_by_role("button", name="Send answer").click()
    assert await tab.get_by_role("heading", name="The answer is recorded").is_visible()
    await tab.get_by_role("link", name="Inbox", exact=True).click()
    assert await rows.all_inner_texts() == ["Refund?"]
    await tab.get_by_role("link", name="Answered by you").click()
    assert await rows.all_inner_texts() == ["Publish?"]
    await tab.get_by_role("button", name="Sign out").click()
    await tab.goto(f"/inbox/{wait}")
    assert await tab.get_by_label("Your personal key").is_visible()


async def _fits(tab: Any, width: int) -> None:
    """Nothing is wider than the screen, and what is touched is big enough."""
    for element in await tab.locator("body *:visible").all():
        box = await element.bounding_box()
        if box and box["width"] > 1:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    for target in await tab.locator("button:not(.visually-hidden), select, label.option").all():
        box = await target.bounding_box()
        assert box is None or box["height"] >= 44


@long
async def test_the_list_is_live_and_the_keyboards_place_stays(stack: Stack, browser: Any) -> None:
    first = await asked(stack, "First", timeout="2h")
    tab = await signed_in(stack, browser, "dan")
    rows = tab.locator("#waits > li > a")
    await rows.first.focus()
    second = await asked(stack, "Second <b>", timeout="1h")
    await tab.locator(f"#{second}").wait_for()
    assert await rows.all_inner_texts() == ["Second <b>", "First"]
    assert await tab.get_by_role("status").inner_text() == "1 new"
    assert await tab.evaluate("document.activeElement.textContent") == "First"
    for wait in (first, second):
        answer = {"data": {"decision": "approve"}}
        assert (await stack.http.post(f"/v1/waits/{wait}/answer", json=answer)).status_code == 200
    await tab.get_by_text("Nothing waits for you.").wait_for()
    await stack.http.post("/v1/people/dan/disable", json={})
    await asked(stack, "Third")
    await tab.get_by_text("This list is no longer live.").wait_for()
    assert await rows.count() == 0


async def test_the_list_says_its_times_in_the_readers_zone_also_of_what_comes_in_later(
    stack: Stack, browser: Any
) -> None:
    await asked(stack, "First", timeout="2h")
    tab = await signed_in(stack, browser, "dan", timezone_id="Asia/Kolkata")
    second = await asked(stack, "Second", timeout="1h")
    await tab.locator(f"#{second}").wait_for()
    for row in await tab.locator("#waits > li").all():
        text = await row.inner_text()
        assert text.count("your time") == 1, text
        at = datetime.fromisoformat(await row.locator("time").last.get_attribute("datetime"))
        assert f"{at.astimezone(ZoneInfo('Asia/Kolkata')):%H:%M} your time" in text
    bare = await signed_in(
        stack, browser, "bo", timezone_id="Asia/Kolkata", java_script_enabled=False
    )
    text = await bare.locator("#waits").inner_text()
    assert "UTC" in text
    assert "your time" not in text


@long
async def test_a_wait_for_signed_answers_is_read_and_the_page_says_where_it_is_signed(
    stack: Stack, browser: Any
) -> None:
    wait = (await stack.started("signed_refund", 1))["session"]["wait"]["id"]
    tab = await signed_in(stack, browser, "dan")
    await tab.get_by_role("link", name="Refund?").click()
    await tab.get_by_text("A cracked lens.").wait_for()
    text = await tab.locator("main").inner_text()
    assert "helmr wait answer" in text
    assert "helmr next" in text
    assert await tab.get_by_role("button", name="Send answer").count() == 0
    headers = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    forged = await tab.request.post(f"/inbox/{wait}", form={"f/cents": "5"}, headers=headers)
    assert not forged.ok
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"


@long
async def test_an_answer_is_given_by_keys_alone(stack: Stack, browser: Any) -> None:
    await asked(stack, "Publish?")
    tab = await signed_in(stack, browser, "dan")

    async def to(text: str) -> None:
        for _ in range(30):
            await tab.keyboard.press("Tab")
            here = await tab.evaluate(
                "document.activeElement.innerText || document.activeElement.name"
            )
            if here == text:
                return
        raise AssertionError(f"no key leads to {text}")

    await to("Publish?")
    await tab.keyboard.press("Enter")
    await tab.get_by_role("heading", name="Publish?").wait_for()
    await to("f/decision")
    await tab.keyboard.press("Space")
    await to("f/note")
    await tab.keyboard.type("Fine")
    await to("Send answer")
    await tab.keyboard.press("Enter")
    await tab.get_by_role("heading", name="The answer is recorded").wait_for()
    await to("Sign out")
    await tab.keyboard.press("Enter")
    await tab.get_by_label("Your personal key").wait_for()


@long
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(
    stack: Stack, browser: Any, project_root: Path, scheme: str
) -> None:
    axe = Axe(project_root)
    look = axe.look
    wait = await asked(
        stack, "Refund?", body="# Look\n\n| a | b |\n|---|---|\n| 1 | 2 |", answerers=FINANCE,
        approvals=2, timeout="1h", priority="high",
    )  # fmt: skip
    await asked(stack, "Publish?")
    bare = await tab_of(browser, stack.url, color_scheme=scheme)
    await bare.goto("/")
    await look(bare, "home")
    await bare.goto(inbox_link(stack.url, stack.key, stack.service.now()))
    await look(bare, "link of the local key")
    await bare.get_by_role("button", name="Open the inbox").click()
    await look(bare, "inbox of the local key")
    await bare.get_by_role("button", name="Sign out").click()
    await bare.goto("/sign-in")
    await look(bare, "sign-in")
    await bare.get_by_role("button", name="Sign in with the key").click()
    await look(bare, "sign-in refused")
    dan = await signed_in(stack, browser, "dan", color_scheme=scheme, viewport=PHONE)
    await look(dan, "inbox")
    await dan.goto("/inbox?priority=urgent")
    await look(dan, "inbox with a problem")
    await dan.goto(f"/inbox/{wait}")
    await look(dan, "wait")
    await dan.get_by_role("button", name="Send answer").click()
    await look(dan, "wait with problems")
    await dan.get_by_label("approve").check()
    await dan.get_by_role("button", name="Send answer").click()
    await look(dan, "voted")
    bo = await signed_in(stack, browser, "bo", color_scheme=scheme)
    await bo.goto(f"/inbox/{wait}")
    await bo.get_by_label("approve").check()
    await bo.get_by_role("button", name="Send answer").click()
    await look(bo, "recorded")
    await bo.goto("/inbox?show=answered")
    await look(bo, "answered")
    await bo.goto("/inbox/none")
    await look(bo, "none")
    assert axe.violations == {}


@long
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_where_a_call_is_shown_a_wait_handed_on_or_a_page_refused(
    stack: Stack, browser: Any, project_root: Path, tmp_path_factory: Any, scheme: str
) -> None:
    axe = Axe(project_root)
    look = axe.look
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": PHONE}
    edit = {"file_path": "/srv/shop/pay.py", "old_string": "a\nb\n", "new_string": "a\nc\n"}
    async with asker(stack) as http:
        for number, (tool, given) in enumerate(
            {"Edit": edit, "Bash": {"command": "x" * 200}}.items()
        ):
            call = event(
                call_id=f"t{number}", tool_name=tool, tool_input=given, session_id=f"a{number}"
            )
            await ask(http, call, **NOW)
    wait = await asked(stack, "Publish?", timeout="1h")
    dan = await signed_in(stack, browser, "dan", **options)
    await dan.get_by_text("Filters").click()
    await look(dan, "filters")
    for heading in ("Edit pay.py", "Run " + "x" * 20):
        await dan.goto("/inbox")
        await dan.get_by_role("link", name=heading).click()
        for summary in await dan.locator("summary").all():
            await summary.click()
        await _fits(dan, PHONE["width"])
        await look(dan, heading)
    await dan.goto(f"/inbox/{wait}")
    for button in ("Claim it", "Release it"):
        await dan.get_by_role("button", name=button).click()
        await look(dan, button)
    await dan.get_by_text("Hand it to someone else").click()
    for name in ("nobody9", "bo"):  # it stays open where it was refused
        await dan.get_by_label("To whom").fill(name)
        await dan.get_by_role("button", name="Hand it over").click()
        await look(dan, f"handed to {name}")
    assert await dan.get_by_role("heading", name="Handed to bo").is_visible()
    bo = await signed_in(stack, browser, "bo", **options)
    await bo.goto(f"/inbox/{wait}")
    await bo.get_by_role("button", name="Claim it").click()
    await dan.goto(f"/inbox/{wait}")
    await look(dan, "claimed by another")
    await dan.get_by_label("Note").fill("Ten minutes.")
    await dan.context.clear_cookies()
    await dan.get_by_role("button", name="Send answer").click()
    assert await dan.get_by_role("heading", name="Nothing was recorded yet").is_visible()
    await look(dan, "kept form")
    await dan.goto("/v1/links/hlmr_lnk_none")
    await look(dan, "dead link")
    eve = await signed_in(stack, browser, "eve", "This is not for you", **options)
    await look(eve, "viewer")
    async with _without_people(tmp_path_factory.mktemp("bare")) as url:
        tab = await tab_of(browser, url, **options)
        await tab.goto("/inbox")
        assert await tab.get_by_text("This runtime knows no people.").is_visible()
        await look(tab, "no people")
    assert axe.violations == {}


@asynccontextmanager
async def _without_people(folder: Path) -> AsyncIterator[str]:
    stack = Stack(folder, registry=REGISTRY)
    await stack.start()
    try:
        yield stack.url
    finally:
        await stack.stop()


class Axe:
    """What axe-core has found so far, by the page's name; each page that it sees is expected to have nothing."""

    def __init__(self, project_root: Path) -> None:
        self._script = (installed(project_root, AXE) / "axe.min.js").read_text(encoding="utf-8")
        self.violations: dict[str, list[str]] = {}

    async def look(self, tab: Any, name: str) -> None:
        await tab.evaluate(self._script)
        report = await tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert report["passes"] or report["incomplete"], "it has looked at nothing"
        found = [
            f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in report["violations"]
        ]
        if found:
            self.violations[name] = found


@long
async def test_an_operators_hour_by_page(stack: Stack, browser: Any) -> None:
    """Thirty mixed waits, answered as they come: nothing is left, nothing is answered twice, no page is an error."""
    kinds: list[dict[str, Any]] = [
        {"timeout": "1h"},
        {"priority": "high", "timeout": "30m"},
        {"answerers": FINANCE},
        {"answerers": FINANCE, "approvals": 2, "timeout": "2h"},
        {"body": "# Long\n\n" + "text " * 400},
        {"initial": {"decision": "reject", "note": "draft"}},
    ]
    waits = [await asked(stack, f"Number {n}", **kinds[n % len(kinds)]) for n in range(20)]
    people = {one: await signed_in(stack, browser, one) for one in ("dan", "bo")}
    statuses: list[int] = []
    for tab in people.values():
        tab.on("response", lambda answer: statuses.append(answer.status))
    answered = 0
    waits += [await asked(stack, f"Number {n}", **kinds[n % len(kinds)]) for n in range(20, 30)]
    for _ in range(60):
        left = 0
        for tab in people.values():
            await tab.goto("/inbox")
            rows = tab.locator("#waits > li > a")
            left += await rows.count()
            if not await rows.count():
                continue
            await rows.first.click()
            decision = "reject" if answered % 7 == 6 else "approve"
            await tab.get_by_label(
                "approve" if "2 agree" in await tab.content() else decision
            ).check()
            await tab.get_by_role("button", name="Send answer").click()
            answered += 1
        if not left:
            break
    found = [(await stack.http.get(f"/v1/waits/{one}")).json() for one in waits]
    assert {one["status"] for one in found} == {"fulfilled"}
    assert {one["mode"] for one in found} == {"person"}
    assert {one["resolved_by"]["id"] for one in found} == {"dan", "bo"}
    votes = sum(one["approvals"] for one in found)
    assert answered == votes
    assert {status for status in statuses if status >= 400} == set()
    listed = await people["dan"].goto("/inbox?show=answered")
    assert len(re.findall(r'<li id="wait_', await listed.text())) > 10
