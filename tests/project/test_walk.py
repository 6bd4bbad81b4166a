"""A hot answer walks through few modules, and seldom from one to another: it can be followed by reading."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

MODULES_MAX = 50
MOVES_MAX = 300


@pytest.mark.long  # the gauge waits between its calls until each has settled
def test_the_way_of_a_hot_answer_is_short() -> None:
    # In a process of its own: the gauge stands in the way of every event loop.
    gauge = [sys.executable, "-m", "tests.programs.gauges.walk"]
    told = subprocess.run(gauge, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"^answer: (\d+) modules, (\d+) moves", told, re.MULTILINE)
    assert found is not None, told
    assert int(found[1]) <= MODULES_MAX, told
    assert int(found[2]) <= MOVES_MAX, told
