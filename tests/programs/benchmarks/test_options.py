"""The command line of `make bench`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.programs.benchmarks.options import LOAD_MAX, QUICK, USUAL, Options, parse

SYSTEMS = ("helmr", "restate", "dbos-sqlite")
CASES = ("a", "b", "c", "d", "d-parked", "e")


def parsed(text: str) -> Options:
    return parse(text.split(), systems=SYSTEMS, cases=CASES)


def test_without_arguments_all_cases_of_all_systems_run_three_times() -> None:
    found = parsed("")
    assert (found.systems, found.cases) == (SYSTEMS, CASES)
    assert (found.rounds, found.sizes) == (3, USUAL)


def test_what_is_given_wins_over_the_quick_form() -> None:
    found = parsed("--quick --systems dbos-sqlite,helmr --cases e --running 5,50 --out here")
    assert (found.systems, found.cases) == (("dbos-sqlite", "helmr"), ("e",))
    assert (found.rounds, found.sizes.running, found.sizes.waiting) == (1, (5, 50), QUICK.waiting)
    assert found.out == Path("here")
    assert parsed("--quick --rounds 2").rounds == 2
    assert parsed("--held 10,20").sizes.held == (10, 20)
    assert (parsed("").beside, parsed("--beside v1").beside) == (None, "v1")
    assert (parsed("").load_max, parsed("--busy").load_max) == (LOAD_MAX, math.inf)
    assert (parsed("").is_pinned, parsed("--pinned").is_pinned) == (False, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--systems helmr,temporal", "temporal is not known; there are helmr, "),
        ("--cases ,", "nothing is not known"),
        ("--rounds 0", "'0' is not a whole number from 1"),
        ("--running 5,x", "'x' is not a whole number from 1"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line_that_says_why(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(text)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
