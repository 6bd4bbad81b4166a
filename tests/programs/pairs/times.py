"""How long no answer was taken after each fault. Pure: times in, times out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.programs.histories.history import Call, Kind, Outcome

SILENCE_S = 1.0
"""A longer one is an outage, not a pause between two answers."""
ANSWERS = frozenset({Kind.SEND, Kind.ANSWER, Kind.USE, Kind.COMPLETE, Kind.VOTE})


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault.

    Attributes:
        kind: What was done.
        at_ns: When it began, by the clock of the history; of a store that was away, when it was back.
        seen_ns: When a runtime was seen at work again.
        is_takeover: It is the other one since.
        said_ns: When `helmr takeover` said that it was done, or one that was cut off that it is not ready.
    """

    kind: str
    at_ns: int
    seen_ns: int
    is_takeover: bool = True
    said_ns: int | None = None


def answered_ns(calls: Iterable[Call]) -> list[int]:
    """When answers were acknowledged, sorted."""
    return sorted(
        call.ended_ns for call in calls if call.outcome is Outcome.OK and call.kind in ANSWERS
    )


def answers_per_s(answers_ns: Sequence[int]) -> float:
    """How many there were in a second, outages left out; 0 if there was none."""
    steps_s = [(later - earlier) / 1e9 for earlier, later in pairwise(answers_ns)]
    served = [step_s for step_s in steps_s if step_s <= SILENCE_S]
    return len(served) / sum(served) if served else 0.0


def next_answer_s(happened: Happened, answers_ns: Sequence[int]) -> float | None:
    """From a fault to the answer at which the longest silence ended that it began; None if no answer came.

    One that is ending still answers: its last ones are not the next.
    """
    begin = bisect_left(answers_ns, happened.at_ns)
    end = bisect_left(answers_ns, happened.seen_ns)
    if end == len(answers_ns):
        return None
    seen = [happened.at_ns, *answers_ns[begin : end + 1]]
    _, back_ns = max((later - earlier, later) for earlier, later in pairwise(seen))
    return (back_ns - happened.at_ns) / 1e9


def by_kind(happened: Iterable[Happened], answers_ns: Sequence[int]) -> Mapping[str, list[float]]:
    """Seconds to the next answer, sorted, by what was done."""
    found: dict[str, list[float]] = {}
    for one in happened:
        took_s = next_answer_s(one, answers_ns)
        if took_s is not None:
            found.setdefault(one.kind, []).append(round(took_s, 2))
    return {kind: sorted(times) for kind, times in sorted(found.items())}


def said_by_kind(happened: Iterable[Happened]) -> Mapping[str, list[float]]:
    """Seconds until it was said, sorted, by what was done."""
    found: dict[str, list[float]] = {}
    for one in happened:
        if one.said_ns is not None:
            found.setdefault(one.kind, []).append(round((one.said_ns - one.at_ns) / 1e9, 2))
    return {kind: sorted(times) for kind, times in sorted(found.items())}
