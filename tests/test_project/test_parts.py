"""What each part of `make test` is told."""

from __future__ import annotations

import pytest

from tests.parts import command


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
