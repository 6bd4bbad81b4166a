"""The answer reaches exactly the wait that was looked at, and nobody loses their text (S-18)."""

from __future__ import annotations

import asyncio

import pytest
from textual import events
from textual.widget import Widget

from helmr.client.aio import AsyncClient
from tests.console.flow.bench import Bench

APPROVE = {"decision": "approve"}


async def test_the_first_wait_is_answered_in_four_keys_and_the_session_goes_on(
    bench: Bench,
) -> None:
    first = await bench.ask(subject="Publish A?", timeout="5m", correlation="github:acme/api#1")
    await bench.ask(subject="Publish B?", timeout="30m")
    await bench.open()
    inbox = await bench.inbox(2)
    assert inbox.list.cursor == first["id"], (
        "the most urgent is under the cursor with no key pressed"
    )
    await bench.press("a")
    await bench.form()
    await bench.press("space", "ctrl+s")
    await bench.sees('"decision": "approve"')
    await bench.sees("As  ana")
    assert (await bench.wait(first["id"]))["status"] == "pending", (
        "nothing leaves before its review"
    )
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    await bench.stack.run_until(first["run"]["id"], "succeeded")
    wait = await bench.wait(first["id"])
    assert (wait["status"], wait["resolved_by"]["on_behalf_of"]) == ("fulfilled", "ana")
    session_id = first["session"]["id"]
    held = await bench.entries(session_id, "input.accepted")
    assert [entry["kind"] for entry in held] == [
        "input.accepted",
        "wait.fulfilled",
        "run.succeeded",
    ]
    assert held[0]["body"]["data"] == {"decision": "approve"}, "what was not typed was not sent"
    assert held[0]["body"]["correlation_id"] == "github:acme/api#1"
    assert {entry["principal"].get("on_behalf_of") for entry in held[:2]} == {"ana"}
    assert any("Accepted: Publish A?" in text for text in bench.toasts())
    assert inbox.list.cursor != first["id"], "the cursor goes on to the next wait"


