"""Where a page has a line that installs Helmr, it leads to where Helmr is; and one truth on what it runs on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FROM_AN_INDEX = re.compile(r"pip install [^\n`]*\bhelmr\b|uvx [^\n`]*'helmr")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_installs_from_an_index_says_from_where(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name != "install.md" and FROM_AN_INDEX.search(text):
        assert re.search(r"\]\((?:docs/)?install\.md\)", text), "link to install.md"


def test_the_first_command_of_the_first_pages_needs_no_index() -> None:
    for name in ("README.md", "docs/index.md"):
        blocks = re.findall(r"^```(\w*)\n(.+?)^```", (ROOT / name).read_text("utf-8"), re.M | re.S)
        first = next(text for kind, text in blocks if not kind)
        assert first.splitlines()[0] == "make demo"


def test_pythons_are_the_same_everywhere() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    tried = [one.rpartition(" ")[2] for one in said if "Python :: 3." in one]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    for found in re.findall(r"python: \[(.+)\]", workflow):
        assert re.findall(r"[\d.]+", found) == tried
    for page in ("versions.md", "install.md"):
        text = (ROOT / "docs" / page).read_text()
        assert f"{tried[0]} to {tried[-1]}" in text
