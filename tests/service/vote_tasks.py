"""Tasks whose waits say who may answer."""

from __future__ import annotations

from helmr import streams, task

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
