"""What `import helmr` gives: a sorted list that is all there is."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import helmr


def test_exports_are_sorted_without_repeats():
    assert list(helmr.__all__) == sorted(set(helmr.__all__))


@pytest.mark.parametrize("name", helmr.__all__)
def test_every_export_exists(name: str):
    assert getattr(helmr, name) is not None


def test_every_public_name_is_exported():
    of_import = {"TYPE_CHECKING", "annotations"}
    submodules = {name for name, value in vars(helmr).items() if isinstance(value, ModuleType)}
    public = {name for name in vars(helmr) if not name.startswith("_")}
    assert public - of_import - submodules <= set(helmr.__all__)


def test_every_export_has_a_docstring():
    """`WaitResult` is a union of two that have one."""
    named = [n for n in helmr.__all__ if n != "WaitResult"]
    assert [n for n in named if not (getattr(helmr, n).__doc__ or "").strip()] == []


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="nope"):
        helmr.nope  # noqa: B018


def test_the_clients_are_imported_when_they_are_first_used():
    code = (
        "import sys, helmr\n"
        "assert 'httpx' not in sys.modules\n"
        "helmr.Client, helmr.AsyncClient\n"
        "assert 'httpx' in sys.modules\n"
        "assert not {'ray', 'duckdb', 'textual', 'runtime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
