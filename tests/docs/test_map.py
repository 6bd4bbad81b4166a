"""ARCHITECTURE.md and CONTRIBUTING.md lead to files and folders that there are, and stay short."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from helmr.feature import Feature
from helmr.features import FEATURES, OPERATIONS
from helmr.features.names import NAMES
from tests.docs.feature_rows import PARTS, all_kinds, kinds_of, operations_of, tag_of
from tests.docs.tables import shown

NAMED = re.compile(r"`((?:[a-z_0-9]+/)+(?:[a-z_0-9]+\.py)?|(?:[a-z_0-9]+/)+[a-z_0-9]+)(?::[^`]*)?`")
FOLDER = re.compile(r"^\| `([a-z_]+)` \|", flags=re.M)
ROOTS = ("", "runtime/helmr_runtime", "console", "console/helmr_console")
HOUSES = ("helmr", "runtime/helmr_runtime", "console/helmr_console")
LINES_MAX = 280
WORDS_MAX = 46
SCREEN_LINES = 50


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_everything_that_the_map_names_exists(project_root: Path, page: str) -> None:
    named = set(NAMED.findall((project_root / page).read_text(encoding="utf-8")))
    assert len(named) >= 8
    assert [
        one for one in named if not any((project_root / root / one).exists() for root in ROOTS)
    ] == []


def test_every_folder_of_the_runtime_is_on_the_map(project_root: Path) -> None:
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = {
        one.parent.name for one in (project_root / "runtime/helmr_runtime").glob("*/__init__.py")
    }
    section = text[text.index("## Where things are") : text.index("## Replay")]
    named = set(FOLDER.findall(section))
    assert folders <= named
    assert all((project_root / "runtime/helmr_runtime" / one).exists() for one in named) or (
        named - folders <= {"catalog"}
    )


def test_every_package_folder_has_its_place_on_the_map(project_root: Path) -> None:
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text[text.index("## Where things are") : text.index("## Replay")]
    named = {one.rstrip("/") for one in re.findall(r"`([^`]+)`", section)}
    lacking = [
        f"{house}/{package}"
        for house in HOUSES
        for package in packages(project_root / house)
        if package.removeprefix("features/") not in NAMES  # the table of features has them
        if not {f"{house}/{package}", package if "runtime" in house else ""} & named
    ]
    assert lacking == []


def packages(house: Path) -> list[str]:
    """Folders of a package of ours, from it."""
    return sorted(
        {one.parent.relative_to(house).as_posix() for one in house.rglob("__init__.py")} - {"."}
    )


def test_every_operation_and_entry_kind_stands_in_one_row_of_the_map() -> None:
    kinds = all_kinds()
    operations = Counter(row.name for part in PARTS for row in operations_of(part, OPERATIONS))
    assert operations == Counter(row.name for row in OPERATIONS)
    assert Counter(kind for part in PARTS for kind in kinds_of(part, kinds)) == Counter(kinds)


def test_what_has_no_row_in_the_map_is_found() -> None:
    new = replace(OPERATIONS[0], tag="marbles", name="list_marbles")
    assert not [part.name for part in PARTS if operations_of(part, [new])]
    assert not [part.name for part in PARTS if kinds_of(part, ["marble.added"])]


def test_each_row_leads_to_a_page_and_names_what_there_is(project_root: Path) -> None:
    names = {row.name for row in OPERATIONS}
    tags = {tag_of(row) for row in OPERATIONS}
    for part in PARTS:
        assert (project_root / "docs" / part.page).is_file(), part.page
        assert set(part.operations) <= names
        assert set(part.tags) <= tags


def test_the_tables_of_the_map_are_as_made(project_root: Path) -> None:
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert shown(text) == text, "make tables"
    assert text.count("<!-- table: ") == 3


def test_the_map_is_short(project_root: Path) -> None:
    """Words of features, which lead to their pages, come on top."""
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    text = re.sub(r"^\| .* \(\[[^]]+\]\([^)]+\)\) \|\n", "", text, flags=re.M)
    assert len(text.splitlines()) <= LINES_MAX
    glossary = text[text.index("## Glossary") :]
    assert len(re.findall(r"^\| (?!word \|)", glossary, flags=re.M)) <= WORDS_MAX


def test_each_word_of_the_glossary_is_used_on_another_page(project_root: Path) -> None:
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    before, glossary = text.split("## Glossary")
    pages = [project_root / "README.md", *(project_root / "docs").glob("*.md")]
    used = "\n".join([before, *(page.read_text(encoding="utf-8") for page in pages)]).lower()
    words = [
        word
        for row in re.findall(r"^\| (.+?) \|", glossary, flags=re.M)
        for word in row.split(", ")
        if row != "word"
    ]
    assert len(words) >= 40
    assert [word for word in words if not re.search(rf"\b{word.removesuffix('e')}", used)] == []


@pytest.mark.parametrize("feature", FEATURES, ids=lambda one: one.name)
def test_the_glossary_has_the_words_of_features(project_root: Path, feature: Feature) -> None:
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    glossary = text[text.index("## Glossary") :]
    rows = [f"\n| {word} | {sense} ([" for word, sense in feature.words.items()]
    assert [row for row in rows if row not in glossary] == []


def test_a_release_is_a_screen_in_the_changelog(project_root: Path) -> None:
    text = (project_root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = text.split("\n## [")[1:]
    releases = [one for one in found if not one.startswith("Unreleased]")]  # a list until it is one
    assert len(releases) >= 2
    assert [one.split("]")[0] for one in releases if len(one.splitlines()) > SCREEN_LINES] == []
