"""The feed's fan-out: nothing skipped, nothing repeated, whatever interleaves (S-54)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.errors import NotReady, Overloaded
from helmr_runtime.rpc.calls import ActorUnavailable
from helmr_runtime.service import feed, following
from helmr_runtime.service.feed import FeedHub, FeedItem, Follower
from helmr_runtime.service.following import Followed, FollowedEntries, FollowedRecords
from tests.budget import examples
from tests.service.stack import BOUND_S, until


def ids_of(items: list[Followed]) -> list[int]:
    return [item.id for item in items if item.id is not None]


class Log:
    """A ledger's feed that a test appends to."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.failures = 0

    def append(self, session_id: str = "a", kind: str = "note.added", **body: Any) -> int:
        offset = len(self.entries) + 1
        self.entries.append(
            {
                "feed_offset": offset,
                "session_id": session_id,
                "kind": kind,
                "body": body,
                "principal": {"type": "task"},
                "recorded_at": "2026-01-01T00:00:00.000000Z",
            }
        )
        self.changed.set()
        return offset

    async def feed_head(self) -> int:
        return len(self.entries)

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[dict[str, Any]]:
        if self.failures:
            self.failures -= 1
            raise ActorUnavailable(actor="helmr-ledger", method="feed", detail="restarting")
        while len(self.entries) <= after:
            if not timeout_s:
                return []
            self.changed.clear()
            await self.changed.wait()
        return self.entries[after : after + limit]

    def older(self, session_id: str | None) -> Any:
        async def read(after: int) -> Sequence[FeedItem]:
            await asyncio.sleep(0)
            found = [
                FeedItem(entry)
                for entry in self.entries[after:]
                if session_id in (None, entry["session_id"])
            ]
            return found[: following.PAGE_ITEMS]

        return read


async def started(log: Log) -> FeedHub:
    hub = FeedHub(log, on_entries=lambda items: None)
    hub.start()
    await until(lambda: hub._offset is not None)
    return hub


async def test_followers_are_woken_in_the_order_in_which_they_joined() -> None:
    log = Log()
    hub = await started(log)
    woken: list[int] = []

    async def follow(number: int, follower: Follower) -> None:
        assert await follower.take(BOUND_S)
        woken.append(number)

    followers = [hub.join("a" if number % 2 else None) for number in range(40)]
    tasks = [asyncio.create_task(follow(*numbered)) for numbered in enumerate(followers)]
    await asyncio.sleep(0)
    log.append("a")
    await asyncio.gather(*tasks)
    assert woken == [*range(0, 40, 2), *range(1, 40, 2)]
    await hub.stop()


async def reach(hub: FeedHub, log: Log) -> None:
    await until(lambda: hub.offset == len(log.entries))


async def take_until(source: FollowedEntries, last: int) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(BOUND_S):
        while not seen or seen[-1] < last:
            seen += ids_of(await source.take(1.0))
    return seen


@settings(max_examples=examples(60))
@given(
    before=st.integers(0, 60),
    after=st.integers(0, 70),
    session=st.sampled_from([None, "a"]),
    kept=st.integers(1, 20),
    page=st.integers(1, 10),
    live=st.lists(st.integers(0, 3), min_size=1, max_size=30),
)
def test_from_any_place_each_entry_comes_once(
    before: int, after: int, session: str | None, kept: int, page: int, live: list[int]
) -> None:
    """Whatever is kept, read in pages, and appended while it is read."""

    async def run() -> None:
        log = Log()
        for number in range(before):
            log.append("ab"[number % 2])
        hub = await started(log)
        source = FollowedEntries(hub, session, after, log.older(session))
        seen: list[int] = []
        for number, count in enumerate(live):
            for _ in range(count):
                log.append("ab"[number % 2])
            seen += ids_of(await source.take(0.001))
        last = log.append("a")
        while last <= after:
            last = log.append("a")
        seen += await take_until(source, last)
        expected = [
            entry["feed_offset"]
            for entry in log.entries
            if entry["feed_offset"] > after and session in (None, entry["session_id"])
        ]
        assert seen == expected
        await hub.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "KEPT_MAX", kept)
        patch.setattr(following, "PAGE_ITEMS", page)
        asyncio.run(run())


async def test_the_ledger_may_be_away_for_a_while() -> None:
    log = Log()
    hub = await started(log)
    follower = hub.join(None)
    log.failures = 3
    last = log.append()
    async with asyncio.timeout(BOUND_S):
        items = await follower.take(BOUND_S)
    assert [item.offset for item in items] == [last]
    await hub.stop()


async def test_who_is_too_far_behind_is_closed_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "BEHIND_MAX", 10)
    log = Log()
    hub = await started(log)
    slow = FollowedEntries(hub, None, None, log.older(None))
    for _ in range(11):
        log.append()
    await reach(hub, log)
    assert slow.is_closed
    assert hub.followers == 0
    assert await slow.take(1.0) == []
    again = FollowedEntries(hub, None, slow.position, log.older(None))
    assert await take_until(again, 11) == list(range(1, 12))
    await hub.stop()


async def test_the_past_is_read_for_a_few_followers_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "KEPT_MAX", 1)
    monkeypatch.setattr(following, "PAGE_ITEMS", 5)
    log = Log()
    hub = await started(log)
    last = [log.append() for _ in range(30)][-1]
    await reach(hub, log)
    reading, most = 0, 0
    read = log.older(None)

    async def older(after: int) -> Sequence[FeedItem]:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        items: Sequence[FeedItem] = await read(after)
        reading -= 1
        return items

    many = [FollowedEntries(hub, None, 0, older) for _ in range(20)]
    seen = await asyncio.gather(*(take_until(one, last) for one in many))
    assert seen == [list(range(1, last + 1))] * 20
    assert most == feed.CATCHING_UP_AT_ONCE
    await hub.stop()


