"""Runs that are taken back while processes are killed around it: nothing is lost, doubled, or done again unsaid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import Unavailable
from helmr.wire import ids
from tests.stack import rewind_tasks
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]

VICTIMS = ("gateway", "directory", "ledger", "host", "all")
TWICE = (1, 1, 2, 2, 2)
"""How often each of the five steps is done when the run is taken back to its second question."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    folder = tmp_path_factory.mktemp("rewinds")
    runtime = LiveRuntime(folder, tasks=Path(rewind_tasks.__file__), linger="500ms")
    try:
        yield runtime.start()
    finally:
        runtime.stop()


def end(live: LiveRuntime, victim: str, session_id: str) -> None:
    """kill -9, in the middle of whatever comes next; of everything, and start it again."""
    if victim == "all":
        live.kill_all()
        live.start()
        return
    kill(until(partial(_pid, live, victim, session_id), within_s=60, what=f"{victim} is there"))


def _pid(live: LiveRuntime, victim: str, session_id: str) -> int | None:
    if victim == "host":
        holder = live.holder(session_id)
        return next((one["pid"] for one in [holder, *live.hosts()] if one and one["pid"]), None)
    try:
        return live.pid_of(victim)
    except AssertionError:
        return None  # the one before is dead, and its successor not there yet


def around(live: LiveRuntime, victim: str, session_id: str, correct: Callable[[], Any]) -> None:
    """The correction, with a process that dies before it and one that dies behind it.

    A client that gave up, because the one after the dead was slow to come, asks again: by its operation id it is one.
    """

    def has_corrected() -> bool:
        try:
            correct()
        except Unavailable:
            return False
        return True

    end(live, victim, session_id)
    until(has_corrected, within_s=120, what="the correction is taken")
    end(live, victim, session_id)


def asked_thrice(live: LiveRuntime, name: str) -> tuple[str, list[str]]:
    """A session whose three questions were answered, the second by a server's send, and its waits."""
    session_id = live.begin("asks_thrice", name)
    waits = []
    for number, text in enumerate("abc"):
        wait = live.waiting(session_id)
        waits.append(wait.id)
        if number == 1:
            live.client.sessions.open(session_id).input("answers").send(text)
        else:
            live.client.waits.answer(wait.id, text)
        until(partial(_is_over, live, wait.id), within_s=30, what="the answer is taken")
    assert live.ended(session_id).result == ["a", "b", "c"]
    return session_id, waits


def _is_over(live: LiveRuntime, wait_id: str) -> bool:
    return bool(live.client.waits.get(wait_id).status != "pending")


def ends_with(live: LiveRuntime, session_id: str, result: list[str]) -> None:
    """The run's newest attempt has ended so."""

    def has() -> bool:
        run = live.newest_run(session_id)
        return bool(run.status == "succeeded" and run.attempt > 1 and run.result == result)

    until(has, within_s=60, what=f"{session_id} ends with {result}")


def steps_were_done(live: LiveRuntime, name: str) -> None:
    """What stands before the second question was done once; what stands behind it again, under keys of its own.

    A step whose host dies over it is done again under the key that it has.
    """
    keys = [set(live.lines(f"{name}-{number}")) for number in range(1, 6)]
    assert tuple(map(len, keys)) == TWICE
    assert len(live.lines(f"{name}-1")) == 1


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_second_answer_is_amended_and_the_third_is_kept(live: LiveRuntime, victim: str) -> None:
    name = f"amended-{victim}"
    session_id, waits = asked_thrice(live, name)
    seen = live.client.waits.preview_amend(waits[1])
    assert ([one.wait_id for one in seen.kept], seen.asked_again) == ([waits[2]], [])
    amend = partial(
        lambda **options: live.client.waits.amend(waits[1], "B", **options),
        preview=seen,
        reason="misread",
        operation_id=ids.new_id(ids.OPERATION),
    )
    around(live, victim, session_id, amend)
    ends_with(live, session_id, ["a", "B", "c"])
    steps_were_done(live, name)
    assert [e.kind for e in live.transcript(session_id)].count("run.rewound") == 1


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_run_goes_back_to_its_second_question_and_keeps_its_answers(
    live: LiveRuntime, victim: str
) -> None:
    name = f"rewound-{victim}"
    session_id, waits = asked_thrice(live, name)
    run = live.newest_run(session_id)
    seen = live.client.runs.preview_rewind(run.id, wait_id=waits[1])
    assert [one.wait_id for one in seen.kept] == waits[1:]
    rewind = partial(
        lambda **options: live.client.runs.rewind(run.id, **options),
        preview=seen,
        reason="again",
        operation_id=ids.new_id(ids.OPERATION),
    )
    around(live, victim, session_id, rewind)
    ends_with(live, session_id, ["a", "b", "c"])
    steps_were_done(live, name)
    assert live.client.sessions.open(session_id).get().wait is None


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_question_that_reads_otherwise_is_asked_again(live: LiveRuntime, victim: str) -> None:
    name = f"reworded-{victim}"
    session_id, waits = asked_thrice(live, name)
    (live.marks / rewind_tasks.WORDING.format(name=name)).touch()
    seen = live.client.waits.preview_amend(waits[1])
    amend = partial(
        lambda **options: live.client.waits.amend(waits[1], "B", **options),
        preview=seen,
        reason="misread",
        operation_id=ids.new_id(ids.OPERATION),
    )
    around(live, victim, session_id, amend)
    wait = live.waiting(session_id, within_s=60)
    assert wait.subject == "third, really?"
    live.client.waits.answer(wait.id, "C")
    ends_with(live, session_id, ["a", "B", "C"])
    steps_were_done(live, name)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_chat_that_goes_back_two_turns_loses_and_doubles_nothing(
    live: LiveRuntime, victim: str
) -> None:
    session_id = live.begin("chats")
    session = live.client.sessions.open(session_id)
    turns = []
    for text in "abcd":
        turns.append(live.waiting(session_id).id)
        session.input("chat").send(text)
        until(partial(_is_over, live, turns[-1]), within_s=30, what="the turn is taken")
    live.waiting(session_id)
    run = live.newest_run(session_id)
    seen = live.client.runs.preview_rewind(run.id, wait_id=turns[2])
    rewind = partial(
        lambda **options: live.client.runs.rewind(run.id, **options),
        preview=seen,
        reason="again",
        operation_id=ids.new_id(ids.OPERATION),
    )
    around(live, victim, session_id, rewind)
    session = live.client.sessions.open(session_id)
    session.input("chat").send("bye")
    ends_with(live, session_id, ["a", "b", "c", "d", "bye"])
