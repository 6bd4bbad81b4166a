"""Bugs of a pair that are put in on purpose are found, within a bounded number of seeds, by the rules they break."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.programs.simulated_pair.planted import BUGS, planted
from tests.programs.simulated_pair.test_pairs import simulate_pairs

RULES = {
    "adopted-early": {"S-98"},
    "answered-early": {"S-60"},
    "epochs-again": {"S-62", "S-98"},
    "exists-is-own": {"S-60", "S-96", "S-97", "S-98", "S-61"},
    "floor-overwritten": {"S-96", "StoreUnavailable"},
    "lease-is-a-fence": {"S-96"},
    "lease-written-over": {"S-63", "S-97", "S-98"},
    "opened-below-the-floor": {"S-60", "S-97", "S-98"},
    "openings-swept": {"S-96"},
    "operations-not-followed": {"S-61", "S-96"},
    "order-forgotten": {"S-98"},
    "own-is-anothers": {"S-63", "S-97"},
    "prunes-not-followed": {"KeyError", "bug", "S-96", "S-100"},
    "read-below-the-floor": {"S-60", "S-63", "S-96", "S-97", "S-98", "S-100"},
    "trimmed-by-the-superseded": {"S-96"},
    "unknown-is-no": {"S-97"},
}
"""Which rules may tell of it. A lease written over is also an order to take over, which stands in it (S-98)."""


def test_each_bug_of_a_pair_can_be_planted() -> None:
    """What it replaces is there."""
    assert set(RULES) == set(BUGS)
    for bug in BUGS:
        with planted(bug):
            pass


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", sorted(RULES))
def test_a_planted_bug_of_a_pair_is_found(
    bug: str, project_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = simulate_pairs(
        project_root, "--bug", bug, "--first", "1", "--total", "5000000", "--no-shrink"
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found = re.search(r"^(\S+) after (\d+) steps", ran.stdout, re.MULTILINE)
    assert found is not None, ran.stdout
    assert found[1] in RULES[bug], ran.stdout
    with capsys.disabled():
        sys.stdout.write(f"\n{bug}: {found[0]}; {ran.stdout.splitlines()[0]}\n")
