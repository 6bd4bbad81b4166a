"""What `make gauges` counts is what it says that it counts: names, spread, docstrings, lines and commits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.gauges.features import FEATURES, Spread, named_in, room
from tests.programs.gauges.named import Named
from tests.programs.gauges.names import names, words
from tests.programs.gauges.sentences import docstrings
from tests.programs.gauges.shape import (
    KERNEL,
    PACKAGES,
    ROOT,
    Source,
    kernel,
    kinds_of_lines,
    sources,
)

MODULES = sources()
WITHIN_S = 120.0
GATE = next(one for one in FEATURES if one.name == "gate")
SCHEDULES = next(one for one in FEATURES if one.name == "schedules")


def module(text: str, path: str = "helmr/cli/made.py") -> Source:
    """A module of that text."""
    return Source(Path(ROOT, path), text)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("WriteSchedule", ("write", "schedule")),
        ("_schedule_of", ("schedule", "of")),
        ("OF_SCHEDULES", ("of", "schedules")),
        ("IDTokenProof", ("id", "token", "proof")),
        ("helmr_runtime.core.grants", ("helmr", "runtime", "core", "grants")),
        ("/v1/gate/calls", ("v", "1", "gate", "calls")),
    ],
)
def test_a_name_is_split_into_its_words(name: str, of: tuple[str, ...]) -> None:
    assert words(name) == of


@pytest.mark.parametrize(
    "text",
    [
        "class GatedCall: ...",
        "def ask(grant): ...",
        "asked.grants_of(1)",
        "from helmr.gate import anything",
        "import helmr.gate.reach as other",
        "ask(grant=1)",
        'kind == "grant.created"',
        'app = "helmr.cli.gate:app"',
        "match one:\n    case Grant(): ...",
        "def f():\n    global GRANTS",
    ],
)
def test_code_that_names_a_feature_is_found(text: str) -> None:
    assert named_in(GATE, [module(text)]) == ["helmr/cli/made.py"]


@pytest.mark.parametrize(
    "text",
    [
        '"""The gate asks a person."""',
        "# the gate",
        'say("the gate is off")',
        "aggregate = navigate",
        "DEVICE_GRANT = 1",
    ],
)
def test_prose_and_other_words_name_no_feature(text: str) -> None:
    assert named_in(GATE, [module(text)]) == []


def test_files_in_a_features_folders_are_its_own() -> None:
    inside = ["helmr/features/gate/cli.py", "console/helmr_console/features/gate/areas.py"]
    spread = Spread(
        GATE, [*inside, "helmr/gate/reach.py", "helmr/cli/gate.py", "helmr/wire/ids.py"]
    )
    assert spread.outside == ["helmr/cli/gate.py", "helmr/wire/ids.py"]
    assert spread.named_for_it == ["helmr/cli/gate.py"]
    assert spread.rooms == [
        "console/helmr_console/features/gate",
        *("helmr/cli", "helmr/features/gate", "helmr/gate", "helmr/wire"),
    ]
    assert room("runtime/helmr_runtime/ledger/log/group.py") == "runtime/helmr_runtime/ledger/log"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda one: one.name)
def test_each_feature_is_named_somewhere_and_its_folders_exist(feature: Named) -> None:
    assert named_in(feature, MODULES)
    assert all((ROOT / folder).is_dir() for folder in feature.folders)
    spoken = {"_".join(words(name)) for one in MODULES for name in one.names}
    assert set(feature.besides) <= spoken, "no such name is left"


def test_the_kernels_places_exist() -> None:
    homes = {package: ROOT / folder / package for package, folder in PACKAGES.items()}
    missing = {
        part
        for package, parts in KERNEL.items()
        for part in parts
        if not (homes[package] / part).exists()
    }
    assert not missing
    inner = {one.name for one in kernel(MODULES)}
    assert "runtime/helmr_runtime/core/entries.py" in inner
    assert not any(one.startswith(("console/", "helmr/cli/", "helmr/features/")) for one in inner)


def test_each_line_has_one_kind() -> None:
    text = (
        '"""One."""\n\nimport os\n\n\n# why\ndef f(\n    a: int,\n) -> int:\n'
        '    """Two.\n\n    More.\n    """\n    return a\n'
    )
    assert kinds_of_lines(module(text)) == {
        "docstring": 5,
        "blank": 3,
        "import": 1,
        "comment": 1,
        "signature": 3,
        "code": 1,
    }


def test_a_docstring_without_a_head_is_found_by_kind() -> None:
    text = '''"""Whether it is."""
class A:
    """How."""
    @property
    def a(self):
        """Where it is."""
    @cached_property
    def b(self):
        """The place."""
    def c(self):
        """`Which` of them."""
async def d():
    """Return what was asked."""
'''
    assert [(one.kind, one.is_headless) for one in docstrings(module(text))] == [
        *(("module", True), ("class", True), ("function", False)),
        *(("property", True), ("property", False), ("function", True)),
    ]


def test_paths_are_names_and_sentences_are_not() -> None:
    tree = module('x = ["schedule.written", "a word", "one", "/v1/schedules"]').tree
    assert set(names(tree)) == {"x", "schedule.written", "/v1/schedules"}
    assert set(names(tree, paths=False)) == {"x"}


@pytest.mark.long
def test_commits_of_a_gated_call_are_counted() -> None:
    """In a process of its own: it replaces what the ledger commits by."""
    command = [sys.executable, "-m", "tests.programs.gauges.commits", "--entries"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"  (.+): (\d+) until its response", done.stdout)
    assert [name for name, _ in counts] == ["ask", "answer", "take the decision"] * 2
    assert all(int(count) >= 1 for _, count in counts)
    assert done.stdout.count("wait.opened") == done.stdout.count("wait.fulfilled") == 2
