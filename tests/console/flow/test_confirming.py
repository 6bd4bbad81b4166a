"""What is confirmed by typing, and what the footer offers meanwhile: no more than there is to do."""

from __future__ import annotations

from typing import Any

from helmr_console import actions
from helmr_console.actions import ActionContext, ActionScope
from tests.console.flow.bench import Bench

FORM_ONLY = {"raw", "context", "editor", "blank", "reset", "discard"}
SCOPES = (ActionScope.ANYWHERE, ActionScope.FORM)


def offered(**context: Any) -> set[str]:
    found = actions.footer(SCOPES, ActionContext(composing=True, **context))
    return {action.id for action, _ in found}


def test_a_confirmation_offers_nothing_of_a_form() -> None:
    assert not offered() & FORM_ONLY
    assert FORM_ONLY - {"context"} <= offered(has_form=True)
    assert "context" in offered(has_form=True, is_narrow=True), "beside a form it is in sight"
    assert offered(has_form=True, reviewing=True) & FORM_ONLY == {"raw"}


async def test_a_session_is_cancelled_by_the_end_of_its_id(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("o")
    await bench.on("SessionScreen")
    await bench.press("X")
    screen = await bench.on("ConfirmScreen")
    end = wait["session"]["id"][-7:]
    await bench.sees(f"Type the last seven characters to confirm:  ses…{end}")
    await bench.sees("^s Do it")
    assert "F2 JSON" not in bench.text()
    await bench.press(*"wrong", "ctrl+s")
    await bench.sees(f"type {end} to confirm")
    screen.typed.value = ""
    await bench.press(*end, "ctrl+s")
    await bench.on("SessionScreen")
    session = await bench.stack.http.get(f"/v1/sessions/{wait['session']['id']}")
    assert session.json()["status"] == "cancelled"


async def test_one_amends_ones_own_answer_from_its_row_and_sees_what_was_asked(
    bench: Bench,
) -> None:
    """No step runs again, so no number is wanted."""
    mine = await bench.ask(subject="Publish A?", body="Mind the **lease**.", timeout="5m")
    theirs = await bench.ask(subject="Publish B?", timeout="6m")
    await bench.open()
    await bench.inbox(2)
    await bench.answer(mine["id"], {"decision": "approve"}, person="ana")
    await bench.answer(theirs["id"], {"decision": "approve"}, person="ben")
    await bench.sees("x answered")
    await bench.press("g", "j", "c")
    assert "Claim: the wait is fulfilled by ben" in bench.toasts()[-1]
    await bench.press("g", "c")
    await bench.on("AmendScreen")
    await bench.form()
    await bench.sees("Mind the lease.")
    await bench.sees("(•) approve")
    await bench.press("r", "ctrl+s")
    screen = await bench.on("CorrectionScreen")
    assert not screen.repeats
    assert "Type how many" not in bench.text()
    await bench.press(*"slip", "ctrl+s")
    await bench.on("InboxScreen")
    run = await bench.stack.run_until(mine["run"]["id"], "succeeded")
    assert run["result"] == {"decision": "reject"}
