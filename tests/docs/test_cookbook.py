"""The cookbook's recipes, as printed: parked or killed at each wait they end the same, and touch the world once."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic_ai import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr.testing import Harness, HarnessSession
from tests.docs.stand_ins import service
from tests.docs.test_python_blocks import ROOT, load

pytestmark = (
    pytest.mark.allows_blocking
)  # httpx and frameworks look at files when they are first used

PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "cookbook").glob("*.md"))}
FILE = re.compile(r"^```python\n# (\w+)\.py\n(.*?)^```$", flags=re.M | re.S)

APIS = [
    f"{name}_API"
    for name in ("BANK", "BOOKS", "DESK", "MAIL", "MODEL", "OPS", "SHOP", "SIGN", "SITE")
]
"""Variables that say where the services of the recipes are."""

Interrupt = Callable[[HarnessSession], Awaitable[None]]


async def _stays(session: HarnessSession) -> None:
    """Nothing befalls it."""


INTERRUPTS: dict[str, Interrupt] = {
    "stays": _stays,
    "parked": HarnessSession.park,
    "killed": HarnessSession.kill,
}


@pytest.fixture(params=sorted(INTERRUPTS))
def interrupt(request: pytest.FixtureRequest) -> Interrupt:
    """What befalls a session at each of its waits."""
    return INTERRUPTS[request.param]


class World:
    """The model, the shop, the site and the mail service: counts what is asked, does what has a new key once."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.done: list[Any] = []
        self.models: dict[str, Callable[[Any], Any]] = {}
        """What answers a request, by its path."""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked[path] += 1
        if path in self.models:
            return 200, self.models[path](body)
        if method == "POST":
            self.done.append(body)
        return 200, {"url": f"https://site.test{path}", "sent": body}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def recipe(
    request: pytest.FixtureRequest,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModuleType]:
    """The file of the page that the test names by `indirect`, with its services in this process."""
    text = PAGES[request.param].read_text(encoding="utf-8")
    [(name, code)] = FILE.findall(text)
    (tmp_path / "code").mkdir()
    monkeypatch.setenv("CODE", str(tmp_path / "code"))
    with service(world.answer) as url:
        for one in APIS:
            monkeypatch.setenv(one, url)
        yield load(name, code, tmp_path)
    del sys.modules[name]


