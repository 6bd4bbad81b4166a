"""Votes against whatever else comes at that moment, in both orders: core and model agree, and so does a third count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import pytest

from helmr_runtime.core.answerers import Answerers, Identity
from helmr_runtime.core.decide import votes
from tests.programs.model.commands import Command, met
from tests.programs.model.core_door import in_core
from tests.programs.model.naive import Model
from tests.programs.model.vote_races import COMMENT, KINDS, WAIT, race

SEEDS = 1_000

BOTH = ("voted", "fulfilled")
"""What becomes of a vote that is decided first, whatever it meets."""

SECOND = {
    "vote": {"voted", "fulfilled", "wait_resolved"},
    "other amount": {"voted", "fulfilled"},
    "other key": {"voted", "wait_resolved"},
    "refusal": {"wait_resolved"},
    "withdrawal": {"voted", "fulfilled"},
    "disabling": {"voted", "fulfilled", "person_disabled"},
    "deadline": {"wait_timed_out"},
    "late clock": {"wait_timed_out"},
    "default": {"wait_resolved"},
    "cancel of the run": {"wait_resolved"},
    "cancel of the session": {"wait_resolved"},
    "rewind": {"wait_resolved"},
    "override": {"wait_resolved"},
    "claim": {"voted", "fulfilled", "wait_claimed"},
    "send": {"voted", "fulfilled"},
    "crash": {"voted", "fulfilled"},
    "leaving the group": {"voted", "fulfilled", "not_an_answerer"},
}
"""What may become of one that is decided second."""


def told(order: Sequence[Command]) -> tuple[list[str], list[Any]]:
    """What the model answers to each, and the lines of the session."""
    model = Model()
    replies = [met(model, command) for command in order]
    words = [one if isinstance(one, str) else one.get("outcome", "ok") for one in replies]
    return words, model.sessions["s0"].entries


def agreed(lines: Sequence[Any]) -> None:
    """Count again from the lines alone: whoever ends the wait has so many others beside them, each once."""
    standing: dict[str, Any] = {}
    needed = 0
    for kind, _, op, _, said, _ in lines:
        if op != 1:
            continue
        if kind == "wait.opened":
            standing = {}
        elif kind == "wait.voted":
            data, person, have, needed, _ = said
            standing[person] = without_comment(data)
            assert have == list(standing.values()).count(without_comment(data)) < needed
        elif kind == "wait.vote_withdrawn":
            del standing[said[0]]
        elif kind == "wait.fulfilled" and len(said) == 3:  # by a vote
            _, person, have = said
            others = [what for one, what in standing.items() if one != person]
            assert have == 1 + max(map(others.count, others), default=0)


def without_comment(data: Any) -> Any:
    return {name: value for name, value in data.items() if name != COMMENT}


@pytest.mark.timeout(300)
def test_a_vote_and_what_comes_at_the_same_moment_in_both_orders() -> None:
    seen: dict[str, set[tuple[bool, str]]] = defaultdict(set)
    for seed in range(SEEDS):
        met_at = race(seed)
        at = len(met_at.prefix)
        for order in met_at.orders:
            found = in_core(order)
            assert found is None, f"seed {seed}, {met_at.kind}: {found}\n{order}"
            words, lines = told(order)
            agreed(lines)
            is_first = order[at] is met_at.one
            became = words[at if is_first else at + 1]
            assert became in (BOTH if is_first else SECOND[met_at.kind]), (seed, met_at.kind)
            seen[met_at.kind].add((is_first, became))
            assert [one[0] for one in lines if one[2] == 1].count("wait.fulfilled") <= 2
    for kind in KINDS:
        assert {(True, one) for one in BOTH} <= seen[kind], kind
        assert {(False, one) for one in SECOND[kind]} <= seen[kind], kind


def test_the_first_ones_vote_does_not_carry_an_amount_that_the_second_one_edits() -> None:
    for seed in range(SEEDS):
        met_at = race(seed)
        if met_at.kind != "other amount":
            continue
        for order in met_at.orders:
            *_, ended = [one for one in told(order)[1] if one[2] == 1]
            if ended[0] != "wait.fulfilled":
                continue
            [record] = [one for one in told(order)[1] if one[0] == "input.accepted"]
            asked = next(one for one in order if one.kind == "start").args["code"][0][5]
            people = {
                one.args["me"]
                for one in order
                if one.kind == "answer"
                and without_comment(one.args["data"]) == without_comment(record[4][2])
            }
            assert len(people) >= asked["approvals"]


def twice(wait: Any, person: str, data: Any) -> dict[str, Any]:
    """Counts whoever has voted before beside their own new vote."""
    proposal = wait.restriction.proposal(data)
    same = sum(one == proposal for _, one in wait.votes.values())
    voters = {one: seq for one, (seq, _) in wait.votes.items()}
    return {"proposal": proposal, "have": same + 1, "need": wait.approvals, "voters": voters}


BUGS: dict[str, Callable[[], Any]] = {
    "a person counts twice": lambda: mock.patch.object(votes, "tally", twice),
    "groups of yesterday count": lambda: mock.patch.object(
        Identity, "knows_groups", lambda self, now: self.groups is not None
    ),
    "one who is left out votes": lambda: mock.patch.object(Answerers, "require", return_value=None),
    "a comment parts them": lambda: mock.patch.object(
        Answerers, "proposal", lambda self, data: repr(data)
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_core_that_counts_otherwise_is_found(bug: str) -> None:
    orders: Iterator[list[Command]] = (
        order for seed in range(SEEDS) for order in race(seed).orders
    )
    with BUGS[bug]():
        if bug == "groups of yesterday count":
            old = [Command("answer", {**VOTE, "groups": "old"})]
            orders = ([*order[:4], *old] for order in orders)
        assert any(in_core(order) is not None for order in orders)


VOTE = {"wait": WAIT, "data": {"decision": "yes"}, "me": "ada", "via": "key_1"}
