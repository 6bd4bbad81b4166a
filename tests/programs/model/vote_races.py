"""Races around votes: what two callers do at the same time, which a session decides in one order or in the other.

A race is a prefix, two commands, and what follows; both orders go through the model and the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.programs.model.commands import Command
from tests.programs.model.naive import PEOPLE

TIMEOUT_MS = 1_000
WAIT = "s0.w0"
COMMENT = "why"
NO = {"decision": "no"}


@dataclass(frozen=True)
class Race:
    """One race.

    Attributes:
        kind: What meets.
        prefix: What came before.
        one: Of the two, that which is a vote.
        other: What it meets.
        after: What is done when both are decided.
    """

    kind: str
    prefix: Sequence[Command]
    one: Command
    other: Command
    after: Sequence[Command]

    @property
    def orders(self) -> tuple[list[Command], list[Command]]:
        """Both."""
        pairs = [self.one, self.other], [self.other, self.one]
        first, second = ([*self.prefix, *pair, *self.after] for pair in pairs)
        return first, second


def race(seed: int) -> Race:
    """The race of a seed."""
    random = Random(f"race of votes {seed}")
    people = random.sample(sorted(PEOPLE), 3)
    approvals = random.choice([2, 2, 3])
    kind = random.choice(sorted(_OTHERS))
    yes = {"decision": "yes", "cents": random.choice([1, 2])}
    prefix = [
        *(Command("regroup", {"person": one, "names": ["finance"]}) for one in people),
        _start(approvals, random, has_default=kind == "default"),
        *(
            _vote(one, yes, random)
            for one in people[: random.choice([0, approvals - 2, approvals - 1])]
        ),
    ]
    if kind in ("deadline", "default", "late clock"):
        prefix.append(Command("delay", {"ms": TIMEOUT_MS - 1}))
    if random.random() < 0.2:
        prefix.append(Command("nothing", {"session": "s0", "how": random.choice(["park", "kill"])}))
    voter = people[len(prefix) % 3] if random.random() < 0.2 else people[-1]
    one = _vote(voter, yes, random)
    other = _OTHERS[kind](random, voter, people, yes)
    after = [_vote(who, yes, random) for who in random.sample(people, 3)]
    return Race(kind, prefix, one, other, after)


def _start(approvals: int, random: Random, *, has_default: bool) -> Command:
    answerers = random.choice([["group:finance"], sorted(PEOPLE), []])
    may = {
        "answerers": answerers,
        "not_by": [],
        "approvals": approvals,
        "refusals": ["no"],
        "comments": [COMMENT],
    }
    steps = [["default", TIMEOUT_MS, "opened", 0]]
    timeout = 2 * TIMEOUT_MS if has_default else TIMEOUT_MS
    ask = ["wait", "chat", None, timeout, [None, steps if has_default else []], may]
    return Command(
        "start", {"task": "keeps", "code": [ask, ["wait", "chat", None, None, None]], "tokens": []}
    )


def _vote(who: str, data: Any, random: Random) -> Command:
    key = random.choice(["key_1", "key_2"])
    said = {**data, COMMENT: random.randrange(3)}
    return Command("answer", {"wait": WAIT, "data": said, "me": who, "via": key})


Other = Callable[[Random, str, Sequence[str], Any], Command]


def _another(random: Random, voter: str, people: Sequence[str]) -> str:
    return random.choice([one for one in people if one != voter])


_OTHERS: Mapping[str, Other] = {
    "vote": lambda random, voter, people, yes: _vote(_another(random, voter, people), yes, random),
    "other amount": lambda random, voter, people, yes: _vote(
        _another(random, voter, people), {**yes, "cents": 9}, random
    ),
    "other key": lambda random, voter, people, yes: Command(
        "answer", {"wait": WAIT, "data": yes, "me": voter, "via": "key_3"}
    ),
    "refusal": lambda random, voter, people, yes: _vote(
        _another(random, voter, people), NO, random
    ),
    "withdrawal": lambda random, voter, people, yes: Command(
        "withdraw", {"wait": WAIT, "me": random.choice(people)}
    ),
    "disabling": lambda random, voter, people, yes: Command(
        "disable", {"person": random.choice([voter, *people])}
    ),
    "deadline": lambda random, voter, people, yes: Command("advance", {"ms": 1}),
    "late clock": lambda random, voter, people, yes: Command("delay", {"ms": 1}),
    "default": lambda random, voter, people, yes: Command("advance", {"ms": 1}),
    "cancel of the run": lambda random, voter, people, yes: Command("cancel_run", {"run": "s0.r0"}),
    "cancel of the session": lambda random, voter, people, yes: Command(
        "cancel", {"session": "s0"}
    ),
    "rewind": lambda random, voter, people, yes: Command(
        "rewind", {"run": "s0.r0", "op": 1, "keep": random.random() < 0.5}
    ),
    "override": lambda random, voter, people, yes: Command(
        "answer", {"wait": WAIT, "data": yes, "why": "on leave"}
    ),
    "claim": lambda random, voter, people, yes: Command(
        "claim", {"wait": WAIT, "me": random.choice(people)}
    ),
    "send": lambda random, voter, people, yes: Command(
        "send", {"session": "s0", "stream": "chat", "data": yes}
    ),
    "crash": lambda random, voter, people, yes: Command(
        "nothing", {"session": "s0", "how": "kill"}
    ),
    "leaving the group": lambda random, voter, people, yes: Command(
        "regroup", {"person": voter, "names": []}
    ),
}
KINDS = tuple(_OTHERS)
