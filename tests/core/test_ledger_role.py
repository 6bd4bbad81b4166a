"""The role of a ledger, through all orders of what may happen to it (S-97, S-98)."""

from __future__ import annotations

from itertools import product

import pytest

from helmr.errors import LedgerSuperseded
from helmr_runtime.core.ledger_role import LedgerRole, LedgerState

FIRST, SECOND = LedgerSuperseded("by one"), LedgerSuperseded("by another")


def test_over_a_file_it_is_the_primary_as_soon_as_it_is_open() -> None:
    role = LedgerRole()
    assert (role.now, role.acts) == (LedgerState.STANDING_BY, False)
    role.opens(is_shared=False)
    role.serves()
    assert (role.now, role.acts, role.has_led) == (LedgerState.PRIMARY, True, False)


def test_over_a_log_it_acts_only_once_it_has_opened_that() -> None:
    role = LedgerRole()
    role.opens(is_shared=True)
    role.waits(True)
    assert (role.now, role.is_waiting) == (LedgerState.STANDING_BY, True)
    role.leads()
    assert (role.now, role.acts, role.is_waiting, role.has_led) == (
        LedgerState.PRIMARY,
        True,
        False,
        False,
    )
    role.serves()
    assert role.has_led


def test_one_whose_writer_broke_stands_by_until_it_has_opened_the_log_again() -> None:
    role = led()
    role.opens(is_shared=True)
    assert (role.now, role.acts, role.has_led) == (LedgerState.STANDING_BY, False, True)


def test_a_try_that_came_too_late_is_no_end() -> None:
    role = LedgerRole()
    role.opens(is_shared=True)
    role.ends(FIRST)
    assert (role.now, role.ended_by) == (LedgerState.SUPERSEDED, None)
    role.opens(is_shared=True)
    assert (role.now, role.superseded) == (LedgerState.STANDING_BY, None)


def test_a_file_that_was_promoted_elsewhere_is_read_and_its_runtime_goes_on() -> None:
    role = LedgerRole()
    role.opens(is_shared=False)
    role.ends(FIRST)
    role.serves()
    assert (role.now, role.acts, role.ended_by) == (LedgerState.SUPERSEDED, False, None)


STEPS = {
    "opens": lambda role: role.opens(is_shared=True),
    "waits": lambda role: role.waits(True),
    "leads": LedgerRole.leads,
    "serves": LedgerRole.serves,
    "ends": lambda role: role.ends(SECOND),
}


@pytest.mark.parametrize("steps", list(product(STEPS, repeat=3)), ids="-".join)
def test_one_that_has_led_and_was_superseded_never_acts_again(steps: tuple[str, ...]) -> None:
    role = led()
    role.ends(FIRST)
    for step in steps:
        STEPS[step](role)
        assert (role.now, role.acts, role.ended_by) == (LedgerState.SUPERSEDED, False, FIRST)


def led() -> LedgerRole:
    """A primary."""
    role = LedgerRole()
    role.opens(is_shared=True)
    role.leads()
    role.serves()
    return role
