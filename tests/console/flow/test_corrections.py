"""Corrections: the menu at an entry, what they would do, the reason and the number, what became of them."""

from __future__ import annotations

from typing import Any

import pytest

from helmr_console.screens.session import SessionScreen
from tests.console.flow.bench import Bench

SIZES = [(120, 36), (80, 24)]


async def posted(bench: Bench, subject: str = "v3") -> dict[str, Any]:
    """A review that somebody approved and that was posted; it waits for a word on it."""
    asked = await bench.ask("review", subject=subject)
    await bench.answer(asked["id"], {"decision": "approve", "note": "fine"})
    await bench.until(lambda: bench_wait(bench, asked, "chat"))
    return asked


async def bench_wait(bench: Bench, asked: dict[str, Any], stream: str) -> bool:
    """Whether the session waits on that stream."""
    path = f"/v1/sessions/{asked['session']['id']}"
    wait = (await bench.stack.http.get(path)).json()["wait"]
    return wait is not None and wait["stream"] == stream


async def at_entry(bench: Bench, session_id: str, kind: str, *, last: bool = False) -> Any:
    """The session's screen, with the cursor on its first entry of a kind."""
    bench.app.push_screen(SessionScreen(session_id))
    screen = await bench.on("SessionScreen")
    await bench.until(lambda: screen.detail.runs and screen.transcript.current)
    found = [entry["seq"] for entry in await bench.entries(session_id) if entry["kind"] == kind]
    screen.transcript.follow = False
    screen.transcript.move_to(found[-1 if last else 0])
    await bench.pilot.pause()
    return screen


async def picked(bench: Bench, label: str) -> Any:
    """The correction of that name, from the menu."""
    await bench.press("c")
    menu = await bench.on("PickScreen")
    place = [choice.label for choice in menu.choices].index(label)
    await bench.press(*["down"] * place, "enter")
    return bench.app.screen


async def filled(bench: Bench, reason: str, number: str = "") -> None:
    """The reason, and how many steps may run again."""
    await bench.press(*reason)
    if number:
        await bench.press("enter", *number)


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_a_wrong_approval_is_amended_from_its_entry(
    bench: Bench, size: tuple[int, int]
) -> None:
    asked = await posted(bench)
    session_id = asked["session"]["id"]
    (step,) = [
        entry for entry in await bench.entries(session_id)
        if entry["kind"] == "step.started" and entry["body"]["name"] == "post"
    ]  # fmt: skip
    await bench.open(size=size)
    await at_entry(bench, session_id, "wait.fulfilled")
    await picked(bench, "Amend answer")
    await bench.form()
    await bench.sees("(•) approve")
    await bench.press("ctrl+s")
    await bench.sees("that is the answer it has")
    await bench.press("r", "ctrl+s")
    await bench.on("CorrectionScreen")
    await bench.sees('"approve"' if size[0] < 0 else "[-approve-][+reject+]")
    await bench.sees(f"old key  {step['body']['step_key']}")
    await bench.sees("new key")
    await bench.press("ctrl+s")
    await bench.sees("a reason is wanted")
    await filled(bench, "It was the wrong draft.", "2")
    await bench.press("ctrl+s")
    await bench.sees("type 1")
    await bench.press("backspace", "1", "ctrl+s")
    await bench.on("SessionScreen")
    run = await bench.stack.run_until(asked["run"]["id"], "succeeded")
    assert run["result"] == {"decision": "reject"}
    (entry, *_) = await bench.entries(session_id, "run.rewound")
    assert entry["body"]["reason"] == "It was the wrong draft."
    assert entry["principal"]["on_behalf_of"] == "ana"
    await bench.sees("rejected v3")


async def test_a_run_is_taken_back_to_an_entry_and_keeps_its_answer(bench: Bench) -> None:
    asked = await posted(bench)
    session_id = asked["session"]["id"]
    await bench.open()
    screen = await at_entry(bench, session_id, "step.started")
    await picked(bench, "Rewind to here")
    await bench.on("CorrectionScreen")
    await bench.sees("May run again: 2 step(s) that had started")
    await bench.sees("approval #1")
    await bench.sees("A word on v3?")
    await filled(bench, "again", "2")
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    await bench.until(lambda: bench_wait(bench, asked, "chat"))
    assert (await bench.records(session_id))[-1]["seq"] == 1, "nobody was asked again"
    await bench.until(lambda: screen.transcript.rewinds.known)
    screen.transcript.move_to(3)
    await bench.press("e")
    await bench.sees("entries: again")
    await bench.press("e", "D")
    await bench.on("AttemptsScreen")
    await bench.sees("Attempts 1 and 2")
    await bench.sees("rewound by ana")
    await bench.press("left_square_bracket", "escape")
    await bench.on("SessionScreen")
