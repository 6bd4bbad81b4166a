"""Answers are accepted again after each kind of fault; how soon, `make availability` says."""

from __future__ import annotations

import sys

import pytest

from tests.programs.benchmarks.availability import ALONE_KINDS, KINDS, Back, table, take

pytestmark = pytest.mark.allows_blocking
HERE = {"now": sys.executable}


def test_a_table_has_a_line_for_each_kind_and_checkout_with_medians_and_the_worst() -> None:
    backs = [Back(0.1, 0.2, 0.3, None), Back(0.3, 0.4, 0.5, None), Back(0.2, 0.9, None, None)]
    lines = table(
        {("kill ledger", "before"): backs, ("kill all, up", "now"): [Back(1, 2, None, 4)]}
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()[2:]]
    assert rows == [
        ["kill ledger", "before", "0.20 s", "0.30 s", "0.40 s", "0.90 s", "0.40 s", "-"],
        ["kill all, up", "now", "1.00 s", "1.00 s", "2.00 s", "2.00 s", "-", "4.00 s"],
    ]


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(500)
def test_a_runtime_of_many_processes_answers_again_after_each_kind_of_fault() -> None:
    found = take(HERE, KINDS, rounds=1, in_process=False, linger="1s")
    assert [kind for kind, _ in found] == list(KINDS)
    assert all(0 < back.first_s <= back.all_s for backs in found.values() for back in backs)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_runtime_in_one_process_answers_again_after_each_kind_of_fault() -> None:
    found = take(HERE, ALONE_KINDS, rounds=1, in_process=True, linger="1s")
    assert [kind for kind, _ in found] == list(ALONE_KINDS)
    assert all(back.first_s > 0 for backs in found.values() for back in backs)