def page(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recipe", [name], indirect=True)


both = pytest.mark.parametrize(
    "replay_always",
    [
        False,
        pytest.param(True, marks=pytest.mark.long),
    ],  # in each run: tests/integrations/test_pydantic_ai.py …
    ids=["once", "replayed"],
)


def test_each_page_of_the_cookbook_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert len(PAGES) == 10
    assert [one for one in PAGES if f'@page("{one}")' not in source] == []


# --- a support chat


def refunds(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Looks the order up, refunds it, says what came of it; greets who asks for nothing."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        if last.tool_name == "refund":
            return ModelResponse(parts=[TextPart(f"Refund: {last.content}")])
        call = {"order": "A-1", "cents": 4200}
        return ModelResponse(parts=[ToolCallPart("refund", call)])
    assert isinstance(last, UserPromptPart)
    if "twice" in str(last.content):
        return ModelResponse(parts=[ToolCallPart("look_up", {"order": "A-1"})])
    said = sum(isinstance(part, UserPromptPart) for one in messages for part in one.parts)
    return ModelResponse(parts=[TextPart(f"You have written {said} times")])


@page("support-chat")
@both
async def test_a_refund_is_paid_once_and_the_chat_remembers(
    recipe: ModuleType, world: World, interrupt: Interrupt, replay_always: bool
) -> None:
    async with Harness(recipe.support_chat, replay_always=replay_always) as harness:
        harness.model(recipe.agent, FunctionModel(refunds))
        session = await harness.start("support-chat", "ada")
        await interrupt(session)
        await session.send("messages", "Order A-1 came twice")
        assert (await session.wait())["subject"] == "Call refund?"
        await interrupt(session)
        smaller = {"order": "A-1", "cents": 1000}
        await session.answer({"decision": "approve", "arguments": smaller})
        await interrupt(session)
        await session.send("messages", "It came twice again")
        await interrupt(session)
        await session.answer({"decision": "decline", "reason": "once is enough"})
        await interrupt(session)
        await session.send("messages", "Thank you")
        await session.close(end_input=True)
        assert await session.result() == 3
        first, second, third = await session.outputs("replies")
    assert json.loads(first.removeprefix("Refund: "))["sent"] == smaller
    assert "once is enough" in second
    assert third == "You have written 3 times"
    assert world.done == [smaller]
    assert world.asked == {"/orders/A-1": 2, "/refunds": 1}


# --- research


@page("research")
@both
async def test_research_asks_its_children_and_is_published_once(
    recipe: ModuleType, world: World, interrupt: Interrupt, replay_always: bool
) -> None:
    def complete(body: Any) -> dict[str, str]:
        return {"text": said_to(body["prompt"])}

    def said_to(prompt: str) -> str:
        if prompt.startswith("Three questions"):
            return "where\nwhen\nwhy"
        if prompt.startswith("A report"):
            return prompt
        return "PAYWALL at the archive" if "or say PAYWALL" in prompt and "why" in prompt else "so"

    world.models["/complete"] = complete
    tasks = (recipe.research, recipe.look_into)
    async with Harness(*tasks, replay_always=replay_always) as harness:
        session = await harness.start("research", "otters")
        await interrupt(session)
        [asking] = [one for one in await session.children() if (await one.state()).wait]
        assert (await asking.wait())["subject"] == "Buy a source for 'why'?"
        await interrupt(asking)
        await asking.answer(True)
        await interrupt(session)
        await session.answer({"decision": "ask more", "question": "how"})
        await interrupt(session)
        assert len(await session.children()) == 4
        await session.answer({"decision": "publish"})
        assert await session.result() == "https://site.test/reports"
    [published] = world.done
    assert published["topic"] == "otters"
    assert {line.partition(":")[0] for line in published["report"].splitlines()[1:]} == {
        "where",
        "when",
        "why",
        "how",
    }
    # Three questions, four answers and one more with the paid source, two reports.
    assert world.asked == {"/complete": 1 + 4 + 1 + 2, "/reports": 1}


# --- a coding agent


@page("coding-agent")
@both
async def test_a_coding_agent_asks_and_does_what_was_approved(
    recipe: ModuleType, world: World, interrupt: Interrupt, replay_always: bool
) -> None:
    (recipe.CODE / "tests.sh").write_text("echo ran >> ran.log; grep -q 43 answer.py\n")
    calls = [
        ("read", {"path": "tests.sh"}),
        ("read", {"path": "../secret"}),
        ("write", {"path": "answer.py", "text": "42"}),
        ("execute", {"command": "rm -r ."}),
        ("execute", {"command": "sh tests.sh"}),
        ("done", {"summary": "it passes"}),
    ]
    heard: list[str] = []

    def following(body: Any) -> Any:
        heard[:] = body["so_far"][1::2]
        tool, arguments = calls[len(heard)]
        return {"tool": tool, "arguments": arguments}

    world.models["/next"] = following
    async with Harness(recipe.coding_agent, replay_always=replay_always) as harness:
        session = await harness.start("coding-agent", "Make the tests pass")
        await interrupt(session)
        changed = {"path": "answer.py", "text": "43"}
        await session.answer({"decision": "approve", "arguments": changed})
        await interrupt(session)
        await session.answer({"decision": "decline", "reason": "never"})
        await interrupt(session)
        await session.answer({"decision": "approve"})
        assert await session.result() == "it passes"
    assert heard[1].startswith("failed: ")
    assert "outside of the working folder" in heard[1]
    assert heard[2:] == ["wrote 2 characters", "declined: never", "exit 0\n"]
    assert (recipe.CODE / "ran.log").read_text() == "ran\n"
    assert world.asked == {"/next": len(calls)}


# --- a newsletter


@page("newsletter")
@both
async def test_a_wish_that_comes_in_the_middle_changes_the_course(
    recipe: ModuleType, world: World, interrupt: Interrupt, replay_always: bool
) -> None:
    begun: list[str] = []

    def plan(body: Any) -> dict[str, list[str]]:
        titles = ["otters", "beavers", *(body["wishes"] or ["seals"])]
        return {"titles": titles[len(body["written"]) :]}

    world.models["/plan"] = plan
    world.models["/write"] = lambda body: {
        "text": f"On {body['title']}, {len(body['wishes'])} wishes"
    }
    write = recipe.write.function

    async def beavers_take_long(title: str, said: list[str]) -> str:
        begun.append(title)
        if title == "beavers" and not said:
            await asyncio.Event().wait()  # a model that never comes to an end
        return str(await write(title, said))

    async with Harness(recipe.newsletter, replay_always=replay_always) as harness:
        harness.replace(recipe.write, beavers_take_long)
        issue = {"topic": "Rivers", "readers": ["ada", "eve"]}
        session = await harness.start("newsletter", issue, settle=False)
        async with asyncio.timeout(20):
            while "beavers" not in begun:
                await asyncio.sleep(0.005)
        if interrupt is HarnessSession.kill:  # a session whose step runs is not parked
            await interrupt(session)
        await session.send("wishes", "herons")
        assert (await session.wait())["subject"] == "Send Rivers?"
        await interrupt(session)
        await session.answer(True)
        await interrupt(session)
        await harness.advance("10m")
        assert await session.result() == "sent to 2"
        assert await session.outputs("sections") == [
            "On otters, 0 wishes",
            "On beavers, 1 wishes",
            "On herons, 1 wishes",
        ]
    assert [*dict.fromkeys(begun)] == ["otters", "beavers", "herons"], "one after the other"
    assert [one["to"] for one in world.done] == ["ada", "eve"]
    assert world.asked == {"/plan": 2, "/write": 3, "/mails": 2}


# --- shorter ones: killed at each wait, and replayed at each await


async def assigned(session: HarnessSession) -> list[str]:
    """To whom its escalations have assigned its waits."""
    return [e.body["assignee"] for e in await session.transcript() if e.kind == "wait.assigned"]


@page("expenses")
async def test_an_expense_goes_to_finance_and_is_declined_or_paid_once(
    recipe: ModuleType, world: World
) -> None:
    def claim(cents: int) -> dict[str, Any]:
        return {"employee": "ada", "manager": "eve", "cents": cents, "what": "a chair"}

    async with Harness(recipe.expense, replay_always=True) as harness:
        small = await harness.start("expense", claim(4_000))
        assert await small.result() == "https://site.test/payments"
        session = await harness.start("expense", claim(90_000))
        await session.kill()
        await harness.advance("1d")
        assert await assigned(session) == ["finance"]
        await session.kill()
        await session.answer({"decision": "pay"})
        assert await session.result() == "https://site.test/payments"
        silent = await harness.start("expense", claim(80_000))
        await harness.advance("3d")
        assert await silent.result() == "declined: no one answered in three days"
    assert [one["cents"] for one in world.done] == [4_000, 90_000]


@page("release")
@pytest.mark.parametrize(
    ("answer", "result", "percents"),
    [
        (True, "released", [10, 100]),
        (False, "rolled back: no one said go on", [10, 0]),
        (None, "rolled back: no one said go on", [10, 0]),
    ],
)
async def test_a_release_goes_on_or_is_rolled_back(
    recipe: ModuleType, world: World, answer: bool | None, result: str, percents: list[int]
) -> None:
    async def rate(version: str) -> float:
        return 0.01

    async with Harness(recipe.release_version, replay_always=True) as harness:
        harness.replace(recipe.error_rate, rate)
        session = await harness.start("release-version", "1.4.0")
        await session.kill()
        await harness.advance("30m")
        assert "1.00%" in (await session.wait())["body"]
        await session.kill()
        if answer is None:
            await harness.advance("2h")
        else:
            await session.answer(answer)
        assert await session.result() == result
    assert [one["percent"] for one in world.done] == percents


@page("invoices")
async def test_an_unsure_invoice_is_corrected_and_each_is_booked_once(
    recipe: ModuleType, world: World
) -> None:
    def reading(body: Any) -> Any:
        found = {"supplier": "Acme", "number": body["url"], "cents": 100}
        return {"invoice": found, "confidence": 0.5 if body["url"] == "b" else 0.99}

    world.models["/read"] = reading
    tasks = (recipe.invoices, recipe.invoice)
    async with Harness(*tasks, replay_always=True) as harness:
        session = await harness.start("invoices", ["a", "b"])
        [asking] = [one for one in await session.children() if (await one.state()).wait]
        await asking.kill()
        await session.kill()
        await asking.answer({"supplier": "Acme", "number": "b", "cents": 700})
        assert await session.result() == {"booked": 2, "cents": 800}
    assert sorted(one["cents"] for one in world.done) == [100, 700]
    assert world.asked["/read"] == 2


@page("incident")
async def test_a_declined_command_is_proposed_again_with_the_reason(
    recipe: ModuleType, world: World
) -> None:
    world.models["/propose"] = lambda body: {"command": f"fix {len(body['declined'])}"}
    world.models["/commands"] = lambda body: {"output": f"did {body['command']}"}
    async with Harness(recipe.incident, replay_always=True) as harness:
        session = await harness.start("incident", "shop")
        await session.send("alerts", "disk full")
        assert (await session.wait())["subject"] == "Run 'fix 0'?"
        await session.kill()
        await session.answer({"decision": "decline", "reason": "too much"})
        await harness.advance("15m")
        assert await assigned(session) == ["second"]
        await session.kill()
        await session.answer({"decision": "run"})
        assert await session.outputs("log") == ["shop: did fix 1"]
        await harness.advance("1h")
        await session.send("alerts", "disk full again")
        assert (await session.wait())["subject"] == "Run 'fix 0'?"
    assert world.asked["/commands"] == 1


@page("digest")
@pytest.mark.parametrize(
    ("decision", "result", "sent"),
    [("send", "sent", ["as edited"]), ("reject", "rejected", []), (None, "sent", ["2 tickets"])],
)
async def test_a_digest_goes_out_as_it_is_unless_an_editor_says_otherwise(
    recipe: ModuleType, world: World, decision: str | None, result: str, sent: list[str]
) -> None:
    world.models["/tickets/yesterday"] = lambda body: {"tickets": ["a", "b"]}
    world.models["/digest"] = lambda body: {"text": f"{len(body['tickets'])} tickets"}
    async with Harness(recipe.digest, replay_always=True) as harness:
        session = await harness.start("digest", None)
        await session.kill()
        if decision is None:
            await harness.advance("2h")
        else:
            await session.answer({"decision": decision, "text": "as edited"})
        assert await session.result() == result
    assert [one["text"] for one in world.done] == sent


@page("signature")
@pytest.mark.parametrize("signed", [True, False])
async def test_a_contract_is_signed_after_a_reminder_or_not_in_time(
    recipe: ModuleType, world: World, signed: bool
) -> None:
    async with Harness(recipe.signature, replay_always=True) as harness:
        session = await harness.start("signature", {"customer": "Acme", "text": "We agree."})
        token = (await session.wait())["token_id"]
        await session.kill()
        await harness.advance("3d")
        await session.kill()
        if signed:
            await harness.complete_token(token, {"status": "signed", "document": "a.pdf"})
        else:
            await harness.advance("7d")
        assert await session.result() == ("a.pdf" if signed else "not signed in time")
    assert world.asked == {"/envelopes": 1, "/reminders": 1}
    assert world.done[0]["callback"].startswith("http")
