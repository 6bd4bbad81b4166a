"""The site's first page: figures as on the pages that record them, and parts of other pages as they are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from helmr.feature import Feature

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
FIGURE = re.compile(r"\*\*(.+?)\*\*")
LINES = re.findall(r"^- .+$", TEXT.split("## In figures")[1].split("\n## ")[0], flags=re.M)


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What builds the site."""
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", LINES)
def test_a_figure_is_the_one_on_its_page(line: str) -> None:
    """Of docs/reliability.md another test compares each with the record."""
    (page,) = re.findall(r"\(([\w-]+\.md)\b", line)
    recorded = (ROOT / "docs" / page).read_text(encoding="utf-8")
    figures = FIGURE.findall(line)
    assert figures
    assert re.match(r"- With \d+\.\d+\.\d+", line), (
        "a figure names the version that it was measured with"
    )
    assert [one for one in figures if one not in recorded] == []


def test_it_shows_each_agent_in_a_tab_and_both_forms(hooks: ModuleType) -> None:
    shown = hooks.with_parts(TEXT, ROOT)
    sections = re.findall(
        r"^## (.+)$", (ROOT / "docs" / "your-agent.md").read_text("utf-8"), flags=re.M
    )
    assert re.findall(r'^=== "(.+)"$', shown, flags=re.M) == sections
    assert {"Pydantic AI", "Claude Code", "Plain Python"} < {*sections}
    assert '    @task(id="support")' in shown
    for line in ("| | `helmr[local]`: in one process", "- if you need several regions"):
        assert line in shown
        assert line in (ROOT / "README.md").read_text("utf-8")
    assert "<!--" not in shown
    assert "](docs/" not in shown


def test_the_page_of_the_tour_begins_with_the_tour(hooks: ModuleType) -> None:
    """A tour that the README has no more fails the build."""
    readme = (ROOT / "README.md").read_text("utf-8")
    tour, rest = hooks._tour_and_rest(readme)
    title, _, begins = tour.partition("\n\n")
    assert title == "# Ten minutes"
    assert f"## Ten minutes\n\n{begins}" in readme
    assert "helmr down" in begins
    assert "\n## " not in begins
    assert "# tasks.py" not in rest
    assert rest.startswith("# Overview\n")
    headings = re.findall(r"^## .+$", readme, flags=re.M)
    assert re.findall(r"^## .+$", rest, flags=re.M) == [
        one for one in headings if one != "## Ten minutes"
    ]
    with pytest.raises(KeyError):
        hooks._tour_and_rest(rest)


@pytest.mark.parametrize(
    "part", ["table from README.md, Nowhere", "list from your-agent.md, Codex"]
)
def test_what_is_not_there_fails_the_build(hooks: ModuleType, part: str) -> None:
    with pytest.raises(LookupError):
        hooks.with_parts(f"<!-- {part} -->", ROOT)


def test_it_begins_in_three_sentences() -> None:
    """What it is, what a wait is, what a crash does."""
    said = TEXT.split("\n\n")[1]
    assert len(re.findall(r"\.(?: |$)", said)) == 3


ASKED = re.compile(r"^\*\*Asked first\*\*: (.+)$", flags=re.M)
READ_WORDS = 100
"""Half a minute."""


def asked_first(page: Path) -> list[tuple[str, str]]:
    """Questions on its first screen, and where they lead to from within `docs`."""
    screen = page.read_text("utf-8").split("\n## ")[0]
    [line] = ASKED.findall(screen)
    return re.findall(r"\[([^\]]+)\]\((?:docs/)?([^)]+)\)", line)


def test_both_first_screens_lead_to_what_is_asked_first() -> None:
    asked = asked_first(ROOT / "README.md")
    assert asked == asked_first(ROOT / "docs" / "index.md")
    for word in ("Who approved", "machine dies", "upgrade", "LangGraph"):
        assert any(word in question for question, _ in asked)


@pytest.mark.parametrize("target", [target for _, target in asked_first(ROOT / "README.md")])
def test_what_is_asked_first_is_answered_at_once(target: str) -> None:
    """By the first paragraph of the page or section that is linked to."""
    page, _, anchor = target.partition("#")
    text = (ROOT / "docs" / page).read_text("utf-8")
    heading = anchor.replace("-", "[ -]") if anchor else ".+"
    [(_, first)] = re.findall(rf"^(#+ {heading})\n\n(.+)$", text, flags=re.M | re.I)[:1]
    assert 10 < len(first.split()) <= READ_WORDS


def test_both_tables_of_the_two_forms_have_the_same_figures() -> None:
    """The README's has one process on the left, that of docs/operations.md Ray."""
    readme, operations = (
        (ROOT / page).read_text("utf-8") for page in ("README.md", "docs/operations.md")
    )
    for row in ("ready after, on two quiet cores", "processor time of a start and 15 s"):
        [(alone, ray)] = re.findall(rf"^\| {row} \| (.+?) \| (.+?) \|$", readme, flags=re.M)
        assert f"| {row} | {ray} | {alone} |" in operations


def test_the_menu_has_the_page_of_each_feature(hooks: ModuleType) -> None:
    nav = [{"Start": ["index.md"]}, {"How to": [{"The clock": "schedules.md"}]}]
    new = Feature(name="labels", about="Name sessions.", page="labels.md")
    known = Feature(name="schedules", about="Start sessions by the clock.", page="schedules.md")
    assert hooks.with_features(nav, [known, new]) == [
        {"Start": ["index.md"]},
        {"How to": [{"The clock": "schedules.md"}, {"Name sessions": "labels.md"}]},
    ]
