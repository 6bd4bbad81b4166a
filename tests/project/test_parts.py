"""What each part of `make test` is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import parts
from tests.parts import (
    HALVES,
    HERE,
    NONE_COLLECTED,
    OVERDUE,
    PARTS,
    REST,
    WITH_RAY,
    WITHOUT_RAY,
    command,
    environment,
    half_of,
    part_of,
    verdict,
    waited,
)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--junit-xml=out/report.xml", "--junit-xml=out/report-runtimes.xml"),
        ("--junitxml=report", "--junitxml=report-runtimes"),
        ("--last-failed", "--last-failed"),
        ("tests/test_junit.xml", "tests/test_junit.xml"),
    ],
)
def test_a_report_is_written_by_one_part_alone(given: str, told: str) -> None:
    words = command("runtimes", ["-x", given])
    assert words[-2:] == ["-x", told]


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ([0, 0], 0),
        ([0, NONE_COLLECTED], 0),
        ([NONE_COLLECTED, NONE_COLLECTED], NONE_COLLECTED),
        ([NONE_COLLECTED, 1], 1),
        ([0, -9, 1], -9),
    ],
)
def test_the_first_part_that_went_wrong_says_how_all_went(codes: list[int], said: int) -> None:
    assert verdict(codes) == said


def test_what_takes_minutes_is_no_part_of_the_usual_run() -> None:
    for part, mark in (("longer", "long"), ("longer-with-ray", "long"), ("extras", "extras")):
        (picked,) = [word for word in command(part, []) if word.startswith(f"{mark} and ")]
        assert "not soak" in picked
    (over_ray,) = [word for word in command("over-ray", []) if "transports" in word]
    assert "not long" in over_ray
    assert environment("over-ray")["HELMR_TEST_TRANSPORT"] == "ray"
    assert all("not long and not extras" in " ".join(command(part, [])) for part in PARTS)


def test_a_part_that_takes_too_long_is_ended_and_says_so() -> None:
    run = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert waited(run, 0) == OVERDUE
        assert verdict([0, OVERDUE, 0]) == OVERDUE
        run.communicate(b"\n")
        assert waited(run, 0) == 0
    finally:
        run.kill()


def test_all_parts_are_run_shown_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ends(part: str, arguments: list[str]) -> list[str]:
        code = 3 if part == "over-ray" else 0
        return [sys.executable, "-c", f"print('{part}', {arguments}); raise SystemExit({code})"]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "command", ends)
    assert parts.main(["-x"]) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == sorted(f"{p} ['-x']" for p in PARTS)
    assert parts.main(["--all"]) == 3
    codes = json.loads((tmp_path / parts.CODES).read_text())
    assert codes == {**dict.fromkeys((*PARTS, *parts.AFTER), 0), "over-ray": 3}


@pytest.mark.parametrize("has_ray", [True, False])
def test_every_folder_of_tests_is_in_one_part(*, has_ray: bool) -> None:
    folders = [path.name for path in HERE.iterdir() if path.is_dir() and path.name[0] not in "._"]
    named = [
        name for table in (WITH_RAY, WITHOUT_RAY) for names in table.values() for name in names
    ]
    assert set(named) <= set(folders)
    assert {part_of(folder, has_ray=has_ray) for folder in folders} <= set(PARTS)
    assert part_of("stack", has_ray=has_ray) == ("stack" if has_ray else "processes")
    assert part_of("core", has_ray=has_ray) == part_of("of_tomorrow", has_ray=has_ray) == REST


@pytest.mark.parametrize("part", HALVES)
def test_each_half_of_a_part_has_about_half_of_its_files(part: str) -> None:
    files = [file for folder in WITHOUT_RAY[part] for file in (HERE / folder).rglob("test_*.py")]
    halves = [half_of(part, file) for file in files]
    assert set(halves) == {part, HALVES[part]}
    assert len(files) / 3 < halves.count(part) < len(files) * 2 / 3
    assert {half_of("pages", file) for file in files} == {"pages"}


THREE = """
import pytest

@pytest.mark.ray
def test_with_ray(): pass

def test_without(): pass
"""


def test_a_part_runs_its_own_tests_and_reads_no_other_folder(tmp_path: Path) -> None:
    for folder in ("stack", "core"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / f"test_{folder}.py").write_text(THREE)
    shutil.copy(HERE / "parts.py", tmp_path / "tests" / "parts.py")
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = ray\n")
    ran = {}
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for part in PARTS:
        told = command(part, ["-q", "--collect-only"])
        done = subprocess.run(
            told, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False
        )
        ran[part] = re.findall(r"^tests/(\w+)/.*::(\w+)$", done.stdout, flags=re.M)
        assert done.returncode in (0, NONE_COLLECTED), done.stdout + done.stderr
    assert ran.pop("stack") == [("stack", "test_with_ray")]
    assert ran.pop("processes") == [("stack", "test_without")]
    assert ran.pop(REST) == [("core", "test_with_ray"), ("core", "test_without")]
    assert not any(ran.values())
