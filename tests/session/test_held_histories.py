"""A host keeps the records that its sessions have read, as long as they are what is stored and there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from helmr import TaskContext, streams, task
from helmr.testing import Harness
from helmr_runtime.core.entries import RUNTIME, Entry, EntryKind, Watermark, body_text
from helmr_runtime.session.histories import RECORD_CHARS, Histories

messages = streams.input("messages", schema=str)
turns = streams.output("turns")
seen = streams.output("seen")


@task(id="remembers")
async def remembers(payload: None, ctx: TaskContext) -> None:
    """A run for each message; changes what it has read, which is its own."""
    async for text in messages.iter():
        past = await turns.history()
        await seen.append([one["said"] for one in past])
        for one in past:
            one["said"] = "forged"
        await turns.append({"said": text})
        await ctx.continue_as(None)


def counted(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> list[Watermark]:
    """What is asked of the ledger from now on."""
    asked: list[Watermark] = []
    records = harness.ledger.records

    async def count(session_id: str, watermark: Watermark) -> Sequence[Any]:
        asked.append(watermark)
        return await records(session_id, watermark)

    monkeypatch.setattr(harness.ledger, "records", count)
    return asked


async def test_the_next_runs_of_a_session_ask_the_ledger_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(remembers) as harness:
        session = await harness.start("remembers")
        asked = counted(harness, monkeypatch)
        for text in ("a", "b", "c"):
            await session.send("messages", text)
        assert len(asked) == 1
        await session.kill()  # another host holds it now
        for text in ("d", "e", "f"):
            await session.send("messages", text)
        assert len(asked) == 2
        assert await session.outputs("seen") == [[*"abcdef"[:n]] for n in range(6)]


async def test_what_was_decided_and_not_stored_is_forgotten_with_the_adoption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(remembers) as harness:
        session = await harness.start("remembers")
        for text in ("a", "b"):
            await session.send("messages", text)
        await session.send("messages", "c", settle=False)
        await session.kill()
        for text in ("d", "e"):
            await session.send("messages", text)
        stored = [one["said"] for one in await session.outputs("turns")]
        assert (await session.outputs("seen"))[-1] == stored[:-1]


def entry(seq: int, said: str, session_id: str = "ses_1", stream: str = "turns") -> Entry:
    body = {"record_id": f"rec_{seq}", "stream": stream, "stream_seq": seq, "data": said}
    return Entry(
        session_id=session_id,
        seq=seq,
        recorded_at=datetime(2030, 1, 1, tzinfo=UTC),
        kind=EntryKind.OUTPUT_APPENDED,
        run_id=None,
        op=None,
        principal=RUNTIME,
        body=body,
        body_json=body_text(body),
        hash=b"",
    )


def through(seq: int, *, from_seq: int = 1, without: frozenset[int] = frozenset()) -> Watermark:
    return Watermark("turns", "output", from_seq, seq, without)


def read(bytes_max: int = 1000, sessions: Sequence[str] = ("ses_1",)) -> Histories:
    """Two records of each session."""
    histories = Histories(bytes_max)
    for session_id in sessions:
        bodies = [entry(seq, f"said {seq}").body for seq in (1, 2)]
        histories.keep(session_id, through(2), bodies)
    return histories


def said(found: Sequence[Any] | None) -> list[str] | None:
    return None if found is None else [one.data.decoded() for one in found]


def test_a_read_gets_what_its_watermark_names() -> None:
    histories = read()
    histories.appended(entry(3, "said 3"))
    assert said(histories.of("ses_1", through(3))) == ["said 1", "said 2", "said 3"]
    assert said(histories.of("ses_1", through(2))) == ["said 1", "said 2"]
    assert said(histories.of("ses_1", through(3, from_seq=2))) == ["said 2", "said 3"]
    without = through(3, without=frozenset({2}))
    assert said(histories.of("ses_1", without)) == ["said 1", "said 3"]


@pytest.mark.parametrize(
    "change",
    [
        lambda histories: histories.forget("ses_1"),
        lambda histories: histories.appended(entry(5, "said 5")),  # 3 and 4 came elsewhere
        lambda histories: histories.appended(entry(3, "said 3", stream="other")),
        lambda histories: histories.appended(entry(3, "said 3", session_id="ses_2")),
    ],
    ids=["forgotten", "not all", "another stream", "another session"],
)
def test_what_is_not_all_here_is_asked_of_the_ledger(change: Callable[[Histories], None]) -> None:
    histories = read()
    change(histories)
    assert histories.of("ses_1", through(3)) is None
    assert histories.of("ses_1", through(5)) is None
    assert histories.of("ses_2", through(1)) is None
    inputs = Watermark("turns", "input", 1, 2)
    assert histories.of("ses_1", inputs) is None


def test_a_part_of_a_stream_is_not_kept() -> None:
    histories = Histories()
    histories.keep("ses_1", through(2, from_seq=2), [entry(2, "said 2").body])
    histories.keep("ses_1", through(2), [entry(2, "said 2").body])
    assert histories.of("ses_1", through(2, from_seq=2)) is None


def test_the_session_that_was_asked_longest_ago_makes_room() -> None:
    size = sum(len(f'"said {seq}"') + RECORD_CHARS for seq in (1, 2))
    histories = read(2 * size, ("ses_1", "ses_2"))
    assert histories.of("ses_1", through(2)) is not None
    histories.appended(entry(3, "said 3", session_id="ses_1"))
    assert histories.of("ses_2", through(2)) is None
    assert histories.of("ses_1", through(3)) is not None
    assert read(2 * size - 1, ("ses_1", "ses_2")).of("ses_1", through(2)) is None
    assert read(0).of("ses_1", through(2)) is None
