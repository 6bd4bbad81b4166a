"""Whose claim of a wait goes, by events and keys alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from helmr.models import ClaimInfo
from helmr.person.review.queue import (
    CLAIM_RETRY,
    FORM_CLAIM_S,
    FORM_RENEW_BEFORE,
    RENEW_BEFORE,
    ClaimKey,
    ClaimState,
)

NOW = datetime(2026, 11, 24, 14, tzinfo=UTC)


def claim(person: str, *, for_: timedelta = timedelta(minutes=15)) -> ClaimInfo:
    by = {"type": "api_key", "name": "local", "on_behalf_of": person}
    return ClaimInfo.model_validate(
        {"principal": by, "on_behalf_of": person, "since": NOW, "until": NOW + for_}
    )


def test_the_key_claims_what_nobody_has_and_what_a_claim_has_run_out_of() -> None:
    assert ClaimState("ana").press(None, NOW) is ClaimKey.CLAIM
    assert ClaimState("ana").press(claim("bo", for_=timedelta(0)), NOW) is ClaimKey.CLAIM


def test_the_key_releases_ones_own_and_takes_anothers_only_when_pressed_again() -> None:
    assert ClaimState("ana").press(claim("ana"), NOW) is ClaimKey.RELEASE
    state = ClaimState("ana")
    theirs = claim("bo")
    assert state.press(theirs, NOW) is ClaimKey.WARN
    state.warned_of = theirs.label
    assert state.press(theirs, NOW) is ClaimKey.TAKE_OVER
    assert state.press(claim("cy"), NOW) is ClaimKey.WARN, "of that one nothing was said"


def test_a_form_renews_its_claim_before_it_runs_out_and_lets_it_go_when_it_is_left() -> None:
    state = ClaimState("ana")
    state.opened(None)
    state.tries(NOW)
    assert not state.is_due(NOW)
    assert state.is_due(NOW + CLAIM_RETRY), "it could not be claimed"
    assert state.lasts_s == FORM_CLAIM_S
    own = claim("ana", for_=timedelta(seconds=FORM_CLAIM_S))
    state.claimed(own)
    assert not state.is_due(own.until - FORM_RENEW_BEFORE - timedelta(seconds=1))
    assert state.is_due(own.until - FORM_RENEW_BEFORE)
    assert state.is_released_on_leaving


def test_a_claim_that_was_made_before_the_form_was_shown_is_the_forms() -> None:
    state = ClaimState("ana")
    state.claimed(claim("ana"))
    state.opened(claim("ana"))  # as the list has heard of it by now
    assert state.is_released_on_leaving


def test_what_was_claimed_before_or_by_a_key_stays_when_the_form_is_left() -> None:
    before = ClaimState("ana")
    before.opened(claim("ana"))
    assert before.lasts_s is None, "it is not made shorter"
    before.claimed(claim("ana"))
    assert before.is_due(claim("ana").until - RENEW_BEFORE)
    assert not before.is_released_on_leaving
    by_key = ClaimState("ana")
    by_key.opened(None)
    by_key.set_by_key(claim("ana"))
    assert not by_key.is_released_on_leaving
    by_key.set_by_key(None)
    assert not by_key.is_released_on_leaving, "there is none"
    assert not by_key.is_due(NOW + timedelta(days=1)), "what was released is not claimed again"


def test_anothers_claim_is_overridden_only_once_the_person_was_told_of_it() -> None:
    state = ClaimState("ana")
    state.claimed(claim("ana"))
    assert state.overrides is None
    theirs = claim("bo")
    state.lost_to(theirs)
    assert state.overrides == theirs
    assert state.own is None
    assert not state.is_due(NOW + timedelta(days=1)), "the form does not fight for it"
    state.lost_to(None)
    assert state.overrides == theirs, "who it is now is not known"
    state.claimed(claim("ana"))
    assert state.overrides is None
