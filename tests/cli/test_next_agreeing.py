"""`helmr next` on a wait that two people must agree on: who stands for what, and who may only read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agreeing import FIVE, asks, key_of, stack_of_people, votes
from tests.cli.conftest import Said, process
from tests.cli.test_next import Person
from tests.service.stack import Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "data").mkdir()
    found = stack_of_people(tmp_path / "data")
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def person(stack: Stack, tmp_path: Path) -> AsyncIterator[Person]:
    found = Person(stack, tmp_path)
    yield found
    await found.terminal.close()


async def test_the_second_person_agrees_with_what_the_first_one_said(
    stack: Stack, person: Person
) -> None:
    wait_id, run_id = await asks(stack)
    await votes(stack, "bo", wait_id, FIVE)
    await person.begins("--undo-for", "0s", HELMR_API_KEY=await key_of(stack, "ana"))
    shown = await person.reads("] ")
    assert '1 of 2 agree: bo stands for {"decision": "approve", "cents": 5' in shown
    await person.types("1")
    await person.reads("cents")
    await person.reads("[5]: ")
    await person.types("")
    await person.reads("note")
    await person.types("")
    await person.reads("1 accepted")
    run = await stack.run_until(run_id, "succeeded")
    assert run["result"] == ["approve", 5, None]


async def test_one_who_has_voted_is_not_asked_again(stack: Stack, person: Person) -> None:
    wait_id, _ = await asks(stack)
    key = await key_of(stack, "ana")
    await votes(stack, "ana", wait_id, FIVE)
    await person.begins(HELMR_API_KEY=key)
    said = await person.reads("1 left out: for others to answer, or you have voted")
    assert "nothing waits for people" in said


async def test_others_read_who_may_and_are_asked_nothing(stack: Stack, person: Person) -> None:
    wait_id, _ = await asks(stack)
    key = await key_of(stack, "cy")
    await person.begins(command=("wait", "answer", wait_id), me="cy", HELMR_API_KEY=key)
    said = await person.reads("you may not answer: it is answered by 2 people: group finance")
    assert "Refund Ada?" in said


async def says(stack: Stack, person: str, *words: str) -> Said:
    """What a command says to this person."""
    env = {"HELMR_URL": stack.url, "HELMR_API_KEY": await key_of(stack, person)}
    return await asyncio.to_thread(process, *words, env=env)


async def test_words_of_the_second_person_change_the_newest_proposal(stack: Stack) -> None:
    wait_id, run_id = await asks(stack)
    await votes(stack, "bo", wait_id, FIVE)
    first = await says(stack, "ana", "wait", "answer", wait_id, "decision=approve", "cents:=3")
    assert first.code == 0, first.err
    assert 'begun from what bo stands for: {"cents": 5}' in first.err
    assert "voted" in first.out
    again = await says(stack, "bo", "wait", "answer", wait_id, "decision=approve", "note=So be it.")
    assert again.code == 0, again.err
    assert 'begun from what ana stands for: {"cents": 3}' in again.err
    run = await stack.run_until(run_id, "succeeded")
    assert run["result"] == ["approve", 3, "So be it."]


async def test_a_batch_shows_that_others_answer_and_sends_nothing_to_them(stack: Stack) -> None:
    wait_id, _ = await asks(stack)
    words = ("wait", "answer", "--all", "decision=approve", "cents:=5")
    shown = await says(stack, "cy", *words, "--preview")
    assert "left out: Refund Ada?" in shown.out
    assert "you may not answer: it is answered by 2 people: group finance" in shown.out
    sent = await says(stack, "cy", *words, "--yes", "--json")
    assert (sent.code, json.loads(sent.out)["progress"]) == (5, "left_out")
    voted = await says(stack, "ana", *words, "--yes")
    assert (voted.code, "1 accepted" in voted.err) == (0, True), voted.err
    assert (await stack.http.get(f"/v1/waits/{wait_id}")).json()["voters"] == ["ana"]
    again = await says(stack, "ana", *words, "--preview")
    assert "left out" not in again.out, "another answer replaces the first"
