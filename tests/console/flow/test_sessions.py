"""Sessions: transcript, corrections, notes, cancel, close, retry, activity."""

from __future__ import annotations

import pytest

from helmr_console.screens.session import SessionScreen
from tests.console.flow.bench import Bench


async def opened(bench: Bench, session_id: str) -> object:
    bench.app.push_screen(SessionScreen(session_id))
    screen = await bench.on("SessionScreen")
    await bench.until(lambda: screen.detail.runs)
    await bench.pilot.pause()
    return screen


async def test_a_transcript_is_followed_live(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", say=["first", "second"])
    await bench.open()
    screen = await opened(bench, wait["session"]["id"])
    await bench.sees("said: second")
    await bench.answer(wait["id"], {"decision": "approve"})
    await bench.sees("succeeded")
    assert screen.transcript.follow
    await bench.press("k")
    await bench.sees("follow off")
    await bench.press("G", "enter")
    await bench.on("TextScreen")
    await bench.press("escape")
    await bench.advance(2)
    for text in ("Publish?", "succeeded"):
        await bench.press("right_square_bracket")
        await bench.sees(text)


@pytest.mark.long
async def test_a_long_transcript_opens_at_its_end_without_reading_the_rest(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", say=[f"word {n}" for n in range(600)])
    await bench.open()
    screen = await opened(bench, wait["session"]["id"])
    await bench.sees("word 599")
    session = (await bench.stack.http.get(f"/v1/sessions/{wait['session']['id']}")).json()
    assert screen.transcript.seq == screen.transcript.count == session["last_seq"] > 600
    assert len(screen.transcript.pages.held) <= 2, "what is on screen, and no more"
    await bench.press("g")
    await bench.sees("started publish")


@pytest.mark.parametrize(
    ("stream", "correlation", "effect", "outcome"),
    [
        ("approval", None, "fulfilled", "fulfilled"),
        # What it will do: tests/console/pure/test_effects.py.
        *(
            pytest.param(*one, marks=pytest.mark.long)
            for one in [
                ("approval", "KEY-1", "yours differs in case", "unmatched"),
                ("approval", "other", "unmatched: the open wait is for key-1", "unmatched"),
                ("chat", None, "buffered: no wait is open on chat", "buffered"),
            ]
        ),
    ],
)
async def test_sending_input_says_before_what_it_will_do(
    bench: Bench, stream: str, correlation: str | None, effect: str, outcome: str
) -> None:
    wait = await bench.ask(subject="Publish?", correlation="key-1", rounds=2)
    await bench.open()
    await opened(bench, wait["session"]["id"])
    await bench.press("i")
    screen = await bench.form()
    if stream == "chat":
        screen.choice.focus()
        await bench.press("right", "space")
        await bench.until(lambda: screen.form is not None and "$" in screen.form.rows)
        screen.form.focus_first()
        await bench.press(*"hello")
    else:
        await bench.press("space")
    if correlation is not None:
        screen.correlation.value = correlation
        await bench.pilot.pause()
    await bench.sees(effect)
    await bench.press("ctrl+s")
    await bench.sees("It will do this")
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    await bench.until(
        lambda: any(outcome in text.replace("the wait is ", "") for text in bench.toasts())
    )
    (record,) = await bench.records(wait["session"]["id"], stream)
    entries = (
        await bench.stack.http.get(f"/v1/sessions/{wait['session']['id']}/transcript")
    ).json()
    accepted = next(e for e in entries["items"] if e["kind"] == "input.accepted")
    assert accepted["body"]["outcome"] == outcome
    assert record["principal"]["on_behalf_of"] == "ana"


@pytest.mark.long  # tests/http/test_sessions.py
async def test_a_note_is_written_and_wakes_nobody(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open()
    await opened(bench, wait["session"]["id"])
    await bench.press("m")
    await bench.form()
    await bench.press(*"seen", "ctrl+s", "ctrl+s")
    await bench.on("SessionScreen")
    await bench.sees("seen")
    (note,) = await bench.entries(wait["session"]["id"], "note.added")
    assert note["body"]["text"] == "seen"
    assert note["principal"]["on_behalf_of"] == "ana"
    assert (await bench.wait(wait["id"]))["status"] == "pending"
    await bench.press("escape", "3")
    await bench.on("ActivityScreen")
    await bench.sees("seen")


@pytest.mark.long
async def test_a_page_without_a_form_stays_whatever_key_of_a_form_is_pressed(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open(size=(80, 24))
    await opened(bench, wait["session"]["id"])
    await bench.press("X")
    await bench.on("ConfirmScreen")
    await bench.press("f2", "f3", "f4", "f9", "ctrl+n", "ctrl+r")
    await bench.sees("seven characters to confirm")
    assert (await bench.wait(wait["id"]))["status"] == "pending"


async def test_cancelling_asks_for_the_id(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    session_id = wait["session"]["id"]
    await bench.open()
    await opened(bench, session_id)
    await bench.press("X")
    screen = await bench.on("ConfirmScreen")
    await bench.sees("seven characters to confirm")
    await bench.press("ctrl+s")
    await bench.sees("to confirm")
    screen.typed.value = session_id[:-1]
    await bench.press("ctrl+s")
    assert (await bench.wait(wait["id"]))["status"] == "pending"
    screen.typed.value = session_id
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    session = (await bench.stack.http.get(f"/v1/sessions/{session_id}")).json()
    assert session["status"] == "cancelled"
    held = await bench.entries(session_id, "wait.cancelled")
    assert [entry["kind"] for entry in held] == [
        "wait.cancelled",
        "run.cancelled",
        "session.cancelled",
    ]
    assert held[-1]["principal"]["on_behalf_of"] == "ana"
    assert (await bench.wait(wait["id"]))["status"] == "cancelled"
    await bench.advance(2)
    await bench.until(lambda: bench.app.screen.detail.summary.status.value == "cancelled")
    await bench.press("i")
    await bench.until(lambda: any("the session is cancelled" in text for text in bench.toasts()))


@pytest.mark.long  # tests/http/test_sessions.py
async def test_closing_ends_the_input_it_waits_for(bench: Bench) -> None:
    wait = await bench.ask("talk", subject="-")
    session_id = wait["session"]["id"]
    await bench.open()
    screen = await opened(bench, session_id)
    await screen.perform("session.close")
    confirm = await bench.on("ConfirmScreen")
    await bench.sees("end the input it waits for")
    confirm.typed.value = session_id
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    run = await bench.stack.run_until(wait["run"]["id"], "succeeded")
    assert run["result"] == 0, "it went on without a message"
    held = await bench.entries(session_id, "wait.cancelled")
    assert [entry["kind"] for entry in held] == [
        "wait.cancelled",
        "session.closed",
        "run.succeeded",
    ]
    assert held[1]["body"]["end_input"] is True
    assert held[1]["principal"]["on_behalf_of"] == "ana"


async def test_a_failed_run_is_retried_after_its_effect_was_read(bench: Bench) -> None:
    asked = await bench.ask("break", subject="boom")
    await bench.stack.run_until(asked["run"]["id"], "failed")
    await bench.open()
    await opened(bench, asked["session"]["id"])
    await bench.sees("boom")
    await bench.press("R")
    await bench.on("ConfirmScreen")
    await bench.sees("attempt 2 starts")
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")

    async def again() -> bool:
        run = (await bench.stack.http.get(f"/v1/runs/{asked['run']['id']}")).json()
        return run["attempt"] == 2 and run["status"] == "failed"

    await bench.until(again)
    held = await bench.entries(asked["session"]["id"], "run.failed")
    assert [entry["kind"] for entry in held] == [
        "run.failed", "run.retried", "run.started", "run.failed",
    ]  # fmt: skip
    assert held[1]["body"]["attempt"] == 2
    assert held[1]["principal"]["on_behalf_of"] == "ana"


@pytest.mark.long  # tests/console/pure/test_entries.py
async def test_two_entries_are_compared(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", say=["two findings", "three findings"])
    await bench.open()
    screen = await opened(bench, wait["session"]["id"])
    await bench.sees("three findings")
    said = [
        seq
        for seq in range(1, screen.transcript.count)
        if screen.transcript.entry(seq).kind == "output.appended"
    ]
    first = said[0]
    await bench.press("g")
    screen.transcript.move_to(first)
    await bench.press("space", "j", "d")
    await bench.on("TextScreen")
    await bench.sees("[-two-][+three+] findings")


@pytest.mark.long  # tests/console/pure/test_entries.py
async def test_the_transcript_is_searched(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", say=[f"line {n}" for n in range(40)])
    await bench.open()
    screen = await opened(bench, wait["session"]["id"])
    await bench.press("slash", *"line 7", "enter")
    await bench.until(
        lambda: "line 7" in str(screen.transcript.current and screen.transcript.current.body)
    )
    await bench.press("slash", *"absent", "enter")
    await bench.sees("not found")


@pytest.mark.long  # the words: tests/console/pure/test_entries.py
async def test_activity_tells_who_did_what(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.answer(wait["id"], {"decision": "edit", "note": "by hand"}, person="ben")
    await bench.open()
    await bench.press("3")
    screen = await bench.on("ActivityScreen")
    await bench.until(lambda: screen.list.keys)
    await bench.sees("ben")
    await bench.press("slash", *"by:ben*", "enter")
    await bench.sees("by hand")
    await bench.press("4")
    await bench.on("SystemScreen")
    await bench.sees("ready")
    await bench.press("minus")
    await bench.on("ActivityScreen")


@pytest.mark.long
async def test_the_raw_tab_keeps_the_keys_when_something_closed_over_it(bench: Bench) -> None:
    await bench.ask()
    await bench.open()
    await bench.inbox(1)
    await bench.press("o")
    await bench.on("SessionScreen")
    await bench.press("left_square_bracket")
    await bench.sees("[Raw]")
    await bench.press("i")
    await bench.form()
    await bench.press("escape")
    await bench.on("SessionScreen")
    await bench.press("m")
    await bench.on("NoteScreen")


def place_of(bench: Bench, text: str, *, last: bool = False) -> tuple[int, int]:
    """Where a text that was said begins, or ends, on the terminal."""
    for y, line in enumerate(bench.text().splitlines()):
        if "said: " in line and text in line:
            return line.index(text) + (len(text) - 1 if last else 0), y
    raise AssertionError(f"{text!r} is not on:\n{bench.text()}")


@pytest.mark.long
async def test_text_of_the_transcript_is_chosen_with_the_mouse_and_copied(bench: Bench) -> None:
    wait = await bench.ask(say=["first", "second \x1b[31mred"])
    await bench.open()
    screen = await opened(bench, wait["session"]["id"])
    await bench.sees("said: second")
    start = place_of(bench, "first")
    end = place_of(bench, "red", last=True)
    await bench.pilot.mouse_down(offset=start)
    await bench.pilot.hover(offset=end)
    await bench.pilot.mouse_up(offset=end)
    await bench.press("ctrl+c")
    copied = bench.app.clipboard.splitlines()
    assert copied[0].startswith("first")
    assert copied[-1].endswith("second ␛[31mred")
    assert any(text.startswith("Copied ") for text in bench.toasts())
    await bench.press("y")
    await bench.sees("selection")
    await bench.press("escape")
    await bench.on("SessionScreen")
    assert screen.transcript.seq >= 1
