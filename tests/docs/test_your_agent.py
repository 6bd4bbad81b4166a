"""The programs of "Your agent" are whole: each is a module that imports, and a person's answer takes it to its end.

What is not Python are commands, which stand in the page that their section links to.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from helmr.testing import Harness
from tests.docs.test_python_blocks import load

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", flags=re.M | re.S)
BLOCK = re.compile(r"^```(py|)\n(.*?)^```$", flags=re.M | re.S)
LINK = re.compile(r"^\[[^\]]+\]\((?:\.\./)?([\w-]+)\.md[^)]*\)", flags=re.M)
TEXT = (ROOT / "docs" / "your-agent.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(SECTION.findall(TEXT))
FOUND = {name: BLOCK.findall(text) for name, text in SECTIONS.items()}
PROGRAMS = {name: text for name, [(kind, text)] in FOUND.items() if kind == "py"}
COMMANDS = {name: text for name, [(kind, text)] in FOUND.items() if not kind}
LINES = 13
"""Of code, at most: what is longer is not read beside its neighbours."""
APPROVED = {"decision": "approve"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_short(name: str) -> None:
    assert len([line for line in PROGRAMS[name].splitlines() if line.strip()]) <= LINES


@pytest.mark.parametrize(
    ("name", "task", "asks", "answer", "ends"),
    [
        ("Pydantic AI", "support", "Call refund?", APPROVED, '{"refund":"refunded 0 to a"}'),
        ("OpenAI Agents SDK", "support", "Call refund?", APPROVED, "refunded 4200 to ada"),
        (
            "LangGraph and LangChain",
            "letter",
            "Send hello?",
            "yes",
            {"text": "hello", "said": "yes", "sent": True},
        ),
        ("Plain Python", "letter", "Send 'hello'?", "send", "sent 'hello'"),
        ("Plain Python", "letter", "Send 'hello'?", "drop", "dropped"),
    ],
)
async def test_a_program_runs_as_it_stands(
    tmp_path: Path, name: str, task: str, asks: str, answer: object, ends: object
) -> None:
    program = load("your_agent", PROGRAMS[name], tmp_path)
    async with Harness(getattr(program, task), replay_always=True) as harness:
        if name == "OpenAI Agents SDK":  # its model is a service
            harness.model(program.agent, script(tmp_path))
        session = await harness.start(task, "hello")
        assert (await session.wait())["subject"] == asks
        await session.kill()
        await session.answer(answer)
        assert await session.result() == ends


def script(folder: Path) -> object:
    """A model that refunds, from the SDK's own page."""
    page = (ROOT / "docs" / "openai-agents.md").read_text(encoding="utf-8")
    [block, *_] = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    stand_in: ModuleType = load("your_agent_script", block, folder)
    return stand_in.Script()


def test_every_program_was_run() -> None:
    [mark] = test_a_program_runs_as_it_stands.pytestmark  # type: ignore[attr-defined]
    assert {one[0] for one in mark.args[1]} == {*PROGRAMS}


def test_the_readme_begins_with_the_plain_one() -> None:
    """Before any heading: a reader sees a whole program on the first or second screen, and no table."""
    begins = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert f"```py\n{PROGRAMS['Plain Python']}```" in begins
    assert "\n|" not in begins


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_stand_in_the_page_that_is_linked_to(name: str) -> None:
    (page,) = LINK.findall(SECTIONS[name])
    whole = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    lines = COMMANDS[name].splitlines()
    if name == "Any MCP client":  # a settings file there: its words, in order
        assert all(word in whole for word in lines.pop().split())
    assert [line for line in lines if line not in whole] == []


def test_each_framework_and_client_has_a_section() -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("gate-*.md")}
    linked = {page for text in SECTIONS.values() for page in LINK.findall(text)}
    assert pages | {"pydantic-ai", "openai-agents", "langgraph"} <= linked
