"""Results of steps that hold bytes: any come back as they were, and journals of earlier releases are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from helmr import step, streams, task
from helmr.errors import SchemaMismatch
from helmr.testing import Harness, RunFailed
from helmr.wire.schema import Codec, StoredCodec

go = streams.input("go", schema=bool)


class Picture(BaseModel):
    name: str
    data: bytes


@dataclass
class Album:
    pictures: dict[str, list[Picture | None]] = field(default_factory=dict)
    cover: tuple[bytes, int] = (b"", 0)


def stored(type_: Any) -> StoredCodec[Any]:
    return StoredCodec(type_, what="it")


@given(st.binary())
def test_any_bytes_come_back(value: bytes) -> None:
    codec = stored(bytes)
    assert codec.decode(codec.encode(value)) == value


@given(st.lists(st.binary(max_size=5), max_size=4), st.binary(max_size=5), st.text(max_size=5))
def test_any_bytes_within_a_value_come_back(some: list[bytes], cover: bytes, name: str) -> None:
    codec = stored(Album)
    value = Album({name: [*(Picture(name=name, data=one) for one in some), None]}, (cover, 7))
    encoded = codec.encode(value)
    assert codec.decode(encoded) == value


def test_text_stays_what_journals_of_earlier_releases_hold() -> None:
    picture = Picture(name="a", data=b"text")
    assert stored(Picture).encode(picture) == {"name": "a", "data": "text"}
    assert stored(Picture).decode({"name": "a", "data": "text"}) == picture
    assert stored(bytes).decode("étage") == "étage".encode()


def test_bytes_that_are_no_text_stand_in_an_envelope() -> None:
    encoded = stored(Picture).encode(Picture(name="a", data=b"\x00\xff"))
    assert encoded == {"$bytes": [["data"]], "$value": {"name": "a", "data": "AP8="}}


def test_a_value_that_looks_like_an_envelope_comes_back() -> None:
    codec = stored(dict[str, list[list[str]] | str | bytes])
    value = {"$bytes": [["$value"]], "$value": "AP8="}
    assert codec.decode(codec.encode(value)) == value


def test_values_without_bytes_are_encoded_as_ever() -> None:
    value: Any = {"$bytes": [], "$value": 1}
    assert stored(Any).encode(value) == Codec(Any, what="it").encode(value)
    assert stored(Any).decode(value) == value


def test_bytes_without_a_type_say_what_to_do() -> None:
    with pytest.raises(SchemaMismatch) as refused:
        stored(Any).encode(b"\xff")
    assert "Base64Bytes" in str(refused.value.hint)


@step
def raw(size: int) -> bytes:
    return b"\x00\xff" * size


@step
async def picture() -> Picture:
    return Picture(name="a", data=b"\xff\xd8\xff")


@task(id="reads-bytes")
async def reads_bytes(size: int) -> list[Any]:
    first = await raw(size)
    await go.wait()
    return [len(first), first[:2].hex(), (await picture()).data.hex()]


@pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])
async def test_a_step_may_return_bytes(replay_always: bool) -> None:
    async with Harness(reads_bytes, replay_always=replay_always) as harness:
        session = await harness.start("reads-bytes", 1)
        await session.kill()
        await session.send("go", True)
        assert await session.result() == [2, "00ff", "ffd8ff"]


async def test_a_result_that_is_too_large_says_so_by_its_code() -> None:
    async with Harness(reads_bytes) as harness:
        session = await harness.start("reads-bytes", 1_000_000)
        with pytest.raises(RunFailed):
            await session.result()
        error = await session.error()
        assert error is not None
        assert (error["code"], error["type"]) == ("too_large", "TooLarge")
        assert "step raw (op 1)" in error["message"]
        assert "the limit is 1048576" in error["message"]
