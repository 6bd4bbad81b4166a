"""Approval of a tool call: what the form asks, what the answer does, and who has their turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import Approval, ask_approval, streams, task
from helmr.approvals import UNANSWERED, approval_schema
from helmr.errors import SchemaMismatch
from helmr.person.forms import form_of
from helmr.person.forms.model import Kind
from helmr.person.forms.values import build, fill, first_cells
from helmr.testing import Harness

approvals = streams.input("approvals", schema=Approval)


class Money(BaseModel):
    cents: int
    currency: str = "EUR"


class Refund(BaseModel):
    customer: str
    amount: Money


ASKED = {"customer": "ada", "amount": {"cents": 4200, "currency": "EUR"}}


@task(id="refund")
async def refund(call_ids: list[str]) -> list[Any]:
    async def ask(call_id: str) -> Any:
        answer = await ask_approval(
            approvals,
            "refund",
            ASKED,
            call_id=call_id,
            arguments_schema=Refund.model_json_schema(),
            timeout="2d",
        )
        return [answer.approved, answer.edited(ASKED)["amount"]["cents"], answer.reason]

    return list(await asyncio.gather(*(ask(call_id) for call_id in call_ids)))


def test_a_form_has_a_field_for_each_argument_and_starts_with_what_was_asked() -> None:
    initial = {"decision": "approve", "arguments": ASKED}
    form = form_of(approval_schema("refund", Refund.model_json_schema()), initial=initial)
    leaves = {leaf.key: leaf.kind for leaf in form.leaves()}
    assert leaves == {
        "decision": Kind.CHOICE,
        "arguments.customer": Kind.TEXT,
        "arguments.amount.cents": Kind.INTEGER,
        "arguments.amount.currency": Kind.TEXT,
        "reason": Kind.LONG,
    }
    cells = first_cells(form)
    assert build(form, cells).problems == {"decision": "choose approve or decline"}
    cells["decision"] = 0
    assert build(form, cells).data == initial
    cells["arguments.amount.cents"] = "1000"
    edited = {"customer": "ada", "amount": {"cents": 1000, "currency": "EUR"}}
    assert build(form, cells).data == {"decision": "approve", "arguments": edited}


def test_a_form_without_the_tools_schema_has_a_field_for_each_value_that_was_asked_for() -> None:
    asked = {**ASKED, "urgent": True, "tags": ["a", ""], "rate": 0.5, "note": None}
    initial = {"decision": "approve", "arguments": asked}
    form = form_of(approval_schema("refund"), initial=initial)
    assert {
        ".".join(map(str, leaf.path[1:])): leaf.kind for leaf in form.leaves() if leaf.path[1:]
    } == {
        "customer": Kind.TEXT,
        "amount.cents": Kind.INTEGER,
        "amount.currency": Kind.TEXT,
        "urgent": Kind.BOOL,
        "tags": Kind.JSON,
        "rate": Kind.NUMBER,
        "note": Kind.JSON,
    }
    assert build(form, {**first_cells(form), "decision": 0}).data == initial
    # What else fits the tool can't be shown in fields, and is sent as JSON.
    assert fill(form, {"decision": "approve", "arguments": {"other": 1}}) is None
    assert fill(form, {"decision": "decline"}) is not None


def test_more_arguments_than_a_form_has_fields_are_json() -> None:
    asked = {f"n{number}": number for number in range(200)}
    initial = {"decision": "approve", "arguments": asked}
    form = form_of(approval_schema("count"), initial=initial)
    assert [leaf.kind for leaf in form.leaves()] == [Kind.CHOICE, Kind.JSON, Kind.LONG]
    assert build(form, {**first_cells(form), "decision": 0}).data == initial


@pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])
async def test_branches_that_ask_at_once_are_asked_about_in_turn(replay_always: bool) -> None:
    async with Harness(refund, replay_always=replay_always) as harness:
        session = await harness.start("refund", ["1", "2", "3", "4"])
        wait = await session.wait()
        assert wait["correlation_id"] == "1"
        assert wait["subject"] == "Call refund?"
        assert '"cents": 4200' in wait["body"]
        await session.kill()
        await session.answer({"decision": "approve"})
        assert (await session.wait())["correlation_id"] == "2"
        edited = {"customer": "ada", "amount": {"cents": 1, "currency": "EUR"}}
        await session.answer({"decision": "approve", "arguments": edited})
        assert (await session.wait())["correlation_id"] == "3"
        await session.answer({"decision": "decline", "reason": "too much", "arguments": None})
        assert (await session.wait())["correlation_id"] == "4"
        await harness.advance("3d")
        assert await session.result() == [
            [True, 4200, None],
            [True, 1, None],
            [False, 4200, "too much"],
            [False, 4200, UNANSWERED],
        ]


async def test_who_declines_the_wait_declines_the_call() -> None:
    async with Harness(refund) as harness:
        session = await harness.start("refund", ["1"])
        await session.answer((await session.wait())["on_decline"])
        assert await session.result() == [[False, 4200, None]]


async def test_an_edit_that_does_not_fit_the_tool_is_refused_when_it_is_sent() -> None:
    async with Harness(refund) as harness:
        session = await harness.start("refund", ["1"])
        with pytest.raises(SchemaMismatch):
            await session.answer({"decision": "approve", "arguments": {"customer": "ada"}})
        await session.answer({"decision": "approve"})
        assert await session.result() == [[True, 4200, None]]


async def test_a_body_too_long_for_a_wait_is_cut_and_the_form_has_all_of_it() -> None:
    long = {"text": "ä" * 30_000}

    @task(streams=[approvals])
    async def verbose(payload: None) -> bool:
        return (await ask_approval(approvals, "write", long)).approved

    async with Harness(verbose) as harness:
        session = await harness.start("verbose")
        wait = await session.wait()
        assert len(wait["body"].encode()) <= 20_000
        assert wait["initial"]["arguments"] == long
        await session.answer({"decision": "approve"})
        assert await session.result() is True
