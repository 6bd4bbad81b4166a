"""What pyright refuses of a result that is tested for truth; checked by `test_typing.py`, never run.

mypy has no error for it, but that the line after such an `if` can't be reached.
"""

from __future__ import annotations

from helmr import Approval, Client, ask_approval, streams

approvals = streams.input("approvals", schema=Approval)
flag = streams.input("flag", schema=bool)


async def an_approval() -> str:
    said = await ask_approval(approvals, "refund", {})
    return "paid" if said else "not"  # pyright: ignore[reportGeneralTypeIssues]


async def a_wait() -> str:
    return "paid" if await flag.wait() else "not"  # pyright: ignore[reportGeneralTypeIssues]


async def a_receipt(client: Client) -> str:
    receipt = client.waits.answer("wait_1", True)
    return "not" if not receipt else "sent"  # pyright: ignore[reportGeneralTypeIssues]
