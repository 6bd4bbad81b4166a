"""The hash chain: every change of what is stored is seen, and the first bad seq is known (S-50…S-52)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import DataError
from helmr_runtime.core.entries import (
    GENESIS,
    Draft,
    Entry,
    EntryKind,
    Principal,
    from_iso,
    iso,
    link,
    principal_text,
    stamp,
)
from tests.core.builder import ALICE, Story

KEY = b"k" * 32


def long_story(key: bytes | None = None) -> Story:
    story = Story(chain_key=key).execute()
    story.open_step(1)
    story.end_step(1, {"posted": True})
    story.open_wait(2, correlation_id="X", timeout_s=60)
    story.send({"decision": "approve"}, correlation_id="X", idempotency_key="k")
    story.append(3, "done")
    story.succeed({"status": "posted"})
    return story


def first_bad(entries: Sequence[Entry], key: bytes | None) -> int | None:
    """The first seq whose place or hash is wrong, computed from stored texts alone."""
    previous = GENESIS
    for seq, entry in enumerate(entries, 1):
        computed = link(
            previous,
            key=key,
            session_id=entry.session_id,
            seq=entry.seq,
            recorded_at=entry.recorded_at,
            kind=entry.kind.value,
            run_id=entry.run_id,
            op=entry.op,
            principal_json=principal_text(entry.principal),
            body_json=entry.body_json,
        )
        if entry.seq != seq or computed != entry.hash:
            return seq
        previous = entry.hash
    return None


@pytest.mark.parametrize("key", [None, KEY])
def test_an_untouched_chain_holds_and_its_seqs_are_dense(key: bytes | None):
    story = long_story(key)
    assert first_bad(story.entries, key) is None
    assert [e.seq for e in story.entries] == list(range(1, len(story.entries) + 1))


CHANGES: dict[str, Callable[[Entry], Entry]] = {
    "session_id": lambda e: replace(e, session_id="ses_2"),
    "seq": lambda e: replace(e, seq=e.seq + 1),
    "recorded_at": lambda e: replace(e, recorded_at=e.recorded_at + timedelta(microseconds=1)),
    "kind": lambda e: replace(e, kind=EntryKind.NOTE_ADDED),
    "run_id": lambda e: replace(e, run_id="run_other"),
    "op": lambda e: replace(e, op=(e.op or 0) + 1),
    "principal": lambda e: replace(e, principal=Principal("api_key", "key_eve")),
    "body": lambda e: replace(e, body_json=e.body_json[:-1] + " }"),
    "hash": lambda e: replace(e, hash=bytes([e.hash[0] ^ 1]) + e.hash[1:]),
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("key", [None, KEY])
def test_a_change_of_any_field_of_any_entry_is_found_where_it_is(field: str, key: bytes | None):
    entries = long_story(key).entries
    for position in range(len(entries)):
        damaged = list(entries)
        damaged[position] = CHANGES[field](damaged[position])
        assert first_bad(damaged, key) == position + 1


def test_a_gap_and_a_reorder_are_found():
    entries = long_story().entries
    assert first_bad([*entries[:3], *entries[4:]], None) == 4
    assert first_bad([entries[1], entries[0], *entries[2:]], None) == 1


def test_a_rewritten_tail_needs_the_key():
    forged = list(long_story(None).entries)
    assert first_bad(forged, KEY) == 1


def test_none_and_empty_and_neighbouring_fields_do_not_share_a_hash():
    base: dict[str, Any] = {
        "key": None,
        "session_id": "s",
        "seq": 1,
        "recorded_at": datetime(2030, 1, 1, tzinfo=UTC),
        "kind": "k",
        "run_id": "r",
        "op": 1,
        "principal_json": "{}",
        "body_json": "{}",
    }
    variants = [
        base,
        {**base, "session_id": "s1", "seq": 1},
        {**base, "kind": "kr", "run_id": ""},
        {**base, "kind": "", "run_id": "kr"},
        {**base, "op": None},
        {**base, "op": 0},
        {**base, "principal_json": "{}{}", "body_json": ""},
    ]
    assert len({link(GENESIS, **v) for v in variants}) == len(variants)


def test_an_entry_tells_no_feed_offset_in_its_hash_or_equality():
    [entry, *_] = long_story().entries
    assert replace(entry, feed_offset=7) == entry


def test_the_same_moment_in_another_zone_has_the_same_hash():
    draft = Draft(EntryKind.NOTE_ADDED, {"note_id": "n", "text": "t"}, principal=ALICE)
    moment = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    hashes = {
        stamp(draft, session_id="s", seq=1, recorded_at=at, previous=GENESIS, key=None).hash
        for at in (moment, there)
    }
    assert len(hashes) == 1


moments = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(9000, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(moments)
def test_times_survive_their_text_to_the_microsecond(moment: datetime):
    assert from_iso(iso(moment)) == moment


@given(st.lists(moments, max_size=5))
def test_times_sort_as_text(found: list[datetime]):
    assert [iso(m) for m in sorted(found)] == sorted(iso(m) for m in found)


@given(
    st.builds(
        Principal,
        type=st.sampled_from(["api_key", "public_token", "callback", "task", "ray_job", "runtime"]),
        id=st.none() | st.text(min_size=1),
        name=st.none() | st.text(min_size=1),
        on_behalf_of=st.none() | st.text(min_size=1),
    )
)
def test_principals_survive_their_json(principal: Principal):
    assert Principal.from_json(principal.to_json()) == principal


def test_every_entry_names_its_principal():
    assert all(entry.principal.type for entry in long_story().entries)


def test_a_fold_refuses_a_gap_and_a_foreign_run():
    story = long_story()
    state = Story().state
    with pytest.raises(DataError):
        state.apply(story.entries[4])
    other = Story()
    other.run.id = "run_other"
    with pytest.raises(DataError):
        other.state.apply(story.entries[2])


def test_a_record_consumed_twice_is_damage():
    story = Story().execute()
    story.open_wait(1)
    story.send()
    fulfilled = story.entries[-1]
    story.open_wait(2)
    again = replace(
        fulfilled,
        seq=story.state.seq + 1,
        body={**fulfilled.body, "wait_id": story.wait.id},
    )
    with pytest.raises(DataError):
        story.state.apply(again)
