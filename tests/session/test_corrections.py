"""Runs taken back and answers amended, hot, parked, executing, blocked, failed and ended (S-75…S-79)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from helmr import TaskContext, auth, step, step_key, streams, task, tokens
from helmr.errors import SchemaMismatch, SessionTerminal, WaitNotAmendable, WaitResolved
from helmr.models import RunStatus
from helmr.testing import Harness, HarnessSession
from helmr_runtime.security.payloads import find_secrets

answers = streams.input("answers", schema=str)
replies = streams.output("replies", schema=str)

did: Counter[str] = Counter()
held = threading.Event()
began = threading.Event()
"""Between a test and its steps, whose loop has a thread of its own."""


async def reached(event: threading.Event) -> None:
    """Return when it is set, by whichever thread."""
    while not event.is_set():
        await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def afresh() -> None:
    global held, began
    did.clear()
    held, began = threading.Event(), threading.Event()


@step
async def do(name: str) -> str:
    did[name] += 1
    return name


@step
async def hold(name: str) -> str:
    did[name] += 1
    began.set()
    await reached(held)
    return name


def code(third_question: str = "third?") -> Any:
    @task(id="five")
    async def five(payload: Any) -> list[str]:
        got = [await do("one")]
        got.append(await answers.wait(subject="first?").unwrap())
        got.append(await do("two"))
        got.append(await answers.wait(subject="second?").unwrap())
        got.append(await do("three"))
        got.append(await do("four"))
        got.append(await answers.wait(subject=third_question).unwrap())
        got.append(await do("five"))
        return got

    return five


@task
async def chat(payload: Any) -> int:
    turns = 0
    while (said := await answers.wait(subject="next?").unwrap()) != "bye":
        await replies.append(f"{turns}: {said}")
        turns += 1
    return turns


@task
async def holds(payload: Any) -> str:
    first = await answers.wait(subject="first?").unwrap()
    return f"{first} {await hold('held')}"


@task
async def fails(payload: Any) -> str:
    said = await answers.wait(subject="first?").unwrap()
    if said != "good":
        raise ValueError(said)
    return said


@task(after_run="close")
async def closes(payload: Any) -> str:
    return await answers.wait(subject="first?").unwrap()


async def waits(session: HarnessSession) -> list[str]:
    return [e.body["wait_id"] for e in await session.transcript() if e.kind == "wait.opened"]


async def keys_of(session: HarnessSession, name: str) -> list[str]:
    return [
        e.body["step_key"]
        for e in await session.transcript()
        if e.kind == "step.started" and e.body["name"] == name
    ]


async def to_the_end(session: HarnessSession) -> None:
    await session.answer("a")
    await session.send("answers", "b")
    await session.answer("c")


ALL = ["one", "a", "two", "b", "three", "four", "c", "five"]


async def test_a_finished_run_goes_back_to_its_second_answer_and_keeps_the_third(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        assert await session.result() == ALL
        second = (await waits(session))[1]
        seen = await session.preview(wait_id=second)
        assert [one.name for one in seen.steps] == ["do", "do", "do"]
        assert all(one.step_key != one.new_key for one in seen.steps)
        assert len(seen.kept) == 2
        assert not seen.asked_again
        await session.rewind(wait_id=second)
        assert await session.result() == ALL
    assert did == {"one": 1, "two": 1, "three": 2, "four": 2, "five": 2}


async def test_without_kept_answers_every_question_is_asked_again(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        await session.rewind(wait_id=(await waits(session))[1], keep_answers=False)
        assert (await session.wait())["subject"] == "second?"
        await session.answer("B")
        assert (await session.wait())["subject"] == "third?"
        await session.answer("C")
        assert await session.result() == ["one", "a", "two", "B", "three", "four", "C", "five"]
    assert did["one"] == did["two"] == 1


async def test_a_question_that_reads_otherwise_is_asked_again(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        await session.park()
        h.deploy(code("third, really?"))
        await session.rewind(wait_id=(await waits(session))[1])
        assert (await session.wait())["subject"] == "third, really?"
        await session.answer("C")
        assert await session.result() == ["one", "a", "two", "b", "three", "four", "C", "five"]


async def test_an_answer_that_was_wrong_is_amended(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        second = (await waits(session))[1]
        await session.amend(second, "B", reason="misread")
        assert await session.result() == ["one", "a", "two", "B", "three", "four", "c", "five"]
        with pytest.raises(WaitNotAmendable):
            await session.amend(second, "again")
        rewound = [e for e in await session.transcript() if e.kind == "run.rewound"]
        assert [e.body["reason"] for e in rewound] == ["misread"]
        [record] = [e for e in await session.transcript() if e.body.get("amends")]
        assert record.body["amends"]["wait_id"] == second
    assert did == {"one": 1, "two": 1, "three": 2, "four": 2, "five": 2}


async def test_what_does_not_fit_amends_nothing(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        before = len(await session.transcript())
        with pytest.raises(SchemaMismatch):
            await session.amend((await waits(session))[0], 7)
        assert len(await session.transcript()) == before


@pytest.mark.parametrize("how", ["hot", "parked", "killed"])
async def test_a_chat_two_turns_back_loses_and_doubles_nothing(harness, how: str) -> None:
    async with harness(chat) as h:
        session = await h.start("chat")
        for said in ("a", "b", "c", "d"):
            await session.answer(said)
        if how == "parked":
            await session.park()
        elif how == "killed":
            await session.kill()
        pending = (await waits(session))[-1]
        await session.rewind(wait_id=(await waits(session))[2], keep_answers=False)
        with pytest.raises(WaitResolved):
            await session.answer("late", wait_id=pending)
        await session.answer("C")
        await session.answer("bye")
        assert await session.result() == 3
        assert await session.outputs("replies") == ["0: a", "1: b", "2: c", "3: d", "2: C"]


async def test_code_that_executes_is_aborted_and_what_it_says_is_ignored(harness) -> None:
    async with harness(holds) as h:
        session = await h.start("holds")
        await session.answer("a", settle=False)
        async with asyncio.timeout(10):
            await reached(began)
        [first] = await waits(session)
        seen = await session.preview(wait_id=first)
        assert [(one.state, one.step_key == one.new_key) for one in seen.steps] == [
            ("running", True)
        ]
        await session.amend(first, "A", settle=False)
        held.set()
        assert await session.result() == "A held"
        assert len(set(await keys_of(session, "hold"))) == 1
    assert did["held"] == 2


async def test_a_step_that_was_done_gets_another_key(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        await session.amend((await waits(session))[2], "C")
        assert await session.result() == [*ALL[:6], "C", "five"]
        done = await keys_of(session, "do")
    assert len(done) == 6
    assert len(set(done)) == 6


async def test_a_failed_run_and_a_cancelled_one_go_on_with_another_answer(harness) -> None:
    async with harness(fails, chat) as h:
        session = await h.start("fails")
        await session.answer("bad")
        assert (await session.state()).run.status is RunStatus.FAILED
        await session.amend((await waits(session))[0], "good")
        assert await session.result() == "good"
        other = await h.start("chat")
        await other.answer("a")
        await other.cancel_run()
        await other.rewind(wait_id=(await waits(other))[0])
        await other.answer("bye")
        assert await other.result() == 1


async def test_a_blocked_run_goes_back_before_what_blocked_it(harness) -> None:
    async with harness(code()) as h:
        session = await h.start("five")
        await session.answer("a")
        await session.park()
        h.deploy(_changed_behind_the_first())
        await session.answer("b")
        assert (await session.state()).run.status is RunStatus.BLOCKED
        await session.rewind(to_op=3)
        assert await session.result() == ["one", "a", "changed"]


def _changed_behind_the_first() -> Any:
    @task(id="five")
    async def five(payload: Any) -> list[str]:
        got = [await do("one"), await answers.wait(subject="first?").unwrap()]
        await replies.append("instead")
        return [*got, "changed"]

    return five


async def test_a_session_that_its_run_closed_is_open_again(harness) -> None:
    async with harness(closes) as h:
        session = await h.start("closes", external_id="mine")
        await session.answer("wrong")
        assert (await session.state()).status == "closed"
        assert h.ledger.index.counts()["open"] == 0
        await session.amend((await waits(session))[0], "right")
        assert await session.result() == "right"
        await session.rewind(to_op=1, keep_answers=False)
        assert h.ledger.index.counts()["open"] == 1
        again = await h.start("closes", external_id="mine")
        assert again.id == session.id
        await session.answer("last")
        assert await session.result() == "last"
        other = await h.start("closes")
        await other.cancel()
        with pytest.raises(SessionTerminal):
            await other.rewind(to_op=1)


async def test_an_external_id_stays_with_the_session_that_has_it_now(harness) -> None:
    async with harness(closes) as h:
        first = await h.start("closes", external_id="mine")
        await first.answer("a")
        second = await h.start("closes", external_id="mine")
        assert second.id != first.id
        await first.rewind(to_op=1, keep_answers=False)
        assert h.ledger.index.counts()["open"] == 2
        assert (await h.start("closes", external_id="mine")).id == second.id


async def test_a_rewind_is_stored_before_the_code_hears_of_it(harness) -> None:
    """A host that dies in between: the next one goes on from what is on disk, before or after."""
    async with harness(code()) as h:
        session = await h.start("five")
        await to_the_end(session)
        second = (await waits(session))[1]
        await session.rewind(wait_id=second, settle=False)
        await session.kill()
        assert await session.result() == ALL
        rewound = [e for e in await session.transcript() if e.kind == "run.rewound"]
        assert len(rewound) == 1


@task
async def drawn(payload: Any, ctx: TaskContext) -> list[str]:
    """Draws an id before each of two questions."""
    first = str(ctx.uuid())
    said = await answers.wait(subject="first?").unwrap()
    mine = await tokens.create(subject="mine")
    second = str(ctx.uuid())
    await do(said)
    return [first, second, said, await answers.wait(subject=f"{mine.id}?").unwrap()]


async def fork(h: Harness, session: HarnessSession, **options: Any) -> HarnessSession:
    client = h.async_client()
    made = await client.sessions.open(session.id).fork(reason="what if", **options)
    return HarnessSession(h, made.id)


async def test_a_fork_goes_on_by_itself_and_draws_the_same_ids(harness) -> None:
    async with harness(drawn) as h:
        session = await h.start("drawn")
        await session.answer("a")
        await session.answer("end")
        first = await session.result()
        before = await session.transcript()
        one = (await waits(session))[0]
        other = await fork(h, session, wait_id=one, answer="b")
        await other.answer("end")
        assert await other.result() == [*first[:2], "b", "end"]
        third = await fork(h, other, wait_id=(await waits(other))[1])
        await third.answer("other end")
        assert await third.result() == [*first[:2], "b", "other end"]
        assert await session.transcript() == before
        made = [e for e in h.entries() if e.kind == "token.created" and "copied_from" not in e.body]
        assert len(made) == len(h.ledger.index.tokens) == 2
    assert did == {"a": 1, "b": 1}


async def test_tokens_of_what_was_taken_back_end_with_it(harness) -> None:
    async with harness(drawn) as h:
        session = await h.start("drawn")
        await session.answer("a")
        [made] = [
            e.body["token_id"] for e in await session.transcript() if e.kind == "token.created"
        ]
        first = (await waits(session))[0]
        seen = await session.preview(wait_id=first)
        assert seen.tokens == [made]
        await session.amend(first, "b")
        assert (await h.ledger.get_token(made))["status"] == "cancelled"
        assert len(h.ledger.index.tokens) == 2


@task
async def links(payload: Any) -> Any:
    """Makes a token and a public token, then asks by both an input and the token."""
    made = await tokens.create(timeout="1h")
    await auth.create_public_token(scope=auth.send_to(answers))
    await do("told")
    first = await answers.wait(subject="first?").unwrap()
    return [first, await tokens.wait(made.id, schema=int).unwrap()]


async def test_a_fork_asks_a_question_whose_answer_a_rewind_kept(harness) -> None:
    async with harness(drawn) as h:
        session = await h.start("drawn")
        await session.answer("a")
        first = next(e for e in await session.transcript() if e.kind == "wait.opened")
        await session.rewind(to_op=first.op, reason="wrong")
        assert (await session.wait())["subject"] != "first?", "its answer is kept"
        other = await fork(h, session, to_op=first.op)
        waiting = await other.wait()
        assert (waiting["subject"], did["b"]) == ("first?", 0)
        forked = next(e for e in await other.transcript() if e.kind == "session.forked")
        assert [one["stream"] for one in forked.body["kept_unused"]] == ["answers"]
        await other.answer("b")
        await other.answer("end")
        assert (await other.result())[2:] == ["b", "end"]
        await session.answer("its own end")
        assert (await session.result())[2:] == ["a", "its own end"]


async def test_a_fork_finds_what_its_origins_code_made_and_ends_none_of_it(harness) -> None:
    async with harness(links) as h:
        session = await h.start("links")
        opened = await session.wait()
        other = await fork(h, session, wait_id=opened["wait_id"], answer="b")
        [token] = h.ledger.index.tokens
        second = await other.wait()
        assert (second["token_id"], did) == (token.id, {"told": 1})
        await other.rewind(to_op=1)
        assert (did, token.is_pending) == ({"told": 2}, True)
        assert [one.token.revoked_at for one in h.ledger.index.keys.public_tokens.values()] == [
            None
        ] * 4
        await session.answer("a")
        await h.complete_token(token.id, 3)
        assert await session.result() == ["a", 3]
        assert await other.wait() is not None


async def test_a_fork_gets_no_secrets_of_what_its_origin_made(harness) -> None:
    @task(id="secretive")
    async def secretive(payload: Any) -> list[int]:
        made = await tokens.create(timeout="1h")
        sender = await auth.create_public_token(scope=auth.send_to(answers))
        await answers.wait(subject="go on?").unwrap()
        own = await tokens.create(timeout="1h")
        mine = made.callback_url, made.public_access_token, sender.public_access_token
        texts = [*mine, own.callback_url, own.public_access_token]
        return [len(list(find_secrets(text))) for text in texts]

    async with harness(secretive) as h:
        session = await h.start("secretive")
        opened = await session.wait()
        other = await fork(h, session, wait_id=opened["wait_id"], answer="b")
        await session.answer("a")
        assert await session.result() == [1, 1, 1, 1, 1]
        assert await other.result() == [0, 0, 0, 1, 1]


async def test_an_answer_that_forks_fits_the_waits_own_schema(harness) -> None:
    @task(id="late")
    async def late(payload: Any) -> Any:
        made = await tokens.create(timeout="1h")
        await answers.wait(subject="completed?").unwrap()
        return (await tokens.wait(made.id, schema=int)).value

    async with harness(late) as h:
        session = await h.start("late")
        [token] = h.ledger.index.tokens
        await h.complete_token(token.id, 3)  # before anybody says that it is to be a number
        await session.answer("yes")
        assert await session.result() == 3
        with pytest.raises(SchemaMismatch):
            await fork(h, session, to_op=3, answer="four")
        assert await (await fork(h, session, to_op=3, answer=4)).result() == 4


class Payments:
    """A payment service that remembers keys: what is asked again under one key is the same charge."""

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.refunds: dict[str, int] = {}

    def forget(self) -> None:
        self.charges.clear()
        self.refunds.clear()

    def charge(self, key: str, amount: int) -> str:
        assert self.charges.setdefault(key, amount) == amount
        return key

    def refund(self, charge: str, key: str) -> None:
        self.refunds.setdefault(key, self.charges[charge])


payments = Payments()


@step
async def pay(amount: int) -> str:
    made = payments.charge(step_key(), amount)
    if amount == STUCK:
        began.set()
        await reached(held)
    return made


@step
async def pay_back(charge: str) -> None:
    payments.refund(charge, step_key())


STUCK = 13


@task
async def invoice(payload: Any) -> int:
    amount = int(await answers.wait(subject="how much?").unwrap())
    charge = await pay(amount)
    if await answers.wait(subject="was it right?").unwrap() == "no":
        await pay_back(charge)
        return 0
    return amount


async def test_a_payment_behind_an_amended_answer_is_another_charge(harness) -> None:
    payments.forget()
    async with harness(invoice) as h:
        session = await h.start("invoice")
        await session.answer("10")
        await session.answer("yes")
        amount = (await waits(session))[0]
        seen = await session.preview(wait_id=amount)
        (step_again,) = seen.steps
        assert list(payments.charges) == [step_again.step_key]
        await session.amend(amount, "12")
        assert await session.result() == 12
        assert payments.charges == {step_again.step_key: 10, step_again.new_key: 12}
        await session.amend((await waits(session))[-1], "no")
        assert await session.result() == 0
        assert list(payments.refunds.values()) == [12], "the first is still to be paid back"


async def test_a_payment_that_was_under_way_keeps_its_key(harness) -> None:
    payments.forget()
    async with harness(invoice) as h:
        session = await h.start("invoice")
        await session.answer(str(STUCK), settle=False)
        await reached(began)
        (key,) = payments.charges
        await session.rewind(to_op=2, settle=False)  # nobody knows whether it was done
        held.set()
        assert await session.wait() is not None
        assert payments.charges == {key: STUCK}
        assert await keys_of(session, "pay") == [key, key]
