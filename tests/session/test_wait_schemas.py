"""A wait's own schema, in the code and in what people send (S-71)."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from helmr import streams, task
from helmr.errors import BadSchema, SchemaMismatch
from helmr.wait_details import WaitDetails
from helmr_runtime.replay.durable_context import _check_own_schema

words = streams.input("own-words", schema=str)


class Short(BaseModel):
    word: Literal["yes", "no"]


class Picky(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def _polite(cls, value: str) -> str:
        if value == "rude":
            raise ValueError("not like that")
        return value


@task
async def narrow(payload: Any) -> list[str]:
    """One of two words, then any."""
    first = await words.wait(schema=Literal["yes", "no"]).unwrap()
    return [first, await words.wait().unwrap()]


@task
async def other(payload: Any) -> str:
    """An answer that the stream itself would not take."""
    return (await words.wait(schema=Picky).unwrap()).word


async def test_a_send_must_fit_the_stream_and_matches_only_if_it_fits_the_wait(harness) -> None:
    async with harness(narrow) as h:
        session = await h.start("narrow")
        with pytest.raises(SchemaMismatch):
            await session.send("own-words", 5)
        assert (await session.send("own-words", "perhaps"))["outcome"] == "unmatched"
        assert (await session.send("own-words", "yes"))["outcome"] == "fulfilled"
        assert await session.result() == ["yes", "perhaps"]


async def test_an_answer_is_checked_by_the_waits_schema_instead_of_the_streams(harness) -> None:
    async with harness(other) as h:
        session = await h.start("other")
        with pytest.raises(SchemaMismatch):
            await session.answer("a word")
        await session.answer({"word": "please"})
        assert await session.result() == "please"


async def test_an_answer_that_only_a_validator_refuses_blocks_the_run(harness) -> None:
    async with harness(other) as h:
        session = await h.start("other")
        await session.answer({"word": "rude"})
        assert (await session.error())["code"] == "schema_mismatch"


def test_a_schema_that_can_not_be_used_is_told_to_the_code() -> None:
    with pytest.raises(BadSchema):
        _check_own_schema(WaitDetails(schema={"type": "string", "pattern": "(?=a)b"}))
    with pytest.raises(SchemaMismatch):
        _check_own_schema(WaitDetails(schema={"type": "integer"}, on_decline="no"))
    escalation_step = {"do": "default", "after_s": 1.0, "from": "opened", "value": "no"}
    with pytest.raises(SchemaMismatch):
        _check_own_schema(WaitDetails(schema={"type": "integer"}, escalation=(escalation_step,)))
