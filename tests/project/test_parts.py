"""What each part of `make test` is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.parts import NONE_COLLECTED, OVERDUE, PARTS, command, environment, verdict, waited


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
    (longer,) = [word for word in command("longer", []) if "long or extras" in word]
    assert "not soak" in longer
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
