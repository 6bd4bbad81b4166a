"""What an import loads. Contracts see the imports as written; this sees what happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.longer import long_but

ENGINES = ["cryptography", "duckdb", "fastapi", "ray", "starlette", "textual", "uvicorn"]

AGENTS = ["langgraph_letter", "openai_agents_support", "pydantic_ai_support"]
"""Examples that import an agent framework."""

IMPORT_EACH = """
import importlib, sys
for name in sys.argv[2].split(","):
    importlib.import_module(name)
    loaded = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
    if loaded:
        sys.exit(f"import {name} loads {', '.join(loaded)}")
"""

SHOW_HELP = """
import sys
banned = sys.argv[1].split(",")
sys.argv = ["helmr", "--help"]
from helmr.cli.main import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
loaded = sorted(set(banned) & set(sys.modules))
if loaded:
    sys.exit(f"helmr --help loads {', '.join(loaded)}")
"""


def run(root: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )


def modules(root: Path, folder: str) -> str:
    """Every module under the folder, joined by commas."""
    names = []
    for path in sorted((root / folder).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if "__main__" not in parts:
            names.append(".".join(part for part in parts if part not in ("__init__", "runtime")))
    assert names, f"no module under {folder}"
    return ",".join(names)


def test_import_helmr_loads_no_engine(project_root: Path) -> None:
    """An app server that only sends input installs none of them."""
    result = run(project_root, IMPORT_EACH, ",".join(ENGINES), "helmr")
    assert result.returncode == 0, result.stderr


def test_no_module_of_helmr_loads_an_engine(project_root: Path) -> None:
    """The lazy ones import in the function that needs it, so importing them is light too."""
    names = modules(project_root, "helmr").split(",")
    names = [name for name in names if name.split(".")[:2] != ["helmr", "testing"]]
    # Those of agent frameworks load theirs at first use, and some of these an engine's parts.
    names = [name for name in names if not name.startswith("helmr.integrations._")]
    names.remove("helmr.integrations.fastapi")  # of apps that have their framework anyway
    for name in AGENTS:
        names.remove(f"helmr.examples.{name}")
    for name in ("live", "what_if"):  # they drive the harness
        names.remove(f"helmr.experiments.{name}")
    for name in ("fan_out", "fan_out_job"):  # a task and a job that are there for Ray
        names.remove(f"helmr.examples.{name}")
    result = run(project_root, IMPORT_EACH, ",".join(ENGINES), ",".join(names))
    assert result.returncode == 0, result.stderr


def test_the_harness_needs_neither_ray_nor_duckdb(project_root: Path) -> None:
    """It derives a task's secrets as a runtime does, so it takes what that takes, and no more."""
    banned = [engine for engine in ENGINES if engine != "cryptography"]
    names = "helmr.testing,helmr.experiments.live"
    result = run(project_root, IMPORT_EACH, ",".join(banned), names)
    assert result.returncode == 0, result.stderr


@long_but(
    2,
    ("module", "banned"),
    [
        ("helmr_runtime.process.gateway", "duckdb,httpcore,httpx,helmr.client.calls"),
        ("helmr_runtime.process.ledger", "httpcore,httpx,starlette,uvicorn"),
        ("helmr_runtime.launchers.supervisor", "duckdb,httpcore,httpx,ray,starlette,uvicorn"),
        ("helmr_runtime.launchers.watchdog", "cryptography,duckdb,pydantic,ray"),
    ],
)
def test_a_process_loads_nothing_of_another(project_root: Path, module: str, banned: str) -> None:
    """Each module that only another needs costs every idle runtime memory and a part of its start."""
    result = run(project_root, IMPORT_EACH, banned, module)
    assert result.returncode == 0, result.stderr


def test_the_core_loads_no_engine(project_root: Path) -> None:
    result = run(
        project_root,
        IMPORT_EACH,
        ",".join(ENGINES),
        modules(project_root, "runtime/helmr_runtime/core"),
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(
    not (Path(__file__).parents[2] / "helmr/cli/main.py").exists(), reason="no command line yet"
)
def test_help_loads_no_engine(project_root: Path) -> None:
    result = run(project_root, SHOW_HELP, ",".join([*ENGINES, "runtime", "console"]))
    assert result.returncode == 0, result.stderr


def test_a_supervisor_carries_no_engine_but_ray(project_root: Path) -> None:
    """It only watches, for as long as the runtime lives; Ray comes when it starts that."""
    banned = ",".join(one for one in ENGINES if one != "cryptography")
    result = run(project_root, IMPORT_EACH, banned, "helmr_runtime.launchers.supervisor")
    assert result.returncode == 0, result.stderr


def test_the_client_loads_no_command_line_of_httpx_and_leaves_it_there(project_root: Path) -> None:
    """It doubles the time of each `helmr` command."""
    result = run(project_root, IMPORT_EACH, "click,pygments,httpx._main", "helmr.client")
    assert result.returncode == 0, result.stderr
    result = run(project_root, "import helmr.client, httpx, httpx._main; httpx._main.main")
    assert result.returncode == 0, result.stderr
