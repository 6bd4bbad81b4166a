"""The errors page lists every code, from its class, with what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helmr import errors


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "errors.md").read_text(encoding="utf-8")


def test_every_code_has_a_row_and_says_what_to_do(page: str) -> None:
    section = page.split("## Why a run is blocked")[0]
    rows = re.findall(
        r'^\| <a id="([a-z_]+)"></a>`\1` \| `\w+` \| (?:\d{3} \| )?(.+) \| (.+) \|$',
        section,
        flags=re.M,
    )
    assert all(means.endswith(".") and todo.endswith(".") for _, means, todo in rows)
    assert sorted(code for code, *_ in rows) == sorted(errors.all_codes())


def test_where_an_error_says_that_it_is_explained_there_is_an_anchor(project_root: Path) -> None:
    for error in errors.all_codes().values():
        page, _, anchor = error.page().partition("#")
        text = (project_root / "docs" / page).read_text(encoding="utf-8")
        assert f'<a id="{anchor}"></a>' in text


def test_each_class_of_errors_says_its_exit_code(page: str) -> None:
    headings = re.findall(r"^## .*: `(\w+)`, exit code (\d)$", page, flags=re.M)
    assert {name: int(code) for name, code in headings} == {
        cls.__name__: cls.exit_code
        for cls in errors.HelmrError.__subclasses__()
        if cls is not errors.OutcomeError and cls.__module__ == errors.__name__
    }


def test_every_signal_is_explained(page: str) -> None:
    for signal in errors.HelmrSignal.__subclasses__():
        assert f"| `{signal.__name__}` |" in page
