"""Keys in one write of all their bytes, and what came of it; used by the suite and by the soak."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from helmr.person.review.sending import READS_S
from tests.console.flow.kinds import ENTER, FIRST_ROW, KINDS, REVIEW, RIGHT, SPACE, TAB
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


EVERY_S = 900.0


async def one_schedule(stack: Stack, write: Write, sees: Sees) -> str:
    """Make a schedule in System and delete it, each in one burst up to what is to be read.

    Returns:
        What went wrong, if anything.
    """
    name = f"s{secrets.token_hex(3)}"
    await write(f"4sn{ENTER}{name}{TAB}15m{TAB * 4}text{TAB}Ada{REVIEW}")
    await sees("^s sends it.")
    await write(REVIEW)
    await sees(f"{name} is due next")
    made = (await stack.http.get(f"/v1/schedules/{name}")).json()
    asked = (made.get("task"), made.get("every_s"), made.get("payload"))
    if asked != ("fill", EVERY_S, {"kind": "text", "name": "Ada"}):
        return f"made {asked}"
    await write(f"gX{name}")
    await sees(f"Type to confirm:  {name}")
    await sees(f" {name} ")
    await asyncio.sleep(READS_S)
    await write(REVIEW)
    await sees("Nothing is started by the clock")
    left = (await stack.http.get("/v1/schedules")).json()["items"]
    await write("1")
    await sees("No waits need an answer")
    return f"left {left}" if left else ""


async def one_lost(stack: Stack, write: Write, sees: Sees) -> str:
    """Another answers what is held here; the page that shows both, by a burst. The console holds for some seconds.

    Returns:
        What went wrong, if anything.
    """
    name = secrets.token_hex(3)
    receipt = await stack.started("fill", {"kind": "choice", "name": name})
    await sees(f"Form choice {name}?")
    await write(f"{FIRST_ROW}n")
    await sees("1 of 1 > Form choice")
    await sees("not complete yet")
    await asyncio.sleep(READS_S)
    await write(f"{SPACE}{RIGHT}{SPACE}{TAB}mine")
    await sees('"note": "mine"')
    await write(REVIEW)
    await sees("sends in")
    wait_id = receipt["session"]["wait"]["id"]
    theirs = {"data": {"decision": "approve", "note": name}}
    response = await stack.http.post(
        f"/v1/waits/{wait_id}/answer",
        json={**theirs, "override_claim": True},
        headers={"On-Behalf-Of": "bo"},
    )
    if response.status_code != 200:
        return response.text
    await sees("L shows theirs beside yours")
    await write("41L")
    await sees("─ Conflicts ─")
    await sees(f"{name}?")
    await sees(f'"note": "{name}"')
    await write("\x1b")
    await sees("No waits need an answer")
    path = f"/v1/sessions/{receipt['session']['id']}/inputs/kind-choice"
    records = (await stack.http.get(path)).json()["items"]
    return "" if [one["data"] for one in records] == [theirs["data"]] else f"{records}"
