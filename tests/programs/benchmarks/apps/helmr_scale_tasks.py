"""The tasks of the measurements at scale: one that parks for a person, one that works and is over."""

from helmr import step, streams, task

decisions = streams.input("decisions", schema=str)
replies = streams.output("replies", schema=str)


@step
async def look_up(number: int) -> str:
    return f"result {number}"


@task(id="scale-review")
async def review(days: int) -> str:
    """Two steps, then a person's decision within so many days."""
    found = await look_up(1)
    await look_up(2)
    decision = await decisions.wait(
        timeout=days * 86_400,
        subject="Publish the review of pull request 12,345?",
        body=f"The first step found **{found}**. Publish it, or say what is to be changed.",
        correlation_id="acme/service#12345",
    ).unwrap()
    await replies.append(decision)
    return decision


@task(id="scale-work", after_run="close")
async def work(steps: int) -> int:
    """So many steps; its session is closed behind it."""
    for number in range(steps):
        await look_up(number)
    return steps
