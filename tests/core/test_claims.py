"""Claims: who is at a wait, renewed, released, lapsed and overridden; what of that a transcript says (S-81)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from helmr.errors import WaitClaimed
from helmr_runtime.core.claims import (
    UNWRITTEN_MAX,
    ClaimedWait,
    WaitClaims,
    claim_ended,
    overridden_by,
)
from helmr_runtime.core.entries import GENESIS, Draft, Entry, EntryKind, Principal, stamp

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MIA = Principal("api_key", "key_1", "desk", "mia")
TOM = Principal("api_key", "key_1", "desk", "tom")
WAIT = ClaimedWait(wait_id="wait_1", run_id="run_1", op=4)
NOBODY = WaitClaims(wait=WAIT, as_of=NOW - timedelta(hours=1))


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def said(claims: WaitClaims, now: datetime) -> list[tuple[str, str, str | None]]:
    """Kind, reason and person of what the next entry brings along."""
    return [
        (one.kind.value, one.body.get("reason", ""), one.principal.on_behalf_of)
        for one in claims.pending(now)
    ]


def entry(draft: Draft) -> Entry:
    return stamp(draft, session_id="ses_1", seq=9, recorded_at=NOW, previous=GENESIS, key=None)


def test_a_claim_holds_for_its_time_and_at_its_end_is_over() -> None:
    claims = NOBODY.claimed(MIA, NOW, for_s=900)
    claim = claims.live("wait_1", at(899.999))
    assert claim is not None
    assert claim.by == MIA
    assert claims.live("wait_1", at(900)) is None
    assert claims.live("wait_2", NOW) is None
    assert said(claims, at(899)) == [("wait.claimed", "", "mia")]
    assert said(claims, at(900)) == [
        ("wait.claimed", "", "mia"),
        ("wait.claim_ended", "lapsed", None),
    ]


def test_a_renewal_moves_the_end_and_says_nothing() -> None:
    first = NOBODY.claimed(MIA, NOW, for_s=900)
    renewed = first.claimed(MIA, at(600), for_s=900)
    assert renewed.unwritten == first.unwritten
    assert renewed.claim is not None
    assert first.claim is not None
    assert (renewed.claim.since, renewed.claim.until) == (first.claim.since, at(1500))
    assert renewed.as_of > first.as_of


def test_another_person_of_the_same_key_is_another() -> None:
    claims = NOBODY.claimed(MIA, NOW, for_s=900)
    with pytest.raises(WaitClaimed) as refused:
        claims.claimed(TOM, at(1), for_s=900)
    assert "mia until 2026-03-02T09:15:00Z" in refused.value.message
    assert refused.value.facts["claim"]["on_behalf_of"] == "mia"
    taken = claims.claimed(TOM, at(1), for_s=900, override=True)
    assert said(taken, at(2)) == [
        ("wait.claimed", "", "mia"),
        ("wait.claim_ended", "overridden", "tom"),
        ("wait.claimed", "", "tom"),
    ]


def test_only_who_made_a_claim_releases_it_and_twice_is_once() -> None:
    claims = NOBODY.claimed(MIA, NOW, for_s=900)
    with pytest.raises(WaitClaimed):
        claims.released(TOM, at(1))
    released = claims.released(MIA, at(1))
    assert released.live("wait_1", at(1)) is None
    assert said(released, at(2))[-1] == ("wait.claim_ended", "released", "mia")
    assert released.released(TOM, at(3)) == released


def test_a_lapsed_claim_is_in_nobodys_way_and_a_new_one_says_both() -> None:
    claims = NOBODY.claimed(MIA, NOW, for_s=60).claimed(TOM, at(60), for_s=60)
    assert said(claims, at(61)) == [
        ("wait.claimed", "", "mia"),
        ("wait.claim_ended", "lapsed", None),
        ("wait.claimed", "", "tom"),
    ]
    again = claims.claimed(TOM, at(200), for_s=60)
    assert [kind for kind, _, _ in said(again, at(201))].count("wait.claimed") == 3


def test_an_answer_is_held_against_a_claim_of_another_only() -> None:
    claim = NOBODY.claimed(MIA, NOW, for_s=900).live("wait_1", NOW)
    assert overridden_by("wait_1", None, TOM, override=False) is None
    assert overridden_by("wait_1", claim, MIA, override=False) is None
    assert overridden_by("wait_1", claim, TOM, override=True) is claim
    with pytest.raises(WaitClaimed):
        overridden_by("wait_1", claim, TOM, override=False)


def test_what_is_written_is_not_written_again_and_an_end_ends_its_own_claim_only() -> None:
    claims = NOBODY.claimed(MIA, NOW, for_s=60)
    [claimed] = claims.pending(at(1))
    left = claims.written(entry(claimed))
    assert left.unwritten == ()
    assert left.claim == claims.claim
    *_, lapsed = left.pending(at(60))
    assert left.written(entry(lapsed)).claim is None
    newer = left.claimed(TOM, at(61), for_s=60)
    assert newer.written(entry(lapsed)).claim == newer.claim
    assert said(newer.written(entry(lapsed)), at(62)) == [("wait.claimed", "", "tom")]
    assert newer.without_written(newer.as_of).unwritten == ()


def test_every_change_is_later_than_the_last_whatever_the_clock_says() -> None:
    claims, seen = NOBODY, [NOBODY.as_of]
    for _ in range(5):
        claims = claims.claimed(MIA, NOW, for_s=60).released(MIA, NOW)
        seen.append(claims.as_of)
    assert seen == sorted(set(seen))
    times = [one.body["at"] for one in claims.unwritten]
    assert times == sorted(set(times))


def test_what_is_remembered_of_a_wait_that_nothing_happens_to_is_bounded() -> None:
    claims = NOBODY
    for second in range(UNWRITTEN_MAX):
        claims = claims.claimed(MIA, at(second), for_s=60).released(MIA, at(second))
    assert len(claims.unwritten) == UNWRITTEN_MAX
    assert claims.unwritten[-1].body["reason"] == "released"


def test_an_end_names_the_claim_that_it_ends() -> None:
    claim = NOBODY.claimed(MIA, NOW, for_s=60).claim
    assert claim is not None
    draft = claim_ended(WAIT, claim, "overridden", TOM, at(1))
    assert draft.kind is EntryKind.WAIT_CLAIM_ENDED
    assert (draft.run_id, draft.op) == ("run_1", 4)
    assert draft.body["claimed_by"] == MIA.to_json()