async def test_followers_of_a_session_get_only_its_entries_and_share_their_text() -> None:
    log = Log()
    hub = await started(log)
    followers = [hub.join("a"), hub.join("a"), hub.join("b")]
    log.append("a", text="x")
    log.append("b")
    await reach(hub, log)
    taken = [await follower.take(1.0) for follower in followers]
    assert [[item.offset for item in items] for items in taken] == [[1], [1], [2]]
    assert taken[0][0].text is taken[1][0].text
    await hub.stop()


async def test_there_is_a_bound_to_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "FOLLOWERS_MAX", 2)
    hub = await started(Log())
    followers = [hub.join(None), hub.join("a")]
    with pytest.raises(Overloaded):
        hub.join("b")
    followers[0].close()
    assert isinstance(hub.join("b"), Follower)
    await hub.stop()


async def test_a_stopped_hub_closes_its_followers_and_takes_none() -> None:
    hub = await started(Log())
    follower = hub.join("a")
    taking = asyncio.create_task(follower.take(BOUND_S))
    await asyncio.sleep(0)
    await hub.stop()
    assert await taking == []
    assert follower.is_closed
    assert hub.join(None).is_closed


async def test_before_the_ledger_answers_nothing_is_followed() -> None:
    hub = FeedHub(Log(), on_entries=lambda items: None)
    with pytest.raises(NotReady):
        hub.join(None)


async def test_records_are_read_then_followed_each_once() -> None:
    log = Log()
    hub = await started(log)

    def append(seq: int, stream: str = "out") -> None:
        log.append(
            "a", "output.appended", record_id=f"r{seq}", stream=stream, stream_seq=seq, data=seq
        )

    async def older(after: int) -> Sequence[dict[str, Any]]:
        records = [
            following.record_of(FeedItem(entry))
            for entry in log.entries
            if following.is_output(FeedItem(entry), "out")
        ]
        append(len(records) + 1)  # one more comes while this page is read
        await reach(hub, log)
        return [record for record in records if record["seq"] > after][: following.PAGE_ITEMS]

    append(1)
    append(1, "other")
    source = FollowedRecords(hub, "a", "out", 0, older, goes_on)
    seen = ids_of(await source.take(1.0))
    append(3)
    while not seen or seen[-1] < 3:
        seen += ids_of(await source.take(1.0))
    assert seen == [1, 2, 3]
    source.close()
    assert hub.followers == 0
    await hub.stop()


async def goes_on() -> bool:
    return False


@pytest.mark.parametrize("page", [1, 200])
@pytest.mark.parametrize("behind", [0, 3])
async def test_records_are_followed_to_the_last_one_that_a_session_writes(
    monkeypatch: pytest.MonkeyPatch, page: int, behind: int
) -> None:
    """The ledger knows that a session is over before the feed has told of its last records."""
    monkeypatch.setattr(following, "PAGE_ITEMS", page)
    log = Log()
    hub = await started(log)
    written: list[dict[str, Any]] = []
    has_ended = False

    def append() -> None:
        seq = len(written) + 1
        log.append(
            "a", "output.appended", record_id=f"r{seq}", stream="out", stream_seq=seq, data=seq
        )
        written.append(following.record_of(FeedItem(log.entries[-1])))

    async def older(after: int) -> Sequence[dict[str, Any]]:
        return written[after : after + page]

    async def is_over() -> bool:
        return has_ended

    append()
    source = FollowedRecords(hub, "a", "out", 0, older, is_over)
    seen: list[int] = []
    while len(seen) < 2:
        if len(seen) == 1 and len(written) == 1:
            append()
        seen += ids_of(await source.take(1.0))
    log.append("a", "run.succeeded")  # of many: more comes
    while source._has_caught_up:
        seen += ids_of(await source.take(1.0))
    for _ in range(behind):
        append()
    log.append("a", "session.closed")
    has_ended = True
    async with asyncio.timeout(BOUND_S):
        while not source.is_closed:
            seen += ids_of(await source.take(1.0))
    assert seen == list(range(1, 3 + behind))
    source.close()
    await hub.stop()


async def test_a_session_that_is_quiet_for_long_is_waited_for_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "KEPT_MAX", 5)
    log = Log()
    log.append("quiet")
    hub = await started(log)
    for _ in range(20):
        log.append("loud")
    await reach(hub, log)
    pages = 0

    async def older(after: int) -> Sequence[FeedItem]:
        nonlocal pages
        pages += 1
        found: Sequence[FeedItem] = await log.older("quiet")(after)
        return found

    source = FollowedEntries(hub, "quiet", 1, older)
    taking = asyncio.create_task(take_until(source, 22))
    await until(lambda: hub.followers == 1)
    assert log.append("quiet") == 22
    assert await taking == [22]
    assert pages == 1
    await hub.stop()


async def test_without_followers_the_ledger_is_asked_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "QUIET_S", 60.0)
    log = Log()
    hub = await started(log)
    log.append()
    await reach(hub, log)
    log.append()
    await asyncio.sleep(0.05)
    assert hub.offset == 1
    source = FollowedEntries(hub, None, 1, log.older(None))
    assert await take_until(source, 2) == [2]
    log.append()
    assert await take_until(source, 3) == [3]
    await hub.stop()


async def test_without_followers_what_is_more_than_a_page_is_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else many commits are heard of ever later, a revoked key among them."""
    monkeypatch.setattr(feed, "QUIET_S", 60.0)
    monkeypatch.setattr(feed, "PAGE_ENTRIES", 5)
    log = Log()
    hub = await started(log)
    for _ in range(52):
        log.append()
    await reach(hub, log)
    await hub.stop()
