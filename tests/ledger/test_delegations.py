"""What the ledger keeps of delegations, and that no order of events lets a deputy answer who may not (S-142)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from helmr.errors import (
    BadRequest,
    Conflict,
    DelegationNotFound,
    NotAnAnswerer,
    Overloaded,
    PersonDisabled,
)
from helmr.wait_details import WaitDetails
from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.commands import AnswerWait, OperationKey, WithdrawVote
from helmr_runtime.core.decide import decide
from helmr_runtime.core.delegations import Delegation, Deputy
from helmr_runtime.core.drafts import DecisionContext
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Principal, stamp
from helmr_runtime.core.people import (
    DELEGATIONS_EACH_MAX,
    NO_ONE_DISABLED,
    Delegate,
    DisabledPeople,
    DisablePerson,
    EnablePerson,
    EndDelegation,
    person_principal,
)
from helmr_runtime.core.tokens import LedgerCommand
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.index import commands
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from tests.budget import examples
from tests.core.builder import T0, Story
from tests.ledger.sessions import ALICE

ADA = person_principal("ada", "key_1")


def operation() -> OperationKey:
    return OperationKey(id=ids.new_id(ids.OPERATION), request_hash="r")


def made(now: datetime, delegator: str = "ada", deputy: str = "bo", **more: Any) -> Delegation:
    said: dict[str, Any] = {
        "id": ids.new_id(ids.DELEGATION),
        "delegator": delegator,
        "deputy": deputy,
        "starts_at": now,
        "ends_at": now + timedelta(days=14),
        "made_by": ALICE,
        "made_at": now,
    }
    return Delegation(**{**said, **more})


def delegate(one: Delegation, by: Principal = ALICE) -> Delegate:
    return Delegate(principal=by, operation=operation(), delegation=one)


def end(one: Delegation) -> EndDelegation:
    return EndDelegation(principal=ALICE, operation=operation(), delegation_id=one.id)


@pytest.fixture
async def ledger(tmp_path: Path, clock: FakeClock) -> AsyncIterator[LedgerActor]:
    found = LedgerActor(tmp_path / "helmr.duckdb", clock=clock)
    yield found
    await found.close()


async def test_a_delegation_is_kept_over_a_restart_until_it_ends(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = LedgerActor(tmp_path / "helmr.duckdb", clock=clock)
    now = clock.now()
    one = made(now, tasks=("refund",), tags=("spring",), reason="on leave", groups=("finance",))
    two = made(now, "ada", "cy")
    assert await ledger.fact(delegate(one)) == {"delegation_id": one.id}
    await ledger.fact(delegate(two, ADA))
    await ledger.fact(end(two))
    before = await ledger.feed_head()
    assert await ledger.fact(end(two)) == {"delegation_id": two.id}
    assert await ledger.feed_head() == before, "ending it again changes nothing"
    known = await ledger.delegations()
    await ledger.close()
    again = LedgerActor(tmp_path / "helmr.duckdb", clock=clock)
    assert await again.delegations() == known
    live, ended = known
    assert live == replace(one, made_at=live.made_at)
    assert (ended.id, ended.made_by, ended.ended_at is not None) == (two.id, ADA, True)
    assert (await again.disabled()).delegations == {two.id}
    assert [one["id"] for one in await again.people()] == ["ada"]
    with pytest.raises(DelegationNotFound):
        await again.fact(end(made(now)))
    await again.close()


async def test_a_repeated_delegation_is_the_same(ledger: LedgerActor, clock: FakeClock) -> None:
    fact = delegate(made(clock.now()))
    first = await ledger.fact(fact)
    assert await ledger.fact(replace(fact, delegation=made(clock.now()))) == first
    assert len(await ledger.delegations()) == 1


async def test_what_is_no_delegation_is_refused(ledger: LedgerActor, clock: FakeClock) -> None:
    now = clock.now()
    said_bo = Principal("api_key", "key", "bot", "Bo")
    for one, by in (
        (made(now, "bo", "Bo"), ALICE),
        (made(now), person_principal("bo", "key")),
        (made(now), said_bo),
        (made(now, ends_at=now), ALICE),
        (made(now, starts_at=now + timedelta(days=15)), ALICE),
        (made(now, ends_at=now + timedelta(days=90, seconds=1)), ALICE),
    ):
        with pytest.raises(BadRequest):
            await ledger.fact(delegate(one, by))
    for name in ("ada", "bo"):
        await ledger.fact(DisablePerson(principal=ALICE, person=name, names=(name,)))
        with pytest.raises(Conflict, match=f"{name} is disabled"):
            await ledger.fact(delegate(made(now)))
        await ledger.fact(EnablePerson(principal=ALICE, person=name))
    assert list(await ledger.delegations()) == []
    await ledger.fact(delegate(made(now, ends_at=now + timedelta(days=90))))


async def test_a_person_has_at_most_so_many(ledger: LedgerActor, clock: FakeClock) -> None:
    for _ in range(DELEGATIONS_EACH_MAX):
        await ledger.fact(delegate(made(clock.now())))
    with pytest.raises(Overloaded):
        await ledger.fact(delegate(made(clock.now())))


@pytest.mark.parametrize("name", ["ada", "bo"])
async def test_disabling_one_of_the_two_ends_it_in_that_commit(
    ledger: LedgerActor, clock: FakeClock, name: str
) -> None:
    one, other = made(clock.now()), made(clock.now(), "cy", "di")
    for each in (one, other):
        await ledger.fact(delegate(each))
    before = await ledger.feed_head()
    await ledger.fact(DisablePerson(principal=ALICE, person=name, names=(name,)))
    found = await ledger.feed(before, 10, 0)
    assert [one["kind"] for one in found] == ["person.disabled", "person.delegation_ended"]
    assert found[1]["body"] == {
        "delegation_id": one.id,
        "person": "ada",
        "deputy": "bo",
        "reason": "disabled",
    }
    await ledger.fact(EnablePerson(principal=ALICE, person=name))
    assert [each.id for each in await ledger.delegations() if each.ended_at is None] == [other.id]


# --- any order of events --------------------------------------------------------------------------

PEOPLE = ("ada", "bo", "cy", "di")
GROUPS = ("finance", "on-call")


@dataclass
class World:
    """A ledger's memory, a session that waits, and a host that knows what it knew when it read the session.

    Attributes:
        known: What the host knows.
        is_late: The gateway has not heard of the end of delegations.
        live: What the naive account takes for the delegations that hold: delegator, deputy, end, scope.
        votes: Its account of votes: who is named, and the answer.
    """

    groups: Mapping[str, tuple[str, ...]]
    details: WaitDetails
    starter: str
    index: LedgerIndex = field(default_factory=LedgerIndex)
    now: datetime = T0
    offset: int = 0
    known: DisabledPeople = NO_ONE_DISABLED
    is_late: bool = False
    disabled: set[str] = field(default_factory=set)
    live: dict[str, Delegation] = field(default_factory=dict)
    votes: list[tuple[frozenset[str], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.story = Story(starter=Principal("person", self.starter)).execute()
        self.story.open_wait(1, details=self.details)
        self.wait_id = self.story.wait.id
        self.not_by = self.story.entries[-1].body.get("not_by", [])

    # --- what is done ---------------------------------------------------------------------------

    def fact(self, fact: LedgerCommand) -> None:
        """The ledger decides and folds."""
        for draft in commands.decide(self.index, fact, self.now, None).drafts:
            self.offset += 1
            entry = self.stamped(draft, "ses_0", self.offset)
            self.index.people.apply(replace(entry, feed_offset=self.offset))

    def stamped(self, draft: Draft, session_id: str, seq: int) -> Entry:
        return stamp(
            draft, session_id=session_id, seq=seq, recorded_at=self.now, previous=b"", key=None
        )

    def delegate(self, delegator: str, deputy: str, by: str, days: int, **scope: Any) -> None:
        one = made(self.now, delegator, deputy, ends_at=self.now + timedelta(days=days), **scope)
        fits = delegator != deputy and by != deputy
        fits = fits and not {delegator, deputy, by} & self.disabled
        try:
            self.fact(delegate(one, Principal("person", by)))
        except (BadRequest, Conflict, PersonDisabled):
            assert not fits
        else:
            assert fits
            self.live[one.id] = one

    def end(self, one: Delegation) -> None:
        self.live.pop(one.id, None)
        try:
            self.fact(end(one))
        except DelegationNotFound:
            assert self.now >= one.ends_at

    def disable(self, name: str) -> None:
        self.fact(DisablePerson(principal=ALICE, person=name, names=(name,)))
        self.disabled.add(name)
        self.withdraw(name)
        self.live = {k: one for k, one in self.live.items() if name not in one.people}

    def enable(self, name: str) -> None:
        self.fact(EnablePerson(principal=ALICE, person=name))
        self.disabled.discard(name)

    def withdraw(self, name: str) -> None:
        if self.story.state.wait is None:
            return
        self.story.now = self.now
        taken = WithdrawVote(principal=ALICE, wait_id=self.wait_id, person=name)
        self.story.write(*decide(self.story.state, taken, self.context()).drafts)
        self.votes = [vote for vote in self.votes if name not in vote[0]]

    def context(self) -> DecisionContext:
        return DecisionContext(
            now=self.now,
            policy=self.story.policy,
            is_hot=True,
            disabled=self.known.people,
            ended=self.known.delegations,
        )

    def delegations(self) -> list[Delegation]:
        """Those that the gateway knows; it may not have heard of the end of some."""
        people = self.index.people
        return [*people.delegations.values(), *(people.ended.values() if self.is_late else ())]

    def answer(self, by: str, deputy_for: str | None, data: Any) -> str:
        """Answer as a host and the ledger do; returns `refused`, `voted` or `fulfilled`."""
        command = AnswerWait(
            principal=Principal("person", by),
            identity=Identity(id=by, groups=self.groups[by]),
            operation=operation(),
            wait_id=self.wait_id,
            record_id=self.story.new("rec"),
            data=data,
            deputy_for=deputy_for,
            deputies=tuple(
                Deputy(delegation=one, file_groups=self.groups[one.delegator])
                for one in self.delegations()
                if one.deputy == by
            ),
        )
        for _ in range(2):
            if self.known.concern(command):  # as a host asks
                self.known = self.index.people.disabled
            try:
                self.known.check_command(command)
                decided = decide(self.story.state, command, self.context())
            except (NotAnAnswerer, PersonDisabled):
                return "refused"
            seq = self.story.state.seq
            entries = [
                self.stamped(draft, "ses_1", seq + 1 + at)
                for at, draft in enumerate(decided.drafts)
            ]
            if not self.index.people.refuses(entries):
                self.story.now = self.now
                self.story.write(*decided.drafts)
                return str(decided.reply["outcome"])
            self.known = self.index.people.disabled  # the host reads the session again
        raise AssertionError("refused by the ledger, and not by a host that knows what it knows")

    # --- the naive account ----------------------------------------------------------------------

    def names(self, person: str) -> set[str]:
        return {person, *(f"group:{group}" for group in self.groups[person])}

    def is_excluded(self, person: str) -> bool:
        return bool(self.names(person) & set(self.not_by))

    def admits(self, person: str) -> bool:
        named = set(self.details.answerers)
        return not self.is_excluded(person) and (not named or bool(named & self.names(person)))

    def delegators(self, deputy: str) -> set[str]:
        """For whom this person may answer now."""
        if self.is_excluded(deputy) or self.details.deputies is False:
            return set()
        return {
            one.delegator
            for one in self.live.values()
            if one.deputy == deputy
            and one.starts_at <= self.now < one.ends_at
            and (not one.streams or "approval" in one.streams)
            and (not one.tags or {"a"} & set(one.tags))
            and self.admits(one.delegator)
        }

    def expected(self, by: str, deputy_for: str | None, data: Any) -> str:
        """The outcome of an answer, and the account after it."""
        if by in self.disabled:
            return "refused"
        others = self.delegators(by)
        if deputy_for is not None:
            if deputy_for not in others:
                return "refused"
            named = frozenset({by, deputy_for})
        elif self.admits(by):
            named = frozenset({by})
        elif len(others) == 1:
            named = frozenset({by, *others})
        else:
            return "refused"
        self.votes = [
            vote for vote in self.votes if not vote[0] & named and not vote[0] & self.disabled
        ]
        self.votes.append((named, data))
        return "fulfilled" if self.have(data) >= self.details.approvals else "voted"

    def have(self, data: Any) -> int:
        return sum(vote[1] == data for vote in self.votes)

    def check(self, *, is_over: bool) -> None:
        """No human counts twice, and each vote is one that the account has."""
        humans = [human for vote in self.votes for human in vote[0]]
        assert len(humans) == len(set(humans))
        if not is_over:
            found: dict[int, set[str]] = {}
            for name, (seq, _) in self.story.wait.votes.items():
                found.setdefault(seq, set()).add(name)
            kept = [vote for vote in found.values() if not vote & self.disabled]
            mine = [set(vote[0]) for vote in self.votes if not vote[0] & self.disabled]
            assert sorted(map(sorted, kept)) == sorted(map(sorted, mine))


PARTS = 4


def a_world(random: Random) -> World:
    def some(names: Collection[str], most: int) -> tuple[str, ...]:
        return tuple(random.sample(sorted(names), random.randint(0, most)))

    named = (*PEOPLE, *(f"group:{group}" for group in GROUPS))
    details = WaitDetails(
        answerers=some(named, 3),
        not_by=(*some(named, 1), *random.choice([(), (), ("starter",)])),
        approvals=random.choice([2, 2, 3]),
        deputies=random.choice([None, None, None, True, False]),
    )
    groups = {one: some(GROUPS, 2) for one in PEOPLE}
    return World(groups=groups, details=details, starter=random.choice(PEOPLE))


@pytest.mark.parametrize("part", range(PARTS))
def test_no_one_answers_who_could_not_and_no_human_counts_twice(part: int) -> None:
    """Random people, groups, rules, votes and delegations, against a naive account."""
    outcomes: set[str] = set()
    by_deputies = 0
    for seed in range(part, examples(1_000), PARTS):
        random = Random(seed)
        world = a_world(random)
        for _ in range(random.randint(5, 25)):
            who, other, by = (random.choice(PEOPLE) for _ in range(3))
            match random.choice("dddaaaaaaaewxytt"):
                case "d":
                    scope: dict[str, Any] = random.choice(
                        [
                            {},
                            {},
                            {"streams": ("approval", "x")},
                            {"streams": ("x",)},
                            {"tags": ("a",)},
                        ]
                    )
                    world.delegate(
                        who, other, random.choice([who, by]), random.choice([1, 30]), **scope
                    )
                case "e" if world.live:
                    world.end(random.choice(list(world.live.values())))
                case "x":
                    world.disable(who)
                case "y":
                    world.enable(who)
                case "w":
                    world.withdraw(who)
                case "t":
                    world.now += timedelta(hours=random.choice([1, 20]))
                case "a":
                    others = sorted(world.delegators(who)) or [other]
                    named = random.choice([None, other, random.choice(others)])
                    data = random.choice(["yes", "yes", "no"])
                    live = {*world.live}
                    world.is_late = random.random() < 0.5
                    if world.is_late:  # else it may take a person for the deputy of several
                        world.known = world.index.people.disabled
                    wanted = world.expected(who, named, data)
                    got = world.answer(who, named, data)
                    assert got == wanted, (seed, who, named)
                    outcomes.add(got)
                    body = world.story.entries[-1].body
                    if got != "refused" and "delegation" in body:
                        by_deputies += 1
                        assert body["delegation"]["id"] in live
                case _:
                    pass
            is_over = world.story.state.wait is None
            world.check(is_over=is_over)
            if is_over:
                ended = world.story.entries[-1]
                assert ended.kind is EntryKind.WAIT_FULFILLED
                assert ended.body["have"] >= world.details.approvals
                break
    assert by_deputies
    assert outcomes == {"refused", "voted", "fulfilled"}


STEPS = ("delegate", "disable", "answer")


@pytest.mark.parametrize("order", list(permutations(STEPS)), ids=" ".join)
@pytest.mark.parametrize("name", ["ada", "bo"])
@pytest.mark.parametrize("is_told", [True, False], ids=["the host knows", "the host does not"])
def test_a_deputy_answers_between_the_delegation_and_the_disabling_alone(
    order: tuple[str, ...], name: str, is_told: bool
) -> None:
    groups = dict.fromkeys(PEOPLE, ())
    world = World(groups=groups, details=WaitDetails(answerers=("ada",)), starter="cy")
    world.is_late = True
    outcome = ""
    for step in order:
        match step:
            case "delegate":
                world.delegate("ada", "bo", "cy", 1)
            case "disable":
                world.disable(name)
            case _:
                outcome = world.answer("bo", None, "yes")
        if is_told:
            world.known = world.index.people.disabled
    answers = order == ("delegate", "answer", "disable")
    assert outcome == ("fulfilled" if answers else "refused")


@pytest.mark.parametrize("is_told", [True, False], ids=["the host knows", "the host does not"])
def test_a_flush_that_carries_a_delegation_is_refused_once_it_has_ended(is_told: bool) -> None:
    groups = dict.fromkeys(PEOPLE, ())
    details = WaitDetails(answerers=("ada",), approvals=1, not_by=("cy",))
    world = World(groups=groups, details=details, starter="cy")
    world.delegate("ada", "bo", "ada", 1)
    [one] = world.live.values()
    command = AnswerWait(
        principal=Principal("person", "bo"),
        identity=Identity(id="bo"),
        operation=operation(),
        wait_id=world.wait_id,
        record_id="rec_1",
        data="yes",
        deputies=(Deputy(delegation=one),),
    )
    drafts = decide(world.story.state, command, world.context()).drafts
    entries = [world.stamped(draft, "ses_1", 9) for draft in drafts]
    assert not world.index.people.refuses(entries)
    world.end(one)
    assert world.index.people.refuses(entries)
    if is_told:
        world.known = world.index.people.disabled
        with pytest.raises(NotAnAnswerer, match="answered by ada"):
            decide(world.story.state, command, world.context())
    late = [replace(entry, recorded_at=one.ends_at) for entry in entries]
    world.delegate("ada", "bo", "ada", 1)
    assert world.index.people.refuses(late), "after its time"
    forged = [
        replace(entry, body={**entry.body, "person": {"id": "di"}})
        for entry in entries
        if "delegation" in entry.body
    ]
    assert world.index.people.refuses(forged), "of two other people"
