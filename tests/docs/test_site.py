"""The docs site builds strictly, and every public name has its place in the API pages."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import helmr.client
from helmr.client import sync
from helmr.client.blocking import BlockingPart

BLOCKING = [
    part
    for part in vars(sync).values()
    if isinstance(part, type) and issubclass(part, BlockingPart) and part is not BlockingPart
]
PUBLIC = ("helmr", "helmr.client", "helmr.testing", "helmr.experiments", "helmr.errors")

OF_A_BUILD = pytest.mark.long
"""A build takes 9 s of CPU. In each run: links (test_links.py), names and their pages (test_sdk_page.py)."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strict build."""
    root = Path(__file__).resolve().parents[2]
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    return folder


def names_of(module: str) -> list[str]:
    """The names that a module offers: those that it exports, or the classes that it defines, by their name of today."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return list(loaded.__all__)
    found = vars(loaded).items()
    return [
        name
        for name, value in found
        if isinstance(value, type) and (value.__module__, value.__name__) == (module, name)
    ]


@pytest.mark.timeout(150)
@OF_A_BUILD
def test_the_search_puts_how_to_pages_before_what_builders_read(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    boosts: dict[bool, set[float]] = {True: set(), False: set()}
    for one in index["docs"]:
        is_behind = one["location"].startswith(("decisions/0", "api/", "notebooks/", "invariants"))
        boosts[is_behind].add(one.get("boost", 1))
    assert max(boosts[True]) < 0.5
    assert min(boosts[False] - boosts[True]) >= 1


@pytest.mark.timeout(150)
@OF_A_BUILD
@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_its_place(site: Path, module: str) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {
        line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()
    }
    names = names_of(module)
    assert names
    missing = [name for name in names if f"{module}.{name}" not in documented]
    assert missing == []


@pytest.mark.timeout(150)
@OF_A_BUILD
def test_every_method_of_the_blocking_client_has_its_text(site: Path) -> None:
    page = (site / "api" / "client.html").read_text(encoding="utf-8")
    methods = [
        f"{_home(part)}.{part.__name__}.{name}"
        for part in BLOCKING
        for name, method in vars(part).items()
        if callable(method) and not name.startswith("_")
    ]
    assert len(methods) > 60
    assert [name for name in methods if f'id="{name}"' not in page] == []


def _home(part: type) -> str:
    if part is sync.Client:
        return "helmr"
    return "helmr.client" if part.__name__ in helmr.client.__all__ else part.__module__


@pytest.mark.timeout(150)
@OF_A_BUILD
@pytest.mark.parametrize(
    ("name", "shown"),
    [("index", "tabbed-set"), ("index", "memory, idle"), ("overview", "memory, idle")],
)
def test_the_first_pages_lead_into_the_site(site: Path, name: str, shown: str) -> None:
    page = (site / f"{name}.html").read_text(encoding="utf-8")
    assert shown in page
    assert "<!-- t" not in page
    links = re.findall(r'href="((?!http|#)[^"#]+\.html)', page)
    assert "tutorial.html" in links
    assert [link for link in links if not (site / link).is_file()] == []


@pytest.mark.timeout(150)
@OF_A_BUILD
def test_each_page_has_a_markdown_form_that_llms_txt_lists(site: Path, project_root: Path) -> None:
    listed = re.findall(
        r"^- \[.+?\]\((.+?)\): \S", (site / "llms.txt").read_text("utf-8"), flags=re.M
    )
    assert listed[0] == "index.md"
    assert set(listed) >= {one.name for one in (project_root / "docs").glob("*.md")}
    for path in listed:
        assert (site / path).read_text(encoding="utf-8").strip()
        assert (site / path).with_suffix(".html").is_file() or path.endswith("README.md")
    assert "docs/" not in (site / "overview.md").read_text("utf-8").split("## Work on it")[0]


def test_the_comparison_shows_the_code_that_was_run(project_root: Path) -> None:
    text = (project_root / "docs" / "comparison.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"<!-- code: (\S+) -->\n```python\n(.*?)```\n", text, flags=re.S))
    files = {
        f"comparison/{path.name}": path.read_text(encoding="utf-8")
        for path in (project_root / "docs" / "comparison").glob("*.py")
    }
    assert shown == files
