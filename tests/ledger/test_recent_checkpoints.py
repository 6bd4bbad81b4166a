"""The newest checkpoints are in memory: a session that parked not long ago is taken up without a statement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helmr_runtime.core import jsontext
from helmr_runtime.ledger.index.authored import Bodies
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.appends import Checkpoint
from helmr_runtime.ledger.tables.reads import KEPT_TEXT_MAX, TEXT_MAX, RecentCheckpoints
from tests.ledger.sessions import parked


def stored(session_id: str, offset: int, length: int = 0, **more: list[int]) -> Checkpoint:
    text = jsontext.encode({"refs": [], "pad": "x" * length, **more})
    return Checkpoint(feed_offset=offset, session_id=session_id, seq=offset, body=text)


def head(session_id: str, offset: int) -> Head:
    return replace(Head(session_id), checkpoint_offset=offset)


async def test_a_parked_session_is_taken_up_without_a_read_and_alike_after_a_restart(
    opener, clock, monkeypatch
):
    ledger = await opener()
    hand, _ = await parked(ledger, clock)
    await hand.adopt()
    await hand.stored(checkpoint=True, release=True)
    count = 0
    checkpoint_at = reads.checkpoint_at

    def counted(*arguments):
        nonlocal count
        count += 1
        return checkpoint_at(*arguments)

    monkeypatch.setattr(reads, "checkpoint_at", counted)
    here = await ledger.load(hand.session_id, "slot-1")
    assert count == 0
    ledger = await opener()
    read = await ledger.load(hand.session_id, "slot-1")
    assert count == 1
    assert read.checkpoint is not None
    assert replace(here, epoch=0) == replace(read, epoch=0)


def test_only_the_checkpoint_that_the_head_names_is_given():
    recent = RecentCheckpoints()
    recent.add([stored("s", 7)])
    recent.add([stored("s", 9)])
    assert recent.whole(head("s", 9), Bodies(None)) == stored("s", 9).body
    assert recent.whole(head("s", 7), Bodies(None)) is None
    assert recent.whole(head("other", 9), Bodies(None)) is None


@pytest.mark.parametrize("more", [{"refs": [3]}, {"pieces": [[3, 1, 1, 1, 1]]}])
def test_one_that_names_what_must_be_read_is_read_too(more):
    recent = RecentCheckpoints()
    recent.add([stored("s", 7, **more)])
    assert recent.whole(head("s", 7), Bodies(None)) is None


def test_what_is_kept_is_bounded_and_the_oldest_goes_first():
    recent = RecentCheckpoints()
    count = TEXT_MAX // (KEPT_TEXT_MAX // 2) + 10
    for number in range(count):
        recent.add([stored(f"s{number}", 1, KEPT_TEXT_MAX // 2)])
    kept = [recent.whole(head(f"s{number}", 1), Bodies(None)) for number in range(count)]
    assert kept[0] is None
    assert kept[-1] is not None
    assert sum(len(text) for text in kept if text is not None) <= TEXT_MAX
    recent.add([stored(f"s{count - 1}", 2, KEPT_TEXT_MAX + 1)])
    assert recent.whole(head(f"s{count - 1}", 2), Bodies(None)) is None
