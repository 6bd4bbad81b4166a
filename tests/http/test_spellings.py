"""Every text of every format that the console takes or proposes: page, programs and command line take it alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helmr.person.forms import assignments, build, first_cells, form_of
from tests.forms.spellings import REFUSED
from tests.http.spelling_tasks import REGISTRY, TYPED
from tests.http.test_links import anybody, linked, path_of
from tests.http.test_rows_by_link import nonce_of
from tests.service.stack import Stack

SENT = {name: sent for name, (_, sent) in TYPED.items()}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=REGISTRY)
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


def by_console(schema: Any) -> Any:
    """What the console's form, and the questions of `helmr next`, make of what is typed."""
    form = form_of(schema)
    cells = {**first_cells(form), **{name: typed for name, (typed, _) in TYPED.items()}}
    built = build(form, cells)
    assert built.problems == {}
    return built.data


def by_words(schema: Any) -> Any:
    """What the command line makes of `name=text`, in a command or in a row of a table."""
    words = [f"{name}={typed}" for name, (typed, _) in TYPED.items()]
    return assignments.assigned(assignments.read(words), schema)


async def by_page(stack: Stack, wait_id: str, typed: dict[str, str]) -> Any:
    path = path_of(await linked(stack, wait_id))
    async with anybody(stack) as http:
        form = {"nonce": nonce_of(await http.get(path))}
        form |= {f"f/{name}": text for name, text in typed.items()}
        return await http.post(path, data=form)


async def answer_of(stack: Stack, receipt: dict[str, Any]) -> Any:
    wait = (await stack.http.get(f"/v1/waits/{receipt['session']['wait']['id']}")).json()
    assert wait["status"] == "fulfilled", wait
    await stack.run_until(receipt["run"]["id"], "succeeded")
    return wait["answer"]


@pytest.mark.parametrize("asks", ["declared", "own"])
async def test_page_programs_and_command_line_take_what_the_console_takes(
    stack: Stack, asks: str
) -> None:
    for way in ("console", "words", "page"):
        receipt = await stack.started("spell", asks)
        wait = receipt["session"]["wait"]
        schema = (await stack.http.get(f"/v1/waits/{wait['id']}")).json()["schema"]
        if way == "page":
            sent = await by_page(stack, wait["id"], {name: one for name, (one, _) in TYPED.items()})
            assert sent.status_code == 303, sent.text.partition("<h1")[0].partition("<body")[2]
        else:
            data = by_console(schema) if way == "console" else by_words(schema)
            answered = await stack.http.post(f"/v1/waits/{wait['id']}/answer", json={"data": data})
            assert answered.status_code == 200, answered.text
        assert await answer_of(stack, receipt) == SENT, way


async def test_the_page_says_all_that_is_wrong_of_every_kind_at_once_and_keeps_what_was_typed(
    stack: Stack,
) -> None:
    receipt = await stack.started("spell", "own")
    wait = receipt["session"]["wait"]["id"]
    typed = {name: one for name, (one, _) in TYPED.items()}
    wrong = {
        "date_0": REFUSED["date"][0],  # no form takes it
        "time_0": REFUSED["time"][0],
        "duration_0": "",  # needed
        "uri_0": "example",  # only the schema refuses it
        "email_1": "ada",
        "regex_0": "[",
    }
    page = await by_page(stack, wait, {**typed, **wrong})
    assert page.status_code == 422
    summary = page.text.partition('id="summary-title"')[2].partition("</ul>")[0]
    assert summary.count("<li>") == len(wrong), summary
    for text in ("Date 0: ", "Time 0: ", "Duration 0: ", "Uri 0: ", "Email 1: ", "Regex 0: "):
        assert text in summary
    assert 'value="14.30"' in page.text
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
    told = await stack.http.post(
        f"/v1/waits/{wait}/answer",
        json={"data": {**SENT, **{k: wrong[k] for k in wrong if wrong[k]}}},
    )
    refused = {one["path"] for one in told.json()["errors"]}
    assert refused == {name for name, text in wrong.items() if text}, json.dumps(told.json())
