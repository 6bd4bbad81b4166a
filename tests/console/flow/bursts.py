"""Forms filled by one write of all their bytes, and what was then sent; used by the suite and by the soak."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from tests.console.flow.kinds import FIRST_ROW, KINDS, REVIEW
from tests.service.stack import Stack

Write = Callable[[str], Awaitable[None]]
Sees = Callable[[str], Awaitable[None]]


async def one_form(stack: Stack, kind: str, write: Write, sees: Sees) -> dict[str, Any]:
    """Ask for a form, fill it in one burst from the inbox to the review, send it; what the ledger has."""
    name = secrets.token_hex(3)
    receipt = await stack.started("fill", {"kind": kind, "name": name})
    session = receipt["session"]
    await sees(f"Form {kind} {name}?")
    await write(f"{FIRST_ROW}a{KINDS[kind].typed}{REVIEW}")
    await sees("^s sends it.")
    await write(REVIEW)
    await sees("No waits need an answer")
    await stack.run_until(receipt["run"]["id"], "succeeded")
    path = f"/v1/sessions/{session['id']}/inputs/kind-{kind}"
    records: list[dict[str, Any]] = (await stack.http.get(path)).json()["items"]
    assert len(records) == 1, records
    data: dict[str, Any] = records[0]["data"]
    return data
