"""What is asked in the hour, and what the operator is to answer: the same for every commit and every way in."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SEED = 15
LEGAL_S = 120
"""The legal department is not there: its waits run out within the hour."""

SHARES = {
    "approve": 25,
    "reject": 15,
    "chat": 20,
    "refund": 16,
    "order": 10,
    "token": 10,
    "legal": 4,
}
"""How many of a hundred are of each kind."""

HURRIED_SHARES = {
    "approve": 14,
    "reject": 12,
    "chat": 14,
    "refund": 10,
    "order": 10,
    "token": 6,
    "correct": 16,
    "call": 14,
    "legal": 4,
}
"""With forms that are filled already, and calls of tools, for a hand that does not look."""

TASKS = {
    "approve": "review",
    "reject": "review",
    "chat": "talk",
    "refund": "refund",
    "order": "order",
    "token": "sign",
    "legal": "contract",
    "correct": "correct",
    "call": "call",
}
GIVEN = {"code": "S2", "amount": 4200, "reason": "goodwill"}
"""What a form begins with that is to be corrected."""
ASKED_FOR = {"customer": "ada", "cents": 4200}
"""What a tool is to be called with."""
NOTES = ("The lease is not renewed.", "Tests are missing.", "Not before Monday.")
REPLIES = ("It left this morning.", "You will have it on Friday.", "Thank you, it is noted.")
STREETS = ("Elm", "Oak", "Pine")
REASONS = ("goodwill", "damaged", "late")
BODY_LINES = (0, 0, 4, 7, 0, 11)
"""How many lines more than one the bodies have; the JSON that the eyes look for still stands below."""
PLACES = ("acme/api", "acme/web", "otterworks/infra")


class Fate(StrEnum):
    """Who ends a wait."""

    OPERATOR = "the operator"
    RIVAL = "another, while it stands in the list"
    RACED = "another, while the operator has its form open"
    EXPIRES = "its deadline"


@dataclass(frozen=True, slots=True)
class Asked:
    """One wait of the hour.

    Attributes:
        number: Stands in its subject as `#007`, by which who reads the screen knows it.
        answer: What the operator is to answer: by key of the form.
        timeout: As the SDK takes it.
    """

    number: int
    kind: str
    fate: Fate
    answer: Mapping[str, Any]
    timeout: str

    @property
    def task(self) -> str:
        """The task that asks."""
        return TASKS[self.kind]

    @property
    def subject(self) -> str:
        """The question."""
        place = PLACES[self.number % len(PLACES)]
        return {
            "approve": f"Publish review #{self.number:03d} to {place}?",
            "reject": f"Publish review #{self.number:03d} to {place}?",
            "chat": f"A customer asks #{self.number:03d}: where is my parcel?",
            "refund": f"Refund for invoice #{self.number:03d}?",
            "order": f"What and where for order #{self.number:03d}?",
            "token": f"Let vendor #{self.number:03d} in?",
            "legal": f"Sign contract #{self.number:03d}?",
            "correct": f"Is refund #{self.number:03d} right?",
            "call": f"Call refund for #{self.number:03d}?",
        }[self.kind]

    @property
    def body(self) -> str:
        """What the decision follows from: of many waits a line, of others some more."""
        first = f"Kind {self.kind}. **Please** look at it."
        return "\n".join([first, *(f"Reason {mark} for it." for mark in self.marks)])

    @property
    def marks(self) -> tuple[str, ...]:
        """One for each line of its body but the first, which is in no other wait's."""
        # Beside an order's text its JSON would leave no room for what the eyes look for below it.
        count = 0 if self.kind == "order" else BODY_LINES[self.number % len(BODY_LINES)]
        return tuple(f"{self.number:03d}.{line:02d}" for line in range(count))

    @property
    def initial(self) -> Mapping[str, Any] | None:
        """What its form begins with, where the task takes that."""
        return {"correct": GIVEN, "call": ASKED_FOR}.get(self.kind)

    @property
    def result(self) -> str:
        """What its run returns when it was answered as planned."""
        if self.kind == "chat":
            return str(self.answer["reply"])
        if self.kind == "token":
            return str(self.answer["sign"])
        if self.kind == "call":
            approved = self.answer["decision"] == "approve"
            return json.dumps(
                [
                    self.answer["decision"],
                    ASKED_FOR if approved else None,
                    self.answer.get("reason"),
                ]
            )
        sent: dict[str, Any] = dict(self.answer)
        if TASKS[self.kind] == "review":
            sent = {"decision": sent["decision"], "note": sent.get("note")}
        return json.dumps(sent, separators=(",", ":"))


def hundred(count: int = 100, seed: int = SEED, shares: Mapping[str, int] = SHARES) -> list[Asked]:
    """So many waits, in the order in which they are asked.

    The kinds keep their shares; of eight waits that others answer, three are answered while their form is open.
    """
    dice = random.Random(seed)
    kinds = [kind for kind, share in shares.items() for _ in range(round(share * count / 100) or 1)]
    kinds += ["approve"] * (count - len(kinds))
    dice.shuffle(kinds)
    common = [n for n, kind in enumerate(kinds) if kind != "legal"]
    taken = dice.sample(common, max(2, count * 8 // 100))
    raced = set(taken[: max(1, len(taken) * 3 // 8)])
    found = []
    for n, kind in enumerate(kinds):
        fate = Fate.EXPIRES if kind == "legal" else Fate.OPERATOR
        if n in taken:
            fate = Fate.RACED if n in raced else Fate.RIVAL
        timeout = f"{LEGAL_S}s" if kind == "legal" else dice.choice(("45m", "2h", "8h", "1d", "7d"))
        if fate is Fate.RIVAL:
            timeout = "9d"  # far down the list, where the operator has not come to yet
        found.append(Asked(n + 1, kind, fate, _answer(kind, dice), timeout))
    return found


def _answer(kind: str, dice: random.Random) -> dict[str, Any]:
    match kind:
        case "approve":
            return {"decision": "approve"}
        case "reject":
            return {"decision": dice.choice(("reject", "edit")), "note": dice.choice(NOTES)}
        case "chat":
            return {"reply": dice.choice(REPLIES)}
        case "refund":
            return {"amount": dice.randrange(501), "reason": dice.choice(REASONS)}
        case "correct":
            code = dice.choice((GIVEN["code"], f"T{dice.randrange(10, 99)}"))
            return {"code": code, "amount": dice.randrange(1, 9000), "reason": dice.choice(REASONS)}
        case "call":
            if dice.random() < 0.5:
                return {"decision": "approve"}
            return {"decision": "decline", "reason": dice.choice(NOTES)}
        case "order":
            items = [
                {"sku": f"{dice.choice('ABC')}{dice.randrange(100)}", "qty": dice.randrange(1, 9)}
                for _ in range(dice.choice((1, 2)))
            ]
            street, number = dice.choice(STREETS), dice.randrange(1, 99)
            return {"address": {"street": street, "number": number}, "items": items}
        case _:
            return {"sign": dice.choice(("yes", "no"))}


def by_number(asked: Sequence[Asked]) -> dict[int, Asked]:
    """By what stands in the subject."""
    return {one.number: one for one in asked}
