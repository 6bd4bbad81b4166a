"""A sequence through the model and a door: what differs first, and the shortest sequence in which something does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.programs.model.commands import PASSES_MS, Command, Generator, met
from tests.programs.model.naive import Model
from tests.programs.model.random_code import Times

Reply = dict[str, Any] | str


class Door(Protocol):
    """A way into the product.

    Attributes:
        time_passes: By itself: what is short is over before the next command.
    """

    time_passes: bool

    def do(self, kind: str, args: dict[str, Any]) -> Reply:
        """The receipt in the model's names, or the code of the refusal."""
        ...

    def settle(self, model: Model) -> None:
        """Return when all is stored that this model has stored, as far as it comes."""
        ...

    def finish(self, model: Model) -> None:
        """The same, and read all there is."""
        ...

    def transcripts(self) -> dict[str, list[Any]]:
        """The lines of each session."""
        ...

    def tokens(self) -> dict[str, Any]:
        """What became of each token, and the uses of each public token."""
        ...

    def notices(self) -> dict[str, list[Any]] | None:
        """By session, what a target was told: each once, by the first time; None if there is no target."""
        ...


@dataclass(frozen=True)
class Difference:
    """Where they part.

    Attributes:
        at: The command's place, from 0.
        what: What is compared.
    """

    at: int
    what: str
    model: Any
    door: Any

    def __str__(self) -> str:
        return (
            f"at {self.at}, {self.what}:\n  the model has {self.model}\n  the door has  {self.door}"
        )


def difference(
    commands: Sequence[Command], door: Door, *, reached: Counter[str] | None = None
) -> Difference | None:
    """The first thing that differs, receipts before what is stored."""
    model = Model()
    for at, command in enumerate(commands):
        expected = met(model, command)
        if expected is None:
            continue
        got = door.do(command.kind, command.args)
        if got != expected:
            return Difference(at, f"the reply to {command}", expected, got)
        if reached is not None:
            reached[f"{command.kind} {what(expected)}"] += 1
        if door.time_passes:
            model.do("advance", {"ms": PASSES_MS})
        door.settle(model)
    door.finish(model)
    if reached is not None:
        kinds = (entry[0] for one in model.sessions.values() for entry in one.entries)
        reached.update(f"entry:{kind}" for kind in kinds)
    return stored_difference(model, door, len(commands))


def what(reply: Reply) -> str:
    """A reply in a word: the code of a refusal, an outcome, or that it was taken."""
    return reply if isinstance(reply, str) else str(reply.get("outcome", "ok"))


def stored_difference(model: Model, door: Door, at: int) -> Difference | None:
    """What differs of transcripts and tokens."""
    stored = door.transcripts()
    there = {name: one for name, one in model.sessions.items() if not one.is_gone}
    if sorted(stored) != sorted(there):
        return Difference(at, "the sessions", sorted(there), sorted(stored))
    for session in there.values():
        lines = stored[session.id]
        entries = (
            [timeless(one) for one in session.entries] if door.time_passes else session.entries
        )
        for seq, expected in enumerate(entries):
            if seq >= len(lines) or lines[seq] != expected:
                got = lines[seq] if seq < len(lines) else "nothing"
                return Difference(at, f"line {seq} of {session.id}", expected, got)
        more, unsaid = lines[len(entries) :], model.unsaid(session)
        if door.time_passes:
            unsaid = [timeless(one) for one in unsaid]
        if more != unsaid[: len(more)]:
            return Difference(at, f"the end of {session.id}", unsaid, more)
    expected, got = tokens_of(model), door.tokens()
    if got != expected:
        return Difference(at, "the tokens", expected, got)
    told = door.notices()
    if told is None or told == model.notices():
        return None
    return Difference(at, "the notices", model.notices(), told)


def timeless(line: Any) -> Any:
    """A line without what a clock that nobody moves decides."""
    kind, run, op, who, told, _ = line
    times = {"wait.opened": 1, "wait.claimed": 2, "wait.claim_ended": 1}.get(kind, 0)
    return (kind, run, op, who, [*told[: len(told) - times], *[None] * times], None)


def tokens_of(model: Model) -> dict[str, Any]:
    """What became of tokens and public tokens."""
    ends = {t.id: [t.status, t.data] for t in model.tokens.values()}
    ends |= {p.id: [p.uses, p.is_revoked] for p in model.public_tokens.values()}
    return {name: end for name, end in ends.items() if not model.is_gone(name)}


def report(
    seed: int, times: Times, count: int, make: Callable[[Sequence[Command]], Difference | None]
) -> str | None:
    """None if nothing differs; else the line that shows it again, and the shortest sequence in which something does.

    Args:
        seed: Of the sequence.
        times: What it may do with time.
        count: How many commands it has.
        make: Drives a sequence through a door of its own.
    """
    commands = Generator(seed, times).sequence(count)
    if make(commands) is None:
        return None
    small = shortest(commands, lambda some: make(some) is not None)
    lines = "\n".join(f"  {command}" for command in small)
    again = f"seed {seed} of {count} commands, {times.name}"
    return f"{again}, shrunk:\n{lines}\n{make(small)}"


def shortest(
    commands: Sequence[Command], differs: Callable[[Sequence[Command]], bool]
) -> list[Command]:
    """The sequence without all that it differs without."""
    kept, size = list(commands), max(1, len(commands) // 2)
    while True:
        begin, count = 0, len(kept)
        while begin < len(kept):
            without = kept[:begin] + kept[begin + size :]
            if differs(without):
                kept = without
            else:
                begin += size
        if size == 1 and len(kept) == count:
            return kept
        size = max(1, size // 2)
