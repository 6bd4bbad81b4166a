"""An integration costs nothing until it is used, and says which extra brings its framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.longer import long_but

INTEGRATIONS = {
    "langgraph": ("langgraph", "run_graph", "langgraph"),
    "openai_agents": ("agents", "run", "openai-agents"),
    "pydantic_ai": ("pydantic_ai", "HelmrDurability", "pydantic-ai"),
}

WITHOUT = """
import importlib, sys
sys.modules[sys.argv[2]] = None  # as if it were not installed
module = importlib.import_module(f"helmr.integrations.{sys.argv[1]}")
from helmr.errors import MissingExtra
try:
    getattr(module, sys.argv[3])
except MissingExtra as error:
    print(error.hint)
"""


@long_but(1, "name", INTEGRATIONS)
def test_what_is_missing_says_which_extra_brings_it(name: str) -> None:
    framework, export, extra = INTEGRATIONS[name]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, name, framework, export],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip() == f"pip install 'helmr[{extra}]'", done.stderr


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_has_what_it_names_and_nothing_else(name: str) -> None:
    import importlib

    module = importlib.import_module(f"helmr.integrations.{name}")
    assert module.__all__ == sorted(module.__all__)
    for export in module.__all__:
        assert getattr(module, export).__doc__
    with pytest.raises(AttributeError, match="nope"):
        module.nope  # noqa: B018
