"""Corrections: the menu at an entry, what they would do, the reason and the number, what became of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from textual import events

from helmr_console.screens.session import SessionScreen
from tests.console.flow.bench import Bench
from tests.console.flow.walk import waits_on

SIZES = [(120, 36), pytest.param((80, 24), marks=pytest.mark.long)]


async def posted(bench: Bench, subject: str = "v3") -> dict[str, Any]:
    """A review that somebody approved and that was posted; it waits for a word on it."""
    asked = await bench.ask("review", subject=subject)
    await bench.answer(asked["id"], {"decision": "approve", "note": "fine"})
    await bench.until(partial(waits_on, bench, asked["session"]["id"], "chat"))
    return asked


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
    await bench.sees("[-approve-][+reject+]")
    await bench.sees(f"old key  {step['body']['step_key']}")
    await bench.sees("new key")
    await bench.press("ctrl+s")
    await bench.sees("a reason is wanted")
    await filled(bench, "It was the wrong draft.", "2")
    await bench.press("ctrl+s")
    await bench.sees("2 is not the number of steps in red above")
    assert "type 1" not in bench.text(), "who has not read the list is not told"
    await bench.press("backspace", "1", "ctrl+s")
    await bench.on("SessionScreen")
    run = await bench.stack.run_until(asked["run"]["id"], "succeeded")
    assert run["result"] == {"decision": "reject"}
    (entry, *_) = await bench.entries(session_id, "run.rewound")
    assert entry["body"]["reason"] == "It was the wrong draft."
    assert entry["principal"]["on_behalf_of"] == "ana"
    await bench.sees("rejected v3")
    if size[0] >= 100:
        await bench.sees("set aside   by entry")


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
    await bench.until(partial(waits_on, bench, asked["session"]["id"], "chat"))
    assert (await bench.records(session_id))[-1]["seq"] == 1, "nobody was asked again"
    await bench.until(lambda: screen.transcript.rows.rewinds.known)
    screen.transcript.move_to(3)
    await bench.press("e")
    await bench.sees("entries: again")
    await bench.press("e", "D")
    await bench.on("AttemptsScreen")
    await bench.sees("Attempts 1 and 2")
    await bench.sees("rewound by ana")
    await bench.press("left_square_bracket", "escape")
    await bench.on("SessionScreen")


@pytest.mark.long
async def test_what_changed_since_it_was_looked_at_is_shown_and_asked_again(bench: Bench) -> None:
    asked = await posted(bench)
    session_id = asked["session"]["id"]
    await bench.open()
    await at_entry(bench, session_id, "wait.opened")
    await picked(bench, "Rewind to here")
    screen = await bench.on("CorrectionScreen")
    await filled(bench, "again", "1")
    wait = (await bench.stack.http.get(f"/v1/sessions/{session_id}")).json()["wait"]
    await bench.answer(wait["id"], "fine")
    await bench.stack.run_until(asked["run"]["id"], "succeeded")
    await bench.press("ctrl+s")
    await bench.sees("chat #1")
    await bench.sees("the run has gone on since")
    assert screen.typed.value == "", "who typed the number saw another list"
    await bench.press("1", "ctrl+s")
    await bench.on("SessionScreen")
    run = await bench.stack.run_until(asked["run"]["id"], "succeeded")
    assert run["attempt"] == 2


@pytest.mark.long
async def test_a_correction_whose_answer_was_lost_is_sent_again_as_the_same(bench: Bench) -> None:
    asked = await posted(bench)
    session_id = asked["session"]["id"]
    await bench.open()
    await at_entry(bench, session_id, "wait.opened")
    await picked(bench, "Rewind to here")
    await bench.on("CorrectionScreen")
    await filled(bench, "again", "1")
    bench.wire.lose_next = f"POST /v1/runs/{asked['run']['id']}/rewind ".encode()
    await bench.press("ctrl+s")
    await bench.sees("Outcome unknown")
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    kinds = [entry["kind"] for entry in await bench.entries(session_id)]
    assert kinds.count("run.rewound") == 1


@pytest.mark.long  # tests/http, tests/cli/test_correcting.py
async def test_a_session_is_forked_at_an_entry_and_each_finds_the_other(bench: Bench) -> None:
    asked = await posted(bench)
    session_id = asked["session"]["id"]
    await bench.open()
    await at_entry(bench, session_id, "wait.opened")
    await picked(bench, "Fork here")
    await bench.on("CorrectionScreen")
    await filled(bench, "what if it is rejected")
    await bench.press("ctrl+s")
    await bench.until(
        lambda: (
            getattr(bench.app.screen, "detail", None)
            and bench.app.screen.detail.session_id != session_id
        )
    )
    fork = bench.app.screen.detail.session_id
    await bench.sees("forked at op 2")
    await bench.press("o")
    await bench.until(lambda: bench.app.screen.detail.session_id == session_id)
    await bench.press("escape", "escape")
    assert bench.app.screen.detail.session_id == session_id
    await bench.press("o")
    await bench.until(lambda: bench.app.screen.detail.session_id == fork)
    kinds = [entry["kind"] for entry in await bench.entries(session_id)]
    assert "session.forked" not in kinds, "the origin is not touched"


@pytest.mark.long
async def test_what_an_answer_would_set_off_is_said_and_nothing_is_stored(bench: Bench) -> None:
    asked = await bench.ask("review", subject="v3")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    before = len(await bench.entries(asked["session"]["id"]))
    await bench.press("ctrl+t")
    await bench.sees("fill the form first")
    await bench.press("a", "ctrl+t")
    await bench.on("TextScreen")
    await bench.sees("before step post")
    await bench.press("escape", "r", "ctrl+t")
    await bench.on("TextScreen")
    await bench.sees("rejected v3")
    await bench.sees("the run succeeds")
    await bench.press("escape")
    await bench.on("AnswerScreen")
    assert len(await bench.entries(asked["session"]["id"])) == before
    assert (await bench.wait(asked["id"]))["status"] == "pending"


@pytest.mark.long  # what is no place for it: tests/console/pure/test_set_aside.py
async def test_the_menu_says_why_not_and_read_only_opens_nothing(bench: Bench) -> None:
    asked = await posted(bench)
    await bench.open(read_only=True)
    await at_entry(bench, asked["session"]["id"], "wait.fulfilled")
    await bench.press("c")
    await bench.sees("read-only: started with --read-only")
    await bench.press("enter")
    await bench.on("SessionScreen")
    await bench.until(lambda: any("Amend answer: read-only" in text for text in bench.toasts()))


@pytest.mark.long  # what is no place for it: tests/console/pure/test_set_aside.py
async def test_a_wait_that_nobody_has_answered_is_no_place_to_amend(bench: Bench) -> None:
    asked = await bench.ask("review", subject="v3")
    await bench.open()
    await at_entry(bench, asked["session"]["id"], "wait.opened")
    await bench.press("c")
    await bench.sees("the wait has no answer yet")
    await bench.press("escape")
    await bench.press("right_square_bracket", "c")
    await bench.on("PickScreen")
    await bench.sees(asked["id"])


@pytest.mark.long
async def test_keys_of_a_whole_correction_may_be_typed_ahead(bench: Bench) -> None:
    """From the menu to the number in one burst; only the sending key waits for a reader."""
    asked = await posted(bench)
    session_id = asked["session"]["id"]
    await bench.open(size=(80, 24))
    await at_entry(bench, session_id, "wait.fulfilled")
    burst = ["c", "enter", "r", "ctrl+s", *"wrong", "enter", "1", "ctrl+s"]
    for key in burst:
        bench.app.post_message(events.Key(key, key if len(key) == 1 else None))
    await bench.on("CorrectionScreen")
    await bench.until(lambda: bench.app.shared.keys.is_still)
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    run = await bench.stack.run_until(asked["run"]["id"], "succeeded")
    assert run["result"] == {"decision": "reject"}