@pytest.mark.long  # tests/review/test_drafts_and_batches.py
async def test_what_was_accepted_is_no_draft_any_more_whenever_its_typing_is_told_of(
    bench: Bench,
) -> None:
    asked = await bench.ask(subject="Publish A?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    form = await bench.form()
    await bench.press("space", "ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    await form.keep()  # as by a timer that a busy processor lets fire late
    kept = await asyncio.to_thread(bench.app.shared.files.drafts.wait_ids)
    assert asked["id"] not in kept


@pytest.mark.long
async def test_a_closed_form_keeps_nothing_of_what_it_has_drawn(bench: Bench) -> None:
    """What is kept stays until a full collection, for which the console stands still: the longer, the more there is."""
    await bench.ask(subject="Publish A?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    form = await bench.form()
    assert "Publish A?" in bench.text()
    parts = [form, *form.walk_children(Widget)]
    drawn = sum(len(part._styles_cache._cache) for part in parts)
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.until(lambda: not form.is_running)
    assert drawn > 20
    assert not any(part._styles_cache._cache for part in parts)


@pytest.mark.long
async def test_rows_that_vanish_above_an_open_form_do_not_change_what_is_answered(
    bench: Bench,
) -> None:
    above = [await bench.ask(subject=f"Above {n}?", timeout=f"{n + 1}m") for n in range(3)]
    meant = await bench.ask(subject="Meant?", timeout="20m")
    below = await bench.ask(subject="Below?", timeout="25m")
    await bench.open()
    await bench.inbox(5)
    await bench.press("j", "j", "j", "a")
    screen = await bench.form()
    assert screen.wait_id == meant["id"]
    for wait in above:
        await bench.answer(wait["id"], APPROVE)
    await bench.until(lambda: len(bench.app.shared.store.waits) == 2)
    await bench.press("space", "ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    assert (await bench.wait(meant["id"]))["status"] == "fulfilled"
    assert (await bench.wait(below["id"]))["status"] == "pending"


async def test_somebody_answers_while_the_form_is_open(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="5m")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", "m", "i", "n", "e")
    await bench.answer(wait["id"], {"decision": "reject", "note": "theirs"})
    await bench.sees("The wait is fulfilled by ben")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.until(lambda: any("Not sent" in text for text in bench.toasts()))
    assert screen.form.cells()["note"] == "mine", "the text is kept"
    assert [r["data"]["note"] for r in await bench.records(wait["session"]["id"])] == ["theirs"]


@pytest.mark.long  # tests/review/test_outcome.py
async def test_somebody_is_first_by_a_blink_and_both_answers_are_shown(bench: Bench) -> None:
    """The 409 of the gateway, met because the feed had not told yet."""
    wait = await bench.ask(subject="Publish?", timeout="5m")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "ctrl+s")
    bench.app.shared.store.ended.clear()
    screen.over = lambda: ""  # what the screen would know had the feed not come
    await bench.answer(wait["id"], {"decision": "reject", "note": "theirs"})
    await bench.press("ctrl+s")
    await bench.sees("Not sent: already answered")
    await bench.sees("answered by ben")
    await bench.sees("~ decision")
    assert screen.form.cells()["decision"] == 0
    assert len(await bench.records(wait["session"]["id"])) == 1


@pytest.mark.long  # tests/review/test_outcome.py
async def test_the_deadline_passes_while_the_form_is_open(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="30s")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", "h", "i")
    await bench.advance(31)
    await bench.sees("timed out")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.until(lambda: any("Not sent" in text for text in bench.toasts()))
    assert screen.form.cells()["note"] == "hi"
    assert (await bench.wait(wait["id"]))["status"] == "timed_out"
    assert await bench.records(wait["session"]["id"]) == []


async def test_the_gateway_dies_while_the_form_is_open_and_comes_back(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", "k", "e", "p", "t")
    await bench.wire.cut()
    await bench.advance(6)
    await bench.sees("STALE")
    await bench.press("ctrl+s")
    await bench.until(lambda: any("not answering" in text for text in bench.toasts()))
    assert screen.form.cells()["note"] == "kept"
    await bench.wire.start()
    await bench.advance(12)
    await bench.sees("live")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    assert (await bench.wait(wait["id"]))["status"] == "fulfilled"


async def test_an_answer_whose_reply_is_lost_is_sent_again_as_the_same_operation(
    bench: Bench,
) -> None:
    wait = await bench.ask(subject="Publish?", rounds=2)
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    await bench.press("space", "ctrl+s")
    bench.wire.lose_next = b"POST"
    await bench.press("ctrl+s")
    await bench.sees("Outcome unknown")
    assert bench.wire.lost == 1
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    assert len(await bench.records(wait["session"]["id"])) == 1, "sent twice, stored once"


@pytest.mark.long  # a key held down sends once too: test_hurried.py
async def test_sending_twice_sends_once(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", rounds=2)
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    await bench.press("space", "ctrl+s")
    await bench.until(lambda: bench.app.shared.keys.held.looks_at_s is None)
    await bench.pilot.press("ctrl+s", "ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    assert len(await bench.records(wait["session"]["id"])) == 1


@pytest.mark.long  # tests/review/test_drafts_and_batches.py
async def test_a_draft_survives_a_crash(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", *"kept")

    async def is_kept() -> bool:
        load, schema = bench.app.shared.files.drafts.load, screen.form.form.schema_hash
        draft = await asyncio.to_thread(load, wait["id"], schema)
        return draft is not None and draft.cells["note"] == "kept"

    await bench.until(is_kept)  # a pause in typing saves what was typed until then
    await bench.close()  # nothing is asked of the screen: what is on disk is all there is
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.sees("draft restored")
    assert (screen.form.cells()["decision"], screen.form.cells()["note"]) == (0, "kept")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    kept = await asyncio.to_thread(bench.app.shared.files.drafts.wait_ids)
    assert kept == frozenset(), "an accepted answer needs no draft"


async def test_a_misfit_lands_on_its_field(bench: Bench) -> None:
    await bench.ask("order", subject="Order")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press(*"99", "ctrl+s")
    await bench.until(lambda: screen.form.rows["size"].has_class("wrong"))
    await bench.sees("at most 10")
    assert screen.focused is screen.form.rows["size"].editor


@pytest.mark.long  # tests/forms
async def test_any_answer_can_be_given_as_json(bench: Bench) -> None:
    wait = await bench.ask("order", subject="Order")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("f2")
    screen.form._raw.load_text(
        '{"size": 3, "sure": false, "country": "ch", "day": "2026-11-24", "amount": "12.30",'
        ' "pay": {"kind": "bank", "iban": "CH93"}, "extra": {"deep": [1, {"er": null}]}}'
    )
    await bench.press("f2")
    cells = screen.form.cells()
    assert (cells["size"], cells["sure"], cells["pay"]) == ("3", 1, 1)
    await bench.press("ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    (record,) = await bench.records(wait["session"]["id"], "orders")
    assert record["data"]["extra"] == {"deep": [1, {"er": None}]}


@pytest.mark.long  # what an empty field sends: tests/forms/test_forms.py
async def test_not_sent_empty_and_null_are_three_answers(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n}m") for n in (1, 2, 3)]
    await bench.open()
    await bench.inbox(3)
    for presses in ((), ("ctrl+n",), ("ctrl+n", "ctrl+n")):
        await bench.press("a")
        await bench.form()
        await bench.press("space", "tab", *presses, "ctrl+s", "ctrl+s")
        await bench.on("InboxScreen")
    sent = [(await bench.records(wait["session"]["id"]))[0]["data"] for wait in waits]
    assert [data.get("note", "absent") for data in sent] == ["absent", "", None]


@pytest.mark.long  # writing refused in words: tests/console/pure/test_actions.py
async def test_a_viewer_key_is_told_so(bench: Bench) -> None:
    """A key that may not ask leaves the console up, saying what is wrong."""
    await bench.open()
    bench.app.shared.client = AsyncClient(
        url=bench.app.shared.client.endpoint.url, key="hlmr_no_such_key"
    )
    bench.app.shared.link.client = bench.app.shared.client
    await bench.press("r")
    await bench.until(lambda: bench.app.shared.store.errors)
    assert bench.app.is_running


@pytest.mark.long  # joiners that join: tests/cli/test_safe_text.py
async def test_joiners_are_typed_pasted_and_sent(bench: Bench) -> None:
    """Without them it is another word, and another picture."""
    word, family = "می\u200cگویم", "👩\u200d👩\u200d👧"
    wait = await bench.ask(subject=f"Publish {family}?")
    await bench.open(size=(120, 36))
    await bench.inbox(1)
    assert "U+200D" not in bench.text()
    await bench.press("a")
    screen = await bench.form()
    await bench.press("1", "tab")
    bench.app.post_message(events.Paste(word))
    bench.app.post_message(events.Paste(family))
    await bench.until(lambda: screen.form.cells().get("note") == word + family)
    await bench.press("x", "backspace")
    assert screen.form.cells()["note"] == word + family
    await bench.press("ctrl+s", "ctrl+s")
    await bench.stack.run_until(wait["run"]["id"], "succeeded", "waiting")
    records = await bench.records(wait["session"]["id"])
    assert [one["data"] for one in records] == [{"decision": "approve", "note": word + family}]
