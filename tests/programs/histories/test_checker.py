"""The checker lets good histories pass, and finds each kind of broken promise in one that has just that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.programs.histories import checker, history
from tests.programs.histories.history import Call, Kind, Outcome

S = "ses/numbers"


def call(kind: Kind, target: str, began: int, ended: int, told: Any = None, **parts: Any) -> Call:
    """One call; ok if nothing else is said."""
    return Call(
        client=parts.pop("client", 0),
        kind=kind,
        target=target,
        began_ns=began,
        ended_ns=ended,
        outcome=parts.pop("outcome", Outcome.OK),
        reply=json.dumps(told),
        **parts,
    )


def send(value: int, began: int, ended: int, seq: int | None, **parts: Any) -> Call:
    """A send; unknown without a place."""
    if seq is None:
        parts.setdefault("outcome", Outcome.UNKNOWN)
    told = {"seq": seq} if seq is not None else None
    parts.setdefault("operation", f"op-{value}")
    return call(Kind.SEND, S, began, ended, told, value=value, **parts)


def log(began: int, ended: int, *shown: tuple[int, str | None]) -> Call:
    """A read of the stream: values, and which wait took each."""
    told = [[place, value, wait] for place, (value, wait) in enumerate(shown, start=1)]
    return call(Kind.READ_LOG, S, began, ended, told)


def answer(value: int, began: int, ended: int, seq: int, wait: str = "wait") -> Call:
    """An answer that was accepted."""
    return call(
        Kind.ANSWER, wait, began, ended, {"seq": seq}, value=value, beside=S, operation=f"op-{value}"
    )  # fmt: skip


def look(began: int, ended: int, status: str, wait: str = "wait") -> Call:
    """A read of a wait."""
    return call(Kind.READ_WAIT, wait, began, ended, {"status": status})


def complete(value: int, began: int, ended: int, outcome: str) -> Call:
    """A completion."""
    told = {"outcome": outcome}
    return call(Kind.COMPLETE, "tok", began, ended, told, value=value, operation=f"op-{value}")


def token(began: int, ended: int, status: str, value: int | None = None) -> Call:
    """A read of a token."""
    return call(Kind.READ_TOKEN, "tok", began, ended, {"status": status, "value": value})


def use(value: int, began: int, ended: int, seq: int | None, **parts: Any) -> Call:
    """A send with the public token."""
    return replace(send(value, began, ended, seq, **parts), kind=Kind.USE, beside="pub")


def spent(value: int, began: int, ended: int) -> Call:
    """A use that was refused for want of room."""
    refused = use(value, began, ended, None, outcome=Outcome.REFUSED)
    return replace(refused, reply=json.dumps({"spent": True}))


def uses(began: int, ended: int, count: int) -> Call:
    """A read of the public token, which may be used twice."""
    return call(Kind.READ_USES, "pub", began, ended, {"uses": count, "max": 2})


def run(
    took: list[int],
    waits: list[str],
    *steps: tuple[str, int | None, list[int]],
    began: int = 90,
    ended: int = 91,
) -> Call:
    """A read of a run."""
    told = {"stream": S, "waits": waits, "took": took, "steps": [list(step) for step in steps]}
    return call(Kind.READ_RUN, "run", began, ended, told)


def session(began: int, ended: int, wait: str | None, *, is_over: bool = False) -> Call:
    """A read of a session."""
    return call(Kind.READ_SESSION, "ses", began, ended, {"wait": wait, "is_over": is_over})


def create(name: str, operation: str, began: int, ended: int) -> Call:
    """A creation."""
    return call(Kind.CREATE, "token", began, ended, {"id": name}, operation=operation)


def vote(person: str, what: int, began: int, ended: int, have: int | None, **parts: Any) -> Call:
    """A vote of two that are asked for; without a count it has ended the wait, with -1 it is unknown."""
    told: Any = {"outcome": "voted", "have": have, "need": 2}
    if have is None:
        told = {"outcome": "fulfilled", "have": 2, "need": 2}
    if have == -1:
        told = None
        parts.setdefault("outcome", Outcome.UNKNOWN)
    operation = parts.pop("operation", f"op-{person}-{began}")
    return call(
        Kind.VOTE, "wait", began, ended, told, value=what, beside=person, operation=operation, **parts
    )  # fmt: skip


def of_person(kind: Kind, person: str, began: int, ended: int, **parts: Any) -> Call:
    """Disabled or enabled."""
    return call(kind, person, began, ended, {}, operation=f"op-{kind}-{began}", **parts)


def taken_back(person: str, began: int, ended: int) -> Call:
    """A vote is taken back."""
    told = {"have": 0, "need": 2}
    return call(
        Kind.WITHDRAW, "wait", began, ended, told, beside=person, operation=f"back-{began}"
    )  # fmt: skip


def limited(*steps: Any) -> Call:
    """A read of a session under a limit of two at once and three in a hundred."""
    told = {"at_once": 2, "per": 3, "within_ns": 100}
    shown = [[key, opened, [*tries]] for key, opened, *tries in steps]
    return call(Kind.READ_LIMIT, "provider", 900, 901, {**told, "steps": shown})


GOOD: dict[str, list[Call]] = {
    "nothing": [],
    "a third when one of two has ended, a fourth in another time": [
        limited(("a", 0, (0, 9)), ("b", 1, (1, 5))),
        limited(("c", 2, (5, 9)), ("d", 100, (150, 151))),
    ],
    "one died, and another went on in its place": [
        limited(("a", 0, (0, 9)), ("b", None, (1, None), (20, 29)), ("c", 3, (2, 9))),
    ],
    "sends at once in either order": [send(1, 0, 9, 2), send(2, 0, 9, 1), log(10, 11, (2, None), (1, None))],
    "an unknown send that happened": [send(1, 0, 9, None), log(10, 11, (1, None))],
    "an unknown send that did not": [send(1, 0, 9, None), log(10, 11)],
    "an unknown send that happens late": [
        send(1, 0, 5, None), log(10, 11), send(2, 12, 13, 1), log(20, 21, (2, None), (1, None)),
    ],
    "a repeated send": [send(1, 0, 1, None), send(1, 2, 3, 1), send(1, 4, 5, 1)],
    "refused, then accepted": [
        send(1, 0, 1, None, outcome=Outcome.REFUSED), send(1, 2, 3, 1), log(4, 5, (1, None)),
    ],
    "a delivery to two streams": [
        call(Kind.SEND, S, 0, 1, {"seq": 1, "stream": S}, value=1, operation="key on numbers"),
        call(Kind.SEND, "ses/notes", 2, 3, {"seq": 1, "stream": "ses/notes"}, value=1, operation="key on notes"),
        log(4, 5, (1, None)), call(Kind.READ_LOG, "ses/notes", 4, 5, [[1, 1, None]]),
    ],
    "a read beside a send": [send(1, 0, 9, 1), log(1, 2), log(3, 4, (1, None))],
    "an answer": [answer(1, 0, 5, 1), look(1, 2, "pending"), look(6, 7, "fulfilled"), log(8, 9, (1, "wait"))],
    "a completion": [
        complete(1, 0, 9, "completed"), complete(2, 0, 9, "already_completed"),
        token(1, 2, "pending"), token(10, 11, "completed", 1),
    ],
    "uses": [use(1, 0, 1, 1), use(2, 2, 9, None), spent(3, 10, 11), uses(12, 13, 2)],
    "creations": [create("a", "one", 0, 1), create("b", "two", 0, 1), create("a", "one", 2, 3)],
    "two agree": [vote("ada", 1, 0, 1, 1), vote("bo", 2, 2, 3, 1), vote("ada", 2, 4, 5, None)],
    "two votes at once": [vote("ada", 1, 0, 9, 1), vote("bo", 1, 0, 9, None)],
    "one agrees with a vote that nobody was told of": [vote("ada", 1, 0, 1, -1), vote("bo", 1, 5, 6, None)],
    "a vote that nobody was told of comes late": [
        vote("ada", 1, 0, 1, -1), taken_back("ada", 2, 3), vote("bo", 1, 5, 6, None),
    ],
    "a vote beside its withdrawal": [
        vote("ada", 1, 0, 1, 1), taken_back("ada", 2, 9), vote("bo", 1, 3, 8, None),
    ],
    "one is disabled after they agreed": [
        vote("ada", 1, 0, 1, 1), vote("bo", 1, 2, 3, None), of_person(Kind.DISABLE, "ada", 4, 5),
    ],
    "one votes who is enabled again": [
        of_person(Kind.DISABLE, "ada", 0, 1), of_person(Kind.ENABLE, "ada", 2, 3), vote("ada", 1, 4, 5, 1),
    ],
    "one is disabled while they vote": [of_person(Kind.DISABLE, "ada", 0, 5), vote("ada", 1, 4, 6, 1)],
    "a session": [
        session(0, 5, "wait"), answer(1, 1, 6, 1), session(2, 7, None), session(8, 9, None, is_over=True),
        log(10, 11, (1, "wait")),
    ],
    "a step that ran again before it was recorded, and nobody's clock tells": [
        answer(1, 0, 1, 1), session(50, 60, "later"), log(70, 71, (1, "wait")),
        run([1], ["wait", "later"], ("key", None, [10, 59])),
    ],
    "a run whose log was read before it took": [
        send(1, 0, 1, 1), log(2, 3, (1, None)), run([1], ["wait"], ("key", 50, [10])),
    ],
    "a run whose log nobody could read": [run([1], ["wait"], ("key", 50, [10]))],
    "two reads of a run": [
        answer(1, 0, 1, 1), log(2, 3, (1, "wait")), run([], ["wait"], began=1, ended=9),
        run([1], ["wait"], ("key", None, [4]), began=2, ended=5),
    ],
    "a run": [
        answer(1, 0, 1, 1), log(2, 3, (1, "wait")), run([1], ["wait"], ("key", 50, [10, 40])),
    ],
}  # fmt: skip

BAD: dict[str, tuple[str, list[Call]]] = {
    "acknowledged and lost": ("log", [send(1, 0, 1, 1), log(2, 3)]),
    "a receipt of another stream": (
        "log",
        [call(Kind.SEND, S, 0, 1, {"seq": 1, "stream": "ses/notes"}, value=1, operation="key"), log(2, 3, (1, None))],
    ),
    "one place for two": ("log", [send(1, 0, 9, 1), send(2, 0, 9, 1)]),
    "one record twice": ("log", [send(1, 0, 1, 1), log(2, 3, (1, None), (1, None))]),
    "a gap": ("log", [send(1, 0, 1, 2), call(Kind.READ_LOG, S, 2, 3, [[2, 1, None]])]),
    "a refused one is there": (
        "log", [send(1, 0, 1, None, outcome=Outcome.REFUSED), log(2, 3, (1, None))],
    ),
    "one that nobody sent": ("log", [log(2, 3, (7, None))]),
    "shown before it was sent": ("log", [log(0, 1, (1, None)), send(1, 2, 3, 1)]),
    "later before earlier": (
        "log", [send(1, 0, 1, 2), send(2, 2, 3, 1), log(4, 5, (2, None), (1, None))],
    ),
    "a read goes back": (
        "log", [send(1, 0, 9, None), log(1, 2, (1, None)), log(3, 4)],
    ),
    "it moved": ("log", [send(1, 0, 9, 1), send(2, 0, 9, None), log(10, 11, (2, None), (1, None))]),
    "told two things": (
        "repeats", [complete(1, 0, 1, "completed"), complete(1, 2, 3, "already_completed")],
    ),
    "refused after it was acknowledged": (
        "repeats", [send(1, 0, 1, 1), send(1, 2, 3, None, outcome=Outcome.REFUSED)],
    ),
    "answered twice": ("waits", [answer(1, 0, 9, 1), answer(2, 0, 9, 2)]),
    "took another than its answer": (
        "waits", [answer(1, 0, 1, 1), send(2, 0, 1, 2), log(3, 4, (1, None), (2, "wait"))],
    ),
    "took two": (
        "waits", [send(1, 0, 9, 1), send(2, 0, 9, 2), log(10, 11, (1, "wait"), (2, "wait"))],
    ),
    "taken by another": (
        "waits", [send(1, 0, 1, 1), log(2, 3, (1, "wait")), log(4, 5, (1, "other"))],
    ),
    "pending again": ("waits", [answer(1, 0, 1, 1), look(2, 3, "pending")]),
    "pending after it was seen resolved": (
        "waits", [look(2, 3, "fulfilled"), look(4, 5, "pending")],
    ),
    "completed twice": (
        "tokens", [complete(1, 0, 9, "completed"), complete(2, 0, 9, "completed")],
    ),
    "completed with another value": (
        "tokens", [complete(1, 0, 1, "completed"), complete(2, 0, 1, "already_completed"), token(2, 3, "completed", 2)],
    ),
    "completed by nobody": ("tokens", [complete(1, 5, 6, "completed"), token(2, 3, "completed", 1)]),
    "not completed any more": ("tokens", [complete(1, 0, 1, "completed"), token(2, 3, "pending")]),
    "used too often": (
        "uses", [use(1, 0, 1, 1), use(2, 0, 1, 2), use(3, 0, 1, 3), uses(9, 10, 2)],
    ),
    "spent with room": ("uses", [use(1, 0, 1, 1), spent(2, 3, 4), uses(9, 10, 1)]),
    "a refusal counted": (
        "uses", [use(1, 0, 1, None, outcome=Outcome.REFUSED), uses(9, 10, 1)],
    ),
    "a use not counted": ("uses", [use(1, 0, 1, 1), uses(9, 10, 0)]),
    "a run took what the log never shows as taken": (
        "runs",
        [send(1, 0, 1, 1), run([1], ["wait"], ("key", 50, [10])), log(95, 96, (1, None))],
    ),
    "a run took without waiting": ("runs", [run([1], [], ("key", 50, [10]))]),
    "a run took another": (
        "runs", [send(1, 0, 1, 1), log(2, 3, (1, "wait")), run([2], ["wait"], ("key", 50, [10]))],
    ),
    "a recorded step ran again": (
        "steps", [send(1, 0, 1, 1), log(2, 3, (1, "wait")), run([1], ["wait"], ("key", 50, [10, 60]))],
    ),
    "a step recorded twice": (
        "steps",
        [send(1, 0, 1, 1), log(2, 3, (1, "wait")), run([1], ["wait"], ("k", 50, [10]), ("k", 60, [10]))],
    ),
    "one person ended what two must agree on": (
        "votes", [vote("ada", 1, 0, 1, 1), vote("ada", 1, 2, 3, None)],
    ),
    "a vote of another amount counted": ("votes", [vote("ada", 1, 0, 1, 1), vote("bo", 2, 2, 3, None)]),
    "a vote counted that was taken back": (
        "votes", [vote("ada", 1, 0, 1, 1), taken_back("ada", 2, 3), vote("bo", 1, 4, 5, None)],
    ),
    "a vote counted of one who is disabled": (
        "votes",
        [vote("ada", 1, 0, 1, 1), of_person(Kind.DISABLE, "ada", 2, 3), vote("bo", 1, 4, 5, None)],
    ),
    "one voted who is disabled": (
        "votes", [of_person(Kind.DISABLE, "ada", 0, 1), vote("ada", 1, 2, 3, 1)],
    ),
    "a vote was forgotten": ("votes", [vote("ada", 1, 0, 1, 1), vote("bo", 1, 2, 3, 1)]),
    "two votes ended one wait": (
        "votes", [vote("ada", 1, 0, 9, None), vote("bo", 1, 0, 9, None)],
    ),
    "a vote after the end": (
        "votes",
        [vote("ada", 1, 0, 9, 1), vote("bo", 1, 0, 9, None), vote("cy", 2, 10, 11, 1)],
    ),
    "enough agreed and it went on": ("votes", [vote("ada", 1, 0, 1, 1), vote("bo", 1, 2, 3, 2)]),
    "two created one": ("creations", [create("a", "one", 0, 1), create("a", "two", 2, 3)]),
    "created another when it was repeated": (
        "repeats", [create("a", "one", 0, 1), create("b", "one", 2, 3)],
    ),
    "its session shows it pending after it was answered": (
        "waits", [answer(1, 0, 1, 1), session(2, 3, "wait")],
    ),
    "its run was over": (
        "runs", [session(0, 1, None, is_over=True), session(2, 3, None)],
    ),
    "a journal that shrinks": (
        "runs",
        [
            answer(1, 0, 1, 1), log(2, 3, (1, "wait")),
            run([1], ["wait"], ("key", None, [10]), began=20, ended=21), run([], ["wait"]),
        ],
    ),
    "a journal that changes": (
        "runs", [run([], ["wait"], began=20, ended=21), run([], ["other", "third"])],
    ),
    "a step ran again after a read had shown its outcome": (
        "steps",
        [
            answer(1, 0, 1, 1), log(2, 3, (1, "wait")),
            run([1], ["wait"], ("key", None, [10]), began=20, ended=21),
            run([1], ["wait"], ("key", None, [10, 60])),
        ],
    ),
    "a step ran again after a later wait was seen": (
        "steps",
        [
            answer(1, 0, 1, 1), session(50, 55, "later"), log(70, 71, (1, "wait")),
            run([1], ["wait", "later"], ("key", None, [10, 60])),
        ],
    ),
    "a step ran again after a later wait was answered": (
        "steps",
        [
            answer(1, 0, 1, 1), answer(2, 50, 75, 2, "later"), log(80, 81, (1, "wait"), (2, "later")),
            run([1], ["wait", "later"], ("key", None, [10, 60])),
        ],
    ),
    "a bound that changes": (
        "uses",
        [use(1, 0, 1, 1), uses(2, 3, 1), call(Kind.READ_USES, "pub", 4, 5, {"uses": 1, "max": 3})],
    ),
    "a third went on beside two": (
        "limits", [limited(("a", 0, (0, 9)), ("b", 1, (1, 9))), limited(("c", 8, (8, 12)))],
    ),
    "one that died was the third": (
        "limits", [limited(("a", 0, (0, 9)), ("b", 1, (1, 9)), ("c", 5, (5, None), (10, 12)))],
    ),
    "a fourth began in the time of three": (
        "limits",
        [limited(("a", 0, (0, 1)), ("b", 20, (20, 21)), ("c", 60, (60, 61)), ("d", 99, (99, 100)))],
    ),
    "under a limit recorded and never run": ("limits", [limited(("a", 0))]),
    "recorded and never run": (
        "steps", [send(1, 0, 1, 1), log(2, 3, (1, "wait")), run([1], ["wait"], ("key", 50, []))],
    ),
}  # fmt: skip


def test_each_kind_of_promise_is_broken_in_some_history() -> None:
    assert {kind for kind, _ in BAD.values()} == set(checker.PROMISES)


@pytest.mark.parametrize("name", GOOD)
def test_what_may_happen_passes(name: str) -> None:
    assert checker.check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_broken_promise_is_found_and_named(name: str) -> None:
    kind, calls = BAD[name]
    found = checker.check(calls)
    assert found
    assert {line.split(":")[0] for line in found} == {kind}, found


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_what_one_log_really_did_passes_and_a_lost_or_swapped_record_does_not(
    random: Any, count: int
) -> None:
    """A log in memory that acts somewhere between begin and end of each call, and forgets to reply at times."""
    stands: list[int] = []
    calls: list[Call] = []
    now = 0
    for value in range(count):
        began = now = now + 1
        stands.append(value)
        place = len(stands)
        ended = now = now + 1
        is_told = random.random() < 0.7
        calls.append(send(value, began, ended, place if is_told else None))
        if random.random() < 0.3:
            now += 2
            calls.append(log(now - 1, now, *[(one, None) for one in stands]))
    assert checker.check(calls) == []
    told = [one for one in calls if one.kind is Kind.SEND and one.outcome is Outcome.OK]
    if told:
        lost = random.choice(told)
        shown = [(one, None) for one in stands if one != lost.value]
        assert checker.check([*calls, log(now + 1, now + 2, *shown)])


def test_a_history_is_kept_and_read_again(tmp_path: Path) -> None:
    calls = sorted((one for _, some in BAD.values() for one in some), key=lambda one: one.began_ns)
    path = tmp_path / "history.parquet"
    history.write(calls, path)
    assert sorted(history.read(path), key=repr) == sorted(calls, key=repr)
    history.write([], path)
    assert history.read(path) == []
