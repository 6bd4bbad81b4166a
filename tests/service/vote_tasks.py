"""Tasks whose waits say who may answer."""

from __future__ import annotations

from helmr import sessions, streams, task, tokens

refunds = streams.input("refunds", schema=dict, answerers=["group:finance"], comments=["why"])
"""A stream whose waits are all restricted."""


@task(id="refund")
async def refund(approvals: int) -> list[object]:
    """Asks finance, but not the person who started it; then anyone."""
    first = await refunds.wait(
        subject="Refund?", approvals=approvals, not_by=["starter"], initial={"cents": 5}
    ).unwrap()
    return [first, await refunds.wait(answerers=[], subject="And?").unwrap()]


@task(id="excluding")
async def excluding(_: None) -> object:
    """Asks anyone but contractors."""
    return await refunds.wait(
        subject="Refund?", answerers=[], not_by=["group:contractors"]
    ).unwrap()


@task(id="then_a_token")
async def then_a_token(_: None) -> bool:
    """Asks anyone; then, also in a session that was closed meanwhile, waits on a token for Ada."""
    await refunds.wait(answerers=[], subject="Refund?")
    token = await tokens.create(timeout="1h")
    return (await token.wait(subject="Sign?", assignee="ada")).ok


@task(id="signed_refund")
async def signed_refund(approvals: int) -> object:
    """Asks finance for signed answers."""
    return await refunds.wait(
        subject="Refund?",
        body="A cracked **lens**.",
        approvals=approvals,
        not_by=["starter"],
        signed=True,
    ).unwrap()


@task(id="deputies_sign")
async def deputies_sign(_: None) -> object:
    """Asks finance, or a deputy of one, for two signed answers."""
    return await refunds.wait(
        subject="Refund?", approvals=2, signed=True, deputies=True, tags=["spring"]
    ).unwrap()


@task(id="no_deputies")
async def no_deputies(_: None) -> object:
    """Asks finance and no deputy."""
    return await refunds.wait(subject="Refund?", deputies=False).unwrap()


@task(id="refunds_of_a_day")
async def refunds_of_a_day(_: None) -> object:
    """Has a child ask."""
    return await (await sessions.start(refund, 1)).result().unwrap()


@task(id="refunds_of_a_week")
async def refunds_of_a_week(_: None) -> object:
    """Has a child of a child ask."""
    return await (await sessions.start(refunds_of_a_day, None)).result().unwrap()
