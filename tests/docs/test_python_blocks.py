"""Every Python block of the docs runs: a page is one module, and its `test_…` functions pass."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from helmr.experiments import run
from helmr.testing import Harness

ROOT = Path(__file__).resolve().parents[2]
# What begins with `# name.py` is a file of a tour, see test_tours.py.
BLOCK = re.compile(r"^```python\n(?!# \w+\.py\n)(.*?)^```$", flags=re.M | re.S)
NOT_OURS = {"comparison"}
"""Shows programs of other systems, which are not installed here; `test_site.py` holds them to their files."""

WITH_A_RUNTIME = {"mcp"}
"""Their blocks start a runtime in this process, which reads its files on its own loop."""

PAGES = [
    pytest.param(
        path,
        id=path.stem,
        marks=[pytest.mark.allows_blocking] if path.stem in WITH_A_RUNTIME else [],
    )
    for path in sorted(ROOT.glob("docs/*.md"))
    if path.stem not in NOT_OURS and BLOCK.search(path.read_text("utf-8"))
]


def load(name: str, text: str, folder: Path) -> ModuleType:
    """A module from text, known to `sys.modules` as task modules are."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModuleType]:
    blocks = BLOCK.findall(request.param.read_text(encoding="utf-8"))
    name = f"docs_page_{request.param.stem}"
    yield load(name, "\n\n".join(blocks), tmp_path)
    del sys.modules[name]


async def test_blocks_run_and_their_tests_pass(page: ModuleType) -> None:
    for name, function in vars(page).items():
        if name.startswith("test_") and inspect.iscoroutinefunction(function):
            await function()


async def test_the_task_of_the_sdk_page_runs_as_written_in_a_file_of_its_own(
    tmp_path: Path,
) -> None:
    first = BLOCK.findall((ROOT / "docs" / "sdk.md").read_text(encoding="utf-8"))[0]
    module = load("docs_sdk_task", first, tmp_path)
    payload = (ROOT / "helmr/examples/data/pull_request.opened.json").read_text(encoding="utf-8")
    try:
        async with Harness(module.publish_review, replay_always=True) as harness:
            session = await harness.start("publish-review", json.loads(payload))
            await session.park()
            await session.send(
                "approval",
                {"decision": "approve"},
                correlation_id="github:Codertocat/Hello-World#2",
            )
            assert await session.result() == {"status": "posted"}
    finally:
        del sys.modules["docs_sdk_task"]


def test_the_experiment_of_its_page_gives_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = BLOCK.findall((ROOT / "docs" / "experiments.md").read_text(encoding="utf-8"))[0]
    module = load("docs_experiments_first", first, tmp_path)
    try:
        make = module.changes
        few = replace(make("8h", 2), sessions=6)
        rows = run(few, seed=7).session_rows()
        assert {row["result"] for row in rows} <= {'"approve"', '"reject"', '"nobody"'}
        assert len(rows) == 6
        monkeypatch.setattr(module, "changes", lambda **parts: replace(make(**parts), sessions=2))
        module.compare()
        assert "timed_out" in capsys.readouterr().out
    finally:
        del sys.modules["docs_experiments_first"]
