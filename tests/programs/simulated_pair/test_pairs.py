"""Some seeds of pairs, other ones each time, each a whole history; `make simulate-pairs` tries as many as you want."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.programs.simulation.test_seeds import told
from tests.programs.simulation.test_simulation import simulate

simulate_pairs = partial(simulate, module="tests.programs.simulated_pair")


def test_of_two_runtimes_one_acknowledges_whatever_goes_wrong(project_root: Path) -> None:
    ran = simulate_pairs(project_root, "--total", "60000", "--no-shrink")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_steps_come_by_every_fault_and_every_rare_branch(project_root: Path) -> None:
    ran = simulate_pairs(project_root, "--total", "1000000", "--probes", "--no-shrink")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_seed_is_the_same_events_each_time(project_root: Path) -> None:
    arguments = ("--seed", "11", "--steps", "3000", "--digests", "--no-shrink")
    first = simulate_pairs(project_root, *arguments, environment={"PYTHONHASHSEED": "1"})
    again = simulate_pairs(
        project_root, *arguments, "--unsettled", environment={"PYTHONHASHSEED": "2"}
    )
    assert first.returncode == again.returncode == 0, first.stdout + again.stdout
    assert told(first.stdout)
    assert told(again.stdout) == told(first.stdout)
