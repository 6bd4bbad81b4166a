"""Token waits are completed like input waits are answered: by exactly one, checked by the schema (S-40…S-43)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.flow.bench import Bench


async def token_of(bench: Bench, token_id: str) -> dict[str, Any]:
    """The token as the gateway has it."""
    found: dict[str, Any] = (await bench.stack.http.get(f"/v1/tokens/{token_id}")).json()
    return found


async def complete(bench: Bench, token_id: str, data: Any, *, person: str = "ben") -> None:
    """Somebody else completes it."""
    response = await bench.stack.http.post(
        f"/v1/tokens/{token_id}/complete", json={"data": data}, headers={"On-Behalf-Of": person}
    )
    assert response.status_code == 200, response.text


async def test_a_token_wait_is_completed_by_its_pinned_schema_and_the_run_goes_on(
    bench: Bench,
) -> None:
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    await bench.sees("token")
    await bench.press("a")
    screen = await bench.form()
    assert set(screen.form.cells()) == {"decision", "note"}, "the form is that of the pinned schema"
    await bench.press("ctrl+s")
    await bench.until(lambda: screen.form.rows["decision"].has_class("wrong"))
    await bench.press("space", "ctrl+s")
    await bench.sees("completes the token")
    assert (await token_of(bench, wait["token_id"]))["status"] == "pending"
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    run = await bench.stack.run_until(wait["run"]["id"], "succeeded")
    assert run["result"] == "approve"
    token = await token_of(bench, wait["token_id"])
    assert (token["status"], token["data"]["decision"]) == ("completed", "approve")
    assert token["ended_by"]["on_behalf_of"] == "ana"
    assert (await bench.wait(wait["id"]))["status"] == "fulfilled"
    held = await bench.entries(wait["session"]["id"], "wait.fulfilled")
    assert [entry["kind"] for entry in held] == ["wait.fulfilled", "run.succeeded"]
    assert held[0]["principal"]["on_behalf_of"] == "ana"
    assert any("completed" in text for text in bench.toasts())


async def test_data_that_the_pinned_schema_refuses_stays_in_the_form(bench: Bench) -> None:
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("f2")
    screen.form._raw.load_text('{"decision": "maybe"}')
    await bench.press("ctrl+s", "ctrl+s")
    await bench.until(lambda: any("something else" in text for text in bench.toasts()))
    assert screen.submission.phase.value == "form"
    assert "maybe" in screen.form.raw_text
    assert (await token_of(bench, wait["token_id"]))["status"] == "pending"
    assert (await bench.wait(wait["id"]))["status"] == "pending"


async def test_a_token_without_a_schema_takes_any_json_and_fulfils_every_wait_on_it(
    bench: Bench,
) -> None:
    made = (await bench.stack.http.post("/v1/tokens", json={"timeout": "1h"})).json()
    receipts = [await bench.stack.started("pick-up", made["id"]) for _ in range(2)]
    await bench.open()
    await bench.inbox(2)
    await bench.press("a")
    screen = await bench.form()
    screen.form.rows["$"].editor.load_text('{"any": [1, null]}')
    await bench.press("ctrl+s")
    await bench.sees("every wait on it is fulfilled")
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    for receipt in receipts:
        run = await bench.stack.run_until(receipt["run"]["id"], "succeeded")
        assert run["result"] == {"any": [1, None]}


async def test_somebody_completes_the_token_first(bench: Bench) -> None:
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", *"mine")
    await complete(bench, wait["token_id"], {"decision": "reject", "note": "theirs"})
    await bench.sees("The wait is fulfilled by ben")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.until(lambda: any("Not sent" in text for text in bench.toasts()))
    assert screen.form.cells()["note"] == "mine", "the text is kept"
    token = await token_of(bench, wait["token_id"])
    assert (token["data"]["note"], token["ended_by"]["on_behalf_of"]) == ("theirs", "ben")


@pytest.mark.long  # as a wait of input: test_answering.py
async def test_somebody_is_first_by_a_blink_and_both_completions_are_shown(bench: Bench) -> None:
    """The 409 of the gateway, met because the feed had not told yet."""
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "ctrl+s")
    screen.over = lambda: ""  # what the screen would know had the feed not come
    await complete(bench, wait["token_id"], {"decision": "reject", "note": "theirs"})
    await bench.press("ctrl+s")
    await bench.sees("Not sent: already answered")
    await bench.sees("answered by ben")
    await bench.sees("~ decision")
    assert screen.form.cells()["decision"] == 0
    assert (await token_of(bench, wait["token_id"]))["data"]["decision"] == "reject"


@pytest.mark.long
async def test_somebody_is_first_and_the_session_knows_and_both_completions_are_shown(
    bench: Bench,
) -> None:
    """The 409 of the wait: its session has heard of the completion."""
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "ctrl+s")
    screen.over = lambda: ""  # what the screen would know had the feed not come
    await complete(bench, wait["token_id"], {"decision": "reject", "note": "theirs"})
    await bench.stack.run_until(wait["run"]["id"], "succeeded")
    await bench.press("ctrl+s")
    await bench.sees("Not sent: already answered")
    await bench.sees("~ decision")
    assert screen.form.cells()["decision"] == 0
    assert (await token_of(bench, wait["token_id"]))["data"]["decision"] == "reject"


@pytest.mark.long  # as a wait of input: test_answering.py
async def test_the_token_expires_while_the_form_is_open(bench: Bench) -> None:
    wait = await bench.ask("sign", subject="Sign here?", timeout="30s")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", *"hi")
    await bench.advance(31)
    await bench.sees("timed out")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.until(lambda: any("Not sent" in text for text in bench.toasts()))
    assert screen.form.cells()["note"] == "hi"
    assert (await token_of(bench, wait["token_id"]))["status"] == "expired"
    assert (await bench.wait(wait["id"]))["status"] == "timed_out"
    run = await bench.stack.run_until(wait["run"]["id"], "succeeded")
    assert run["result"] == "WaitTimeout"


@pytest.mark.long
async def test_the_token_is_cancelled_while_the_form_is_open(bench: Bench) -> None:
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", *"hi")
    response = await bench.stack.http.post(f"/v1/tokens/{wait['token_id']}/cancel")
    assert response.status_code == 200, response.text
    await bench.sees("cancelled")
    await bench.press("ctrl+s", "ctrl+s")
    await bench.until(lambda: any("Not sent" in text for text in bench.toasts()))
    assert screen.form.cells()["note"] == "hi"
    assert (await token_of(bench, wait["token_id"]))["status"] == "cancelled"
    assert (await bench.wait(wait["id"]))["status"] == "cancelled"
