"""The files of the page on other frameworks, each with its framework in a fresh environment; CrewAI beside Helmr."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extras.conftest import Fresh

pytestmark = [
    pytest.mark.extras,
    pytest.mark.allows_blocking,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", flags=re.M | re.S)
TRIED = {
    "dspy_support": "dspy==3.4.1",
    "llama_support": "llama-index-core==0.14.25",
    "maf_support": "agent-framework-core==1.23.0",
    "adk_support": "google-adk==2.13.0",
    "smol_support": "smolagents==1.26.0",
}
Make = Callable[[str], Fresh]


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "other-frameworks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", TRIED)
def test_an_agent_of_another_framework_waits_and_is_not_asked_again(
    module: str, page: str, fresh: Make
) -> None:
    one = fresh("")
    one.installs(TRIED[module])
    for name, text in FILE.findall(page):
        (one.folder / name).write_text(text, encoding="utf-8")
    one.environ["PYTHONPATH"] = f"{one.folder}:{one.environ['PYTHONPATH']}"
    one.does("drive_framework.py", module)


def test_the_page_says_what_was_tried_and_has_no_other_file(page: str) -> None:
    assert {name for name, _ in FILE.findall(page)} - {"refunds.py", "test_support.py"} == {
        f"{module}.py" for module in TRIED
    }
    for version in (package.partition("==")[2] for package in TRIED.values()):
        assert f" {version}. " in page


def test_crewai_has_its_place_beside_helmr(wheel: Path, fresh: Make) -> None:
    one = fresh("")
    one.installs("crewai>=1.15", f"helmr[local] @ {wheel.as_uri()}", "pytest", "pytest-asyncio")
    assert one.run("-c", "import crewai, helmr").returncode == 0
    made = one.run("-m", "helmr.cli", "init")
    assert made.returncode == 0, made.stderr
    done = one.run("-m", "pytest", "-q")
    assert done.returncode == 0, done.stdout
