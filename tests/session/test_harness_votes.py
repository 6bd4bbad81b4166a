"""What `session.wait()` of the harness shows of a wait that several people must agree on."""

from __future__ import annotations

from helmr import streams, task
from helmr.testing import Harness

refund = streams.input("refund", schema=int, answerers=["group:finance"], approvals=2)
alone = streams.input("alone", schema=int)


@task(id="refunds", streams=[refund, alone])
async def refunds(payload: None) -> int:
    return await refund.wait().unwrap() + await alone.wait().unwrap()


async def test_votes_are_shown_with_what_each_person_stands_for() -> None:
    async with Harness(refunds) as harness:
        session = await harness.start(refunds, None)
        assert (await session.wait())["votes"] == []
        for person, amount in (("ada", 1000), ("bob", 4200), ("ada", 1200)):
            await session.answer(amount, person=person, groups=["finance"])
        votes = (await session.wait())["votes"]
        assert {one["person"]: one["data"] for one in votes} == {"ada": 1200, "bob": 4200}
        assert len({one["proposal"] for one in votes}) == 2
        await session.answer(4200, person="ada", groups=["finance"])
        assert "votes" not in await session.wait()
