"""Random code for sessions: scripts as `script.py` reads them, and how far apart in time things are.

What a script names is there: tokens that it was given or has made, and its children.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tests.programs.model.naive import STREAMS, TASKS

PEOPLE = ("ada", "bob")
HOUR_MS = 3_600_000
SHORT_MS = 50

CODE_MAX = 5
CHILDREN_DEEP = 2


@dataclass(frozen=True)
class Times:
    """What a generator may do with time.

    Attributes:
        name: `fake`, `late` or `real`.
        timeouts: Of waits and timers, milliseconds.
        escalation_steps: When those of an escalation come.
        advances: How far the clock is moved; none where time passes by itself.
        is_late: The clock may also be late: time passes, and nothing rings.
        has_people: Waits say who may answer, and people who are proven call.
    """

    name: str
    timeouts: tuple[int, ...]
    escalation_steps: tuple[int, ...]
    advances: tuple[int, ...] = ()
    is_late: bool = False
    has_people: bool = False


STEPS = (500, 1_000, 1_000, 29_000, 30_000, HOUR_MS)
FAKE = Times(
    "fake",
    (1_000, 30_000, HOUR_MS),
    STEPS,
    (0, 50, 500, 999, 1_000, 29_000, 30_000, HOUR_MS),
    has_people=True,
)
LATE = Times("late", FAKE.timeouts, STEPS, FAKE.advances, is_late=True, has_people=True)
REAL = Times("real", (SHORT_MS, HOUR_MS, HOUR_MS), (10, 20, HOUR_MS, HOUR_MS + 1))
"""A real runtime's timeouts: one that has passed before the next command, one that never does."""


_CODE = {
    "wait": 40,
    "await": 14,
    "create": 12,
    "public": 3,
    "sleep": 5,
    "step": 12,
    "child": 7,
    "join": 12,
    "output": 6,
    "peek": 4,
    "clock": 3,
    "raise": 3,
    "continue": 3,
}


class Scripts:
    """Makes scripts.

    Args:
        random: Where chance comes from.
        times: What a script may do with time.
    """

    def __init__(self, random: Random, times: Times) -> None:
        self.random = random
        self.times = times

    def code(self, given: int, depth: int = 0, level: int = 0) -> list[Any]:
        """A script. `depth`: how often it has gone on as another, `level`: of how many parents' child it is."""
        made = children = 0
        code: list[Any] = []
        for _ in range(self.random.randint(0, CODE_MAX - level)):
            kind = self.random.choices(list(_CODE), list(_CODE.values()))[0]
            if kind == "create":
                made += 1
            if kind == "child":
                if level == CHILDREN_DEEP:
                    continue
                children += 1
                task, leaves = self.random.choice(TASKS), self.random.random() < 0.3
                code.append([kind, task, self.code(given, depth, level + 1), leaves])
                continue
            if kind == "join":
                if children:
                    # A child's own timers may come at the same time, where that passes by itself.
                    ends = self.random.choice([max(self.times.timeouts), None])
                    if self.times.advances:
                        ends = self.random.choice([self.timeout(), None])
                    code.append(
                        [kind, self.random.randrange(children), ends, self.random.random() < 0.6]
                    )
                continue
            if kind == "await" and made + given == 0:
                kind = "wait"
            if kind == "continue":
                if depth < 2:
                    code.append(["continue", self.code(given, depth + 1, level)])
                return code
            code.append([kind, *self.arguments(kind, given, made)])
            if code[-1] == ["output", 2]:  # no draw of its own: seeds stay the sequences they were
                code[-1] = ["history", (1, 2, 100)[len(code) % 3]]
            if kind == "raise":
                return code
        return code

    def arguments(self, kind: str, given: int, made: int) -> list[Any]:
        """Of an instruction."""
        one, timeout = self.random.choice, self.timeout
        match kind:
            case "wait":
                stream, ends = one(STREAMS), one([timeout(), None])
                desk = self.desk(ends, is_number=stream == "numbers")
                who = [self.who(is_number=stream == "numbers")] if self.times.has_people else []
                return [stream, one(["a", "b", None, None]), ends, desk, *who]
            case "await":
                is_given = self.random.randrange(given + made) < given
                index = self.random.randrange(given if is_given else made)
                pinned, ends = self.random.random() < 0.3, one([timeout(), None])
                desk = self.desk(ends, is_number=pinned)
                return ["given" if is_given else "own", index, ends, pinned, desk]
            case "create" | "sleep":
                return [timeout()]
            case "step":
                return [one([0, 1, 2]), one([0, 0, 1, 2]), self.random.random() < 0.3]
            case "output":
                return [self.random.randrange(3)]
            case "peek" | "public":
                return [one(STREAMS)]
            case _:
                return []

    def desk(self, ends: int | None, *, is_number: bool) -> Any:
        """Whom a wait concerns, and its escalation; mostly nobody, and none."""
        if self.random.random() < 0.6:
            return None
        one = self.random.choice
        escalation_steps: list[Any] = []
        for _ in range(self.random.randint(0, 3)):
            do, after = one(["remind", "assign", "default"]), one(self.times.escalation_steps)
            # What is counted from an assignment depends on how late that was.
            since = one(["opened", "assigned"]) if self.times.advances else "opened"
            is_default = any(
                escalation_step[0] == "default" for escalation_step in escalation_steps
            )
            if do == "default" and (is_default or (ends is not None and after >= ends)):
                do = "remind"
            value = 1 if is_number else one([1, "x"])
            what = {"default": value, "assign": one(PEOPLE)}.get(do)
            escalation_steps.append([do, after, since, what])
        return [one([*PEOPLE, None]), escalation_steps]

    def who(self, *, is_number: bool) -> Any:
        """Who may answer, as `wait` takes it; mostly anyone."""
        if self.random.random() < 0.5:
            return None
        one = self.random.choice
        answerers = one(
            [[], ["group:finance"], ["group:finance"], ["ada", "bob"], ["cy", "group:legal"]]
        )
        not_by = one([[], [], ["starter"], ["bob"], ["group:contractors"]])
        approvals = one([1, 2, 2, 2, 3])
        if answerers == ["ada", "bob"]:
            approvals = min(approvals, 2)
        who = {"answerers": answerers, "not_by": not_by, "approvals": approvals}
        if not answerers and not not_by:
            who["approvals"] = max(approvals, 2)
        who["refusals"] = one([[], [0] if is_number else ["no"]])
        return who | ({} if is_number else {"comments": ["why"]})

    def timeout(self) -> int:
        """Of a wait, a timer or a token."""
        return self.random.choice(self.times.timeouts)
