"""What emits waits for nobody: not for the host's loop, and not for a reader (S-90)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from helmr_runtime.core.chunks import Chunk, ChunkNews, ChunkPlace
from helmr_runtime.session.emissions import ChunkPolls


@pytest.mark.allows_blocking
async def test_a_thousand_chunks_are_emitted_while_the_hosts_loop_is_held_up() -> None:
    polls = ChunkPolls(None)
    emissions = polls.open("ses_1", epoch=3)
    reading = asyncio.create_task(polls.take({"ses_1": ChunkPlace(3, 0)}, 30.0))
    await asyncio.sleep(0)

    def speak() -> None:
        for number in range(1_000):
            emissions.emit("out", 1, str(number))

    thread = threading.Thread(target=speak)
    thread.start()
    thread.join(10)  # this holds the loop up
    assert not thread.is_alive()
    assert not reading.done()
    [told] = (await reading).sessions
    assert [item.number for item in told.items] == list(range(1, 1_001))


async def test_a_read_goes_on_where_the_last_one_ended() -> None:
    polls = ChunkPolls(None)
    emissions = polls.open("ses_1", epoch=3)
    emissions.emit("out", None, "1")
    [begun] = (await polls.take({"ses_1": None}, 0.0)).sessions
    assert begun.items == ()  # who begins has missed nothing
    assert await polls.take({"ses_1": begun.place}, 0.0) == ChunkNews()
    emissions.emit("out", None, "2")
    [told] = (await polls.take({"ses_1": begun.place}, 0.0)).sessions
    assert told.items == (Chunk("out", None, 2, "2"),)


async def test_what_a_session_said_last_is_told_after_it_has_left_and_once() -> None:
    polls = ChunkPolls(None)
    emissions = polls.open("ses_1", epoch=3)
    emissions.emit("out", None, "1")
    emissions.close()
    [told] = (await polls.take({"ses_1": ChunkPlace(3, 0)}, 0.0)).sessions
    assert len(told.items) == 1
    assert (await polls.take({"ses_1": told.place}, 0.0)).gone == ("ses_1",)
    again = polls.open("ses_1", epoch=4)
    again.emit("out", None, "2")
    [told] = (await polls.take({"ses_1": told.place}, 0.0)).sessions
    assert (told.place.epoch, [item.number for item in told.items]) == (4, [1])


async def test_a_session_that_is_not_here_is_gone_and_holds_nobody_up() -> None:
    polls = ChunkPolls(None)
    polls.open("ses_1", epoch=1)
    known = {"ses_1": ChunkPlace(1, 0), "ses_2": ChunkPlace(5, 9)}
    assert await polls.take(known, 30.0) == ChunkNews(gone=("ses_2",))
