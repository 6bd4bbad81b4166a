"""Links between pages lead somewhere, down to the heading; tables are tables."""

from __future__ import annotations

import re
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", flags=re.M | re.S)


def _pages(root: Path) -> list[Path]:
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def _anchors(page: Path) -> set[str]:
    """Headings as the forges make anchors of them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_link_leads_somewhere(project_root: Path) -> None:
    broken = []
    for page in _pages(project_root):
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if target.startswith(("http://", "https://")):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or (anchor and anchor not in _anchors(there)):
                broken.append(f"{page.relative_to(project_root)}: {target}")
    assert broken == []


def test_a_link_to_a_heading_leads_there_on_the_site_too(project_root: Path) -> None:
    """Which writes one hyphen where the forges write one for each sign that they leave out."""
    linked = {
        f"{page.name}: {target}"
        for page in _pages(project_root)
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        if "://" not in target and re.search(r"--|-$", target.partition("#")[2])
    }
    assert linked == set()


def test_the_readme_leads_to_pages_that_the_site_has(project_root: Path) -> None:
    hooks = (project_root / "docs" / "site_hooks.py").read_text(encoding="utf-8")
    beside = re.findall(r"\]\((\w+\.md)", (project_root / "README.md").read_text(encoding="utf-8"))
    assert beside
    assert [name for name in beside if f'"{name}"' not in hooks] == []


def test_every_table_begins_with_its_heading(project_root: Path) -> None:
    """Rows below a paragraph are drawn as text with bars in it."""
    broken = []
    for page in _pages(project_root):
        lines = FENCE.sub("", page.read_text(encoding="utf-8")).split("\n")
        for above, line, below in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
            is_first = line.startswith("|") and not above.startswith("|")
            if is_first and (above.strip() or not below.startswith("|--")):
                broken.append(f"{page.relative_to(project_root)}: {line[:60]}")
    assert broken == []


def test_every_decision_is_on_the_list(project_root: Path) -> None:
    folder = project_root / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in folder.glob("[0-9]*.md")]
    assert [name for name in pages if f"({name})" not in index] == []
