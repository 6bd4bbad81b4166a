"""The bill of materials names what an installation consists of, in the versions that are locked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.sbom import document

pytestmark = pytest.mark.allows_blocking


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document({"all"})


def locked(project_root: Path) -> set[tuple[str, str]]:
    """Names and versions; some packages have two, for different versions of Python."""
    text = (project_root / "constraints.txt").read_text()
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M)
    return {(canonicalize_name(name), version) for name, version in found}


def test_each_dependency_of_the_product_is_in_it(project_root: Path, made: dict[str, Any]) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = ("local", "runtime", "console", "experiments", "mcp", "notebooks", "otel", "sql")
    asked = [*project["dependencies"], *(one for name in names for one in extras[name])]
    direct = {canonicalize_name(Requirement(one).name) for one in asked} - {
        "helmr"
    }  # extras of extras
    named = {one["name"] for one in made["components"]}
    assert direct <= named
    assert {"anyio", "starlette", "cffi"} <= named, "what those need is in it too"
    assert not {"pytest", "mypy", "hypothesis"} & named, "what tests need is not"


def test_each_component_has_the_version_that_is_locked(
    project_root: Path, made: dict[str, Any]
) -> None:
    versions = locked(project_root)
    for one in made["components"]:
        assert (one["name"], one["version"]) in versions
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"


def test_an_extra_alone_is_smaller(made: dict[str, Any]) -> None:
    base = {one["name"] for one in document(set())["components"]}
    assert "pydantic" in base
    assert not {"ray", "duckdb", "textual"} & base
    assert len(base) < len(made["components"])


def test_the_graph_is_whole(made: dict[str, Any]) -> None:
    references = {one["bom-ref"] for one in (*made["components"], made["metadata"]["component"])}
    assert {one["ref"] for one in made["dependencies"]} == references
    assert {other for one in made["dependencies"] for other in one["dependsOn"]} <= references


def test_the_same_packages_give_the_same_text(project_root: Path) -> None:
    command = [sys.executable, "-m", "tests.sbom"]
    texts = {
        subprocess.run(command, cwd=project_root, check=True, capture_output=True).stdout
        for _ in range(2)
    }
    assert len(texts) == 1
    assert json.loads(texts.pop())["bomFormat"] == "CycloneDX"
