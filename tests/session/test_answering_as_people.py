"""The harness answers as people, where a wait says who may."""

from __future__ import annotations

import pytest

from helmr.errors import NotAnAnswerer
from helmr.testing import Harness
from tests.service.vote_tasks import refund, signed_refund

YES = {"cents": 5}


async def test_two_people_of_a_group_end_a_wait_and_others_do_not() -> None:
    async with Harness(refund) as harness:
        session = await harness.start(refund, 2)
        with pytest.raises(NotAnAnswerer, match="by 2 people: group finance"):
            await session.answer(YES)
        with pytest.raises(NotAnAnswerer):
            await session.answer(YES, on_behalf_of="ada")
        with pytest.raises(NotAnAnswerer):
            await session.answer(YES, person="cy", groups=["sales"])
        first = await session.answer(YES, person="ada", groups=["finance"])
        assert (first["outcome"], first["have"]) == ("voted", 1)
        await session.answer(YES, person="bo", groups=["finance"])
        await session.answer({"cents": 6}, person="cy")
        assert await session.result() == [YES, {"cents": 6}]


async def test_a_wait_for_signed_answers_takes_one_as_if_it_were_signed() -> None:
    async with Harness(signed_refund) as harness:
        session = await harness.start(signed_refund, 1)
        with pytest.raises(NotAnAnswerer):
            await session.answer(YES)
        await session.answer(YES, person="ada", groups=["finance"])
        assert await session.result() == YES
