"""The lines of "Your agent in three lines" are those of the pages that it links to, which are executed whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", flags=re.M | re.S)
BLOCK = re.compile(r"^```(?:py)?\n(.*?)^```$", flags=re.M | re.S)
LINK = re.compile(r"^\[[^\]]+\]\((?:\.\./)?([\w-]+)\.md[^)]*\)", flags=re.M)
TEXT = (ROOT / "docs" / "your-agent.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(SECTION.findall(TEXT))


@pytest.mark.parametrize("name", SECTIONS)
def test_three_lines_that_stand_in_the_page_it_links_to(name: str) -> None:
    (page,) = LINK.findall(SECTIONS[name])
    (block,) = BLOCK.findall(SECTIONS[name])
    path = ROOT / "README.md" if page == "README" else ROOT / "docs" / f"{page}.md"
    whole = path.read_text(encoding="utf-8")
    lines = block.splitlines()
    assert len(lines) == 3
    if name == "Any MCP client":  # a settings file there: its words, in order
        assert all(word in whole for word in lines.pop().split())
    assert [line for line in lines if line not in whole] == []


def test_each_framework_and_client_has_a_section() -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("gate-*.md")}
    linked = {page for text in SECTIONS.values() for page in LINK.findall(text)}
    assert pages | {"pydantic-ai", "openai-agents", "langgraph"} <= linked
