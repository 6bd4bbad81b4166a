"""The notebooks run top to bottom, hold no outputs, and their rendered pages are theirs."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """notebooks/build.py, which `make notebooks` runs."""
    spec = importlib.util.spec_from_file_location("notebooks_build", ROOT / "notebooks/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def test_the_four_are_there() -> None:
    assert NAMES == ["01_quickstart", "02_experiment", "03_history", "04_what_if"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_no_outputs_in_git(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert [cell.execution_count for cell in cells] == [None] * len(cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_the_rendered_page_is_of_this_notebook(path: Path) -> None:
    """If not: `make notebooks`."""
    page = (ROOT / "docs/notebooks" / f"{path.stem}.md").read_text(encoding="utf-8")
    rendered = re.findall(r"^```python\n(.*?)\n```$", page, flags=re.M | re.S)
    assert rendered == code(path)
    plots = sum("plt.show()" in source for source in code(path))
    pictures = re.findall(r"!\[Plot\]\((\S+\.png)\)", page)
    assert len(pictures) == plots
    for picture in pictures:
        data = (ROOT / "docs/notebooks" / picture).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000
    there = {p.name for p in (ROOT / "docs/notebooks").glob(f"{path.stem}*.png")}
    assert there == set(pictures)


def shown(page: str) -> str:
    return re.sub(r"<[^>]*>", " ", page)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_experiment_runs_and_repeats_itself(build: ModuleType) -> None:
    page, pictures = build.render(build.execute(NOTEBOOKS[1]), NAMES[1])
    assert "```text\nTrue\n```" in page
    assert len(pictures) == 2


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_quickstart_runs(build: ModuleType) -> None:
    page, _ = build.render(build.execute(NOTEBOOKS[0]), NAMES[0])
    assert "Send the newsletter about otters?" in shown(page)
    assert "Input should be 'send' or 'drop'" in page
    assert "ada@example.com, said by key local" in shown(page)
    assert "run.succeeded" in shown(page)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_history_runs(build: ModuleType) -> None:
    page, pictures = build.render(build.execute(NOTEBOOKS[2]), NAMES[2])
    assert len(pictures) == 2
    assert {"ada", "grace", "alan"} <= set(shown(page).split())
    assert "wait.opened" in shown(page)


@pytest.mark.slow
@pytest.mark.long  # what it calls: tests/experiments/test_cohorts.py
@pytest.mark.timeout(240)
def test_what_if_runs(build: ModuleType) -> None:
    page, pictures = build.render(build.execute(NOTEBOOKS[3]), NAMES[3])
    assert "<Replays 100 sessions, 0 changed>" in page
    assert len(pictures) == 3
    rendered = (ROOT / "docs/notebooks" / f"{NAMES[3]}.md").read_text(encoding="utf-8")
    assert page == rendered  # the same sessions, by the same chance
