"""The sources keep a shape that can be read: what stands where, how much a class is given, and who imports whom."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests.programs.gauges.shape import (
    PACKAGES,
    SMALL_LINES,
    ancestors,
    constructors,
    shared_names,
    sources,
)

MODULES = sources()

MODULE_LINES_MAX = 700
"""What is longer has two nouns in it."""
MODULES_MAX = 488
"""Four hundred, and those of parts of the product that came after. The gate: what an agent's call is, Claude Code's
forms, the built-in tasks, the service, its calls, its agents, the hook's program, the proxy, headless runs, the
commands. People: who one is, whom a wait admits, votes, and their words. A conversation that a stream keeps. Pages
for people: what ties a sign-in to a browser, who is signed in, cookies, the frame of each page, those to sign in,
their waits, the inbox.
A log of commits that other machines reach: its rules, the file, objects, buckets, PostgreSQL, a folder, which of them,
snapshots, when they are made, a check of all of it, its command. Standing grants: what one
covers, its facts, the index, the service, the commands, the console's lists, their words.
Limits: what one is, who may begin, permits in a host and in a session, who gives them,
what is in use.
What a rule matches and says.
Signed answers: what is signed, SSH's signatures, the answers of session files. A first run: what `helmr.toml` says,
the files of a new folder, what is wrong here. What an
upgrade meets. A status line: where a runtime is found, and the number. Batches
of runs: what was shown of them; the wire, the
service, the client, the commands and the console's page of them."""
SMALL_MODULES_MAX = 43
"""They only shrink: packages' faces, lazily imported parts, and a few that would make a circle elsewhere."""
ARGUMENTS_MAX = 7
ANCESTORS_MAX = 2

SCREENS = "helmr_console.screens"
"""A screen opens others and speaks to its app, which opens the first: Textual's way, and one thing to read."""


def test_a_module_is_one_noun() -> None:
    large = {one.name: one.line_count for one in MODULES if one.line_count > MODULE_LINES_MAX}
    assert large == {}
    assert len(MODULES) <= MODULES_MAX
    small = [one.name for one in MODULES if one.line_count < SMALL_LINES]
    assert len(small) <= SMALL_MODULES_MAX, small


def test_a_constructor_takes_few_arguments() -> None:
    wide = {name: count for name, count in constructors(MODULES).items() if count > ARGUMENTS_MAX}
    assert wide == {}


def test_a_class_has_few_ancestors_of_ours() -> None:
    deep = {name: count for name, count in ancestors(MODULES).items() if count > ANCESTORS_MAX}
    assert deep == {}


def test_a_class_name_is_borne_by_one_class() -> None:
    assert shared_names(MODULES) == {}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports for type checkers and those in functions count too."""

    def place(module: str) -> str:
        is_screen = module == "helmr_console.app" or module.startswith(SCREENS)
        return SCREENS if is_screen else module

    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports: dict[str, set[str]] = {}
    for module in graph.modules:
        found = {place(other) for other in graph.find_modules_directly_imported_by(module)}
        imports.setdefault(place(module), set()).update(found - {place(module)})
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
