"""Planted bugs: each patch fits the sources as they are and is caught by what it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.planted.__main__ import caught
from tests.programs.planted.bugs import Bug, apply, known_bugs, read
from tests.programs.planted.catching import Caught, Missed, catch

BUGS = known_bugs()


@pytest.fixture(params=BUGS.values(), ids=list(BUGS))
def bug(request: pytest.FixtureRequest) -> Bug:
    """Each of them."""
    found: Bug = request.param
    return found


def test_a_patch_applies_to_the_sources_and_to_no_tests(bug: Bug, project_root: Path) -> None:
    assert apply(bug, project_root, only_check=True) is None
    changed = re.findall(r"^\+\+\+ b/(\w+)/", bug.path.read_text(), re.MULTILINE)
    assert changed
    assert set(changed) <= {"helmr", "runtime", "console"}


def test_what_catches_it_is_there(bug: Bug, project_root: Path) -> None:
    for command in bug.caught_by:
        if command[0] == "pytest":
            for test in command[1:]:
                file, _, name = test.partition("::")
                assert (project_root / file).is_file(), (
                    f"{test}: name tests as file::test, without options"
                )
                assert not name or name in set(names_of(project_root / file)), test
        else:
            assert command[:3] == ("python", "-m", "tests.programs.simulation")
            assert "--total" in command, "a bug that it never finds would keep it running"


def names_of(file: Path) -> Iterator[str]:
    """The tests of a file."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


@pytest.mark.parametrize(
    "header",
    ["Breaks: a promise.\n", "Caught-by: pytest\n", "Breaks: a.\nBreaks: b.\nCaught-by: pytest\n"],
    ids=["nothing-catches-it", "it-breaks-nothing", "two-promises"],
)
def test_a_header_that_lacks_something_is_refused(header: str, tmp_path: Path) -> None:
    path = tmp_path / "some.patch"
    path.write_text(f"{header}\ndiff --git a/helmr/x.py b/helmr/x.py\n")
    with pytest.raises(ValueError, match=r"some\.patch: begin it with one 'Breaks"):
        read(path)


def test_a_header_that_says_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.patch"
    path.write_text("Breaks: a promise.\nCaught by: luck\n\ndiff --git a/x b/x\n")
    with pytest.raises(ValueError, match="'Caught by: luck'"):
        read(path)


def test_only_a_test_that_fails_of_itself_catches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # seven runs that need none
    tests = {
        "fails": ("def test_it():\n    assert not 'wrong'\n", None),
        "passes": ("def test_it(): ...\n", "it succeeds"),
        "hides": ("def test_it():\n    import nowhere\n", "the patch does not fit"),
        "strays": ("def test_it():\n    object().gone\n", "the patch does not fit"),
        "breaks": ("import nowhere\ndef test_it(): ...\n", "it ends with 2"),
        "lacks": ("def test_it(nothing): ...\n", "no test fails"),
        "empty": ("", "it ends with 5"),
    }
    for name, (text, _) in tests.items():
        (tmp_path / f"{name}.py").write_text(text)
    found = {name: catch(("pytest", f"{name}.py"), tmp_path) for name in tests}
    caught = found.pop("fails")
    assert isinstance(caught, Caught), caught
    assert (caught.by, caught.after) == ("fails.py::test_it", "1 tests")
    for name, missed in found.items():
        assert isinstance(missed, Missed), name
        assert str(tests[name][1]) in missed.why


@pytest.mark.long  # test_only_a_test_that_fails_of_itself_catches
@pytest.mark.parametrize("name", ["deadline-off-by-one"])
def test_a_small_one_is_caught(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert caught([BUGS[name]]) == 1, capsys.readouterr().out
    assert "1 of 1 caught" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_one_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    is_caught = caught(BUGS.values()) == len(BUGS)
    assert is_caught, capsys.readouterr().out
