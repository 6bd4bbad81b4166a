"""Tasks that ask so many times: anyone, one of a group, two of a group."""

from helmr import streams, task

refunds = streams.input("refunds")
FINANCE = ("group:finance",)


@task(id="of-anyone")
async def of_anyone(times: int) -> None:
    for number in range(times):
        await refunds.wait(subject=f"Refund {number}?")


@task(id="of-one")
async def of_one(times: int) -> None:
    for number in range(times):
        await refunds.wait(subject=f"Refund {number}?", answerers=FINANCE)


@task(id="of-two")
async def of_two(times: int) -> None:
    for number in range(times):
        await refunds.wait(subject=f"Refund {number}?", answerers=FINANCE, approvals=2)
