"""From a session to its children and to its parent, one key apart."""

from __future__ import annotations

from typing import Any

from helmr.person.review.words import short_id
from tests.console.flow.bench import Bench


async def shows(bench: Bench, session_id: str) -> Any:
    """The session's screen, once it is in front and was read."""
    await bench.until(
        lambda: getattr(getattr(bench.app.screen, "detail", None), "session_id", "") == session_id
    )
    screen = bench.app.screen
    await bench.until(lambda: screen.detail.runs and screen.transcript.current is not None)
    return screen


async def children_of(bench: Bench, session_id: str, count: int) -> list[str]:
    """Its children, once there are so many."""
    found: list[str] = []

    async def are_there() -> bool:
        path = f"/v1/sessions?parent={session_id}"
        found[:] = [one["id"] for one in (await bench.stack.http.get(path)).json()["items"]]
        return len(found) == count

    await bench.until(are_there)
    return found


async def opened(bench: Bench, session_id: str) -> Any:
    """The session, opened by its id from the list."""
    await bench.open()
    await bench.press("2")
    await bench.on("SessionsScreen")
    await bench.press("slash", *session_id, "enter")
    return await shows(bench, session_id)


async def test_one_key_leads_to_an_only_child_and_back_to_the_parent(bench: Bench) -> None:
    asked = await bench.ask("delegate", subject="Publish?")
    parent = asked["session"]["id"]
    [child] = await children_of(bench, parent, 1)
    await opened(bench, parent)
    await bench.sees("waits for ses…")
    await bench.sees(f"publish  {short_id(child)}, o")
    await bench.press("right_square_bracket", "o")
    await shows(bench, child)
    await bench.sees("started publish, child of ses…")
    await bench.press("o")
    await shows(bench, parent)


async def test_several_children_are_picked_from_and_a_line_opens_its_own(bench: Bench) -> None:
    asked = await bench.ask("delegate", subject="Publish?", rounds=2)
    parent = asked["session"]["id"]
    newest, oldest = await children_of(bench, parent, 2)
    screen = await opened(bench, parent)
    await bench.sees("waits for 2 sessions to end")
    await bench.press("o")
    await bench.on("PickScreen")
    await bench.sees(f"{newest}  Publish?")
    await bench.sees(oldest)
    await bench.press("escape")
    entries = await bench.entries(parent)
    line = next(one["seq"] for one in entries if one["body"].get("value") == oldest)
    screen.transcript.follow = False
    screen.transcript.move_to(line)
    await bench.press("o")
    await shows(bench, oldest)
