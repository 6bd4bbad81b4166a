"""What is published: the same bytes from the same sources, accepted by the index's checks, and enough by itself."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.extras.conftest import RUN_WITHIN_S, UV, Fresh

pytestmark = [
    pytest.mark.extras,
    pytest.mark.allows_blocking,
    pytest.mark.slow,
    pytest.mark.timeout(500),
]

CHECKS: tuple[tuple[str, str, list[str]], ...] = (
    ("twine>=7,<8", "twine", ["check", "--strict"]),
    ("check-wheel-contents>=0.6,<1", "check-wheel-contents", []),
)
"""Each in an environment of its own, since only this needs them."""


def build(sources: Path, folder: Path) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it, by the ends of their names."""
    command = [*UV, "build", "--quiet", "--out-dir", str(folder), str(sources)]
    subprocess.run(command, check=True, timeout=RUN_WITHIN_S)
    return {end: next(folder.glob(f"*{end}")) for end in (".tar.gz", ".whl")}


@pytest.fixture(scope="session")
def built(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(project_root, tmp_path_factory.mktemp("built"))


def test_the_same_sources_make_the_same_bytes(
    built: dict[str, Path], project_root: Path, tmp_path: Path
) -> None:
    """Elsewhere, later, and with other times and rights of the files."""
    listed = ["git", "-C", str(project_root), "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(listed, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        path = tmp_path / "copy" / name
        if (project_root / name).is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project_root / name, path)
            os.utime(path, (1e9, 1e9))
            path.chmod(0o600)
    again = build(tmp_path / "copy", tmp_path / "again")
    for end, path in built.items():
        same = (hashlib.sha256(one.read_bytes()).hexdigest() for one in (path, again[end]))
        assert len({*same}) == 1, end


@pytest.mark.parametrize(("package", "command", "options"), CHECKS, ids=["twine", "contents"])
def test_the_checks_of_packages_find_nothing(
    built: dict[str, Path], project_root: Path, package: str, command: str, options: list[str]
) -> None:
    files = [one for end, one in built.items() if command == "twine" or end == ".whl"]
    done = subprocess.run(
        [*UV, "tool", "run", "--quiet", "--from", package, command, *options, *map(str, files)],
        cwd=project_root,
        capture_output=True,
        text=True,
        timeout=RUN_WITHIN_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_is_typed_and_holds_no_tests(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built[".whl"]).namelist()
    for package in ("helmr", "helmr_runtime", "helmr_console"):
        assert f"{package}/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "helmr",
        "helmr_runtime",
        "helmr_console",
    }


def test_the_sdist_has_what_its_tests_need(built: dict[str, Path]) -> None:
    with tarfile.open(built[".tar.gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "Makefile", "tests/conftest.py"} <= names


def test_a_folder_is_begun_and_tested_with_the_sdist_alone(
    built: dict[str, Path], project_root: Path, tmp_path: Path
) -> None:
    one = Fresh(tmp_path)
    one.environ.pop("PYTHONPATH")
    venv = str(tmp_path / "venv")
    subprocess.run([*UV, "venv", "--quiet", venv], check=True)
    one.installs("--constraint", str(project_root / "constraints.txt"), str(built[".tar.gz"]))
    begun = one.run("-m", "helmr.cli", "init")
    assert begun.returncode == 0, begun.stderr
    tried = one.run("test_tasks.py")
    assert (tried.returncode, tried.stdout) == (0, "both hold\n"), tried.stderr


@pytest.mark.parametrize("extra", ["local", "runtime"])
def test_the_demo_runs_from_the_wheel_without_an_installation(
    built: dict[str, Path], project_root: Path, tmp_path: Path, extra: str
) -> None:
    """On Ray where that is there, else in one process."""
    done = uvx(project_root, tmp_path, f"helmr[{extra}] @ {built['.whl'].as_uri()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("$ kill -9 ") == (1 if extra == "local" else 2)
    assert "no process is left" in done.stdout


def test_what_says_that_an_extra_is_missing_brings_it_where_helmr_is_installed_by_hand(
    built: dict[str, Path], tmp_path: Path
) -> None:
    """No index has Helmr: the installed one is what the named extra is taken of."""
    one = Fresh(tmp_path)
    one.environ.pop("PYTHONPATH")
    subprocess.run([*UV, "venv", "--quiet", one.python.parents[1]], check=True)
    one.installs(str(built[".whl"]))
    missing = one.run("-m", "helmr.cli", "demo")
    assert missing.returncode == 2
    [extra] = re.findall(r"^hint: pip install '(helmr\[local\])'$", missing.stderr, flags=re.M)
    one.installs(extra)
    assert one.run("-c", "import duckdb, helmr_runtime").returncode == 0


def uvx(project_root: Path, folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    """`helmr demo` out of that, in an empty folder."""
    pins = str(project_root / "constraints.txt")
    command = [*UV, "tool", "run", "--quiet", "--constraints", pins, "--from", what]
    return subprocess.run(
        [*command, "helmr", "demo"],
        cwd=folder,
        env=Fresh(folder).environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=RUN_WITHIN_S,
    )
