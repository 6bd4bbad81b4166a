"""What an hour came to, and two of them beside each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import mean
from typing import Any

from tests.programs.operators_hour.operators import Tally
from tests.programs.operators_hour.plan import Asked, Fate
from tests.programs.operators_hour.stopwatch import NOT_HANDLING, Stage

SHARE_MAX = 0.6
"""Of keys and of handling time, after beside before."""


@dataclass(frozen=True)
class Measured:
    """One hour.

    Attributes:
        answered: Waits that the operator answered.
        by_others: Waits that others answered.
        expired: Waits that ran out.
        keys: Keys that are not typed text, all of the hour.
        text: Characters of typed text.
        handling_s: Seconds in which the operator was at it: all of the hour but those in which nothing could be
            answered, and those in which the script itself answered for others or had no runtime.
        stages: Those seconds, by what the operator was at.
        receipt_s: Mean seconds from the key that confirmed an answer to its receipt; where answers are held, nobody
            is at them.
        wrong: Numbers of waits that did not end as planned.
        unseen: Numbers of waits that reached their last tenth and were on no screen.
        untold: Those of them of which no notice told in time.
        by_kind: Mean keys, and mean seconds from the key that brought a wait to the one that confirmed its answer.
        outage_s: How long the runtime was away.
    """

    answered: int
    by_others: int
    expired: int
    keys: int
    text: int
    handling_s: float
    stages: dict[str, float]
    receipt_s: float
    wrong: list[int]
    unseen: list[int]
    untold: list[int]
    by_kind: dict[str, tuple[int, float, float]]
    outage_s: float
    by_kind_and_stage: dict[str, dict[str, float]]
    unread: Sequence[int] = ()
    """Numbers of waits that were answered from a screen that had not all of their text and did not say so."""
    refused: int = 0
    """How often the confirming key was refused as too soon."""


def measured(
    plan: Mapping[int, Asked],
    tally: Tally,
    waits: Sequence[Mapping[str, Any]],
    told: Mapping[str, float],
    *,
    outage: tuple[float, float] | None,
) -> Measured:
    """What the operator did, beside what the ledger says of each wait.

    Args:
        plan: By number.
        tally: What the operator counted.
        waits: As the gateway has them in the end, with `number` and `result` of the run.
        told: When a notice told of a wait, in seconds since the epoch, by its id.
        outage: When the runtime was away.
    """
    wrong, unseen, untold, receipts = [], [], [], []
    counts = dict.fromkeys(("ana", "bo", "nobody"), 0)
    kinds: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for wait in waits:
        one = plan[wait["number"]]
        by = _name(wait["resolved_by"])
        counts[by] += 1
        if not _is_as_planned(one, wait, by):
            wrong.append(one.number)
        if one.fate is Fate.EXPIRES:
            opened_s, deadline_s = seconds(wait["opened_at"]), seconds(wait["deadline_at"])
            last_tenth_s = deadline_s - (deadline_s - opened_s) / 10
            if one.number not in tally.shown:
                unseen.append(one.number)
                if told.get(wait["id"], deadline_s) > last_tenth_s:
                    untold.append(one.number)
        if by == "ana" and (handled := tally.handled.get(one.number)) is not None:
            receipts.append(max(0.0, seconds(wait["resolved_at"]) - handled.tries[-1][1]))
            kinds[one.kind].append((handled.keys, covered(handled.tries)))
    gone = [outage] if outage is not None else []
    by_kind = {
        kind: (len(found), mean(keys for keys, _ in found), mean(took for _, took in found))
        for kind, found in sorted(kinds.items())
    }
    return Measured(
        answered=counts["ana"],
        by_others=counts["bo"],
        expired=counts["nobody"],
        keys=tally.keys,
        text=tally.text,
        handling_s=tally.watch.handling_s(),
        stages=tally.watch.by_stage(),
        receipt_s=mean(receipts) if receipts else 0.0,
        wrong=wrong,
        unseen=unseen,
        untold=untold,
        by_kind=by_kind,
        outage_s=covered(gone),
        by_kind_and_stage=tally.watch.by_kind(),
        refused=tally.refused,
        unread=tally.unread,
    )


def _name(resolved_by: Mapping[str, Any] | None) -> str:
    """Who answered, proven or said."""
    found = resolved_by or {}
    proven = found.get("id") if found.get("type") == "person" else None
    return str(found.get("on_behalf_of") or proven or "nobody")


def _is_as_planned(one: Asked, wait: Mapping[str, Any], by: str) -> bool:
    match one.fate:
        case Fate.EXPIRES:
            return by == "nobody" and wait["status"] == "timed_out"
        case Fate.OPERATOR:
            return by == "ana" and wait["result"] == one.result
        case _:
            return by == "bo" and wait["result"] == one.result


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that at least one of these spans covers."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def seconds(text: str) -> float:
    """Seconds since the epoch of a time in JSON."""
    return datetime.fromisoformat(text).timestamp()


def table(found: Mapping[str, Measured]) -> str:
    """The hours beside each other, as Markdown."""
    rows: list[tuple[str, list[str]]] = [
        ("answered by the operator", [f"{one.answered}" for one in found.values()]),
        ("answered by others", [f"{one.by_others}" for one in found.values()]),
        ("expired", [f"{one.expired}" for one in found.values()]),
        ("**keys that are not text**", [f"**{one.keys}**" for one in found.values()]),
        ("characters of text", [f"{one.text}" for one in found.values()]),
        ("**handling time, s**", [f"**{one.handling_s:.0f}**" for one in found.values()]),
        *(
            (stage, [f"{one.stages.get(stage, 0.0):.1f}" for one in found.values()])
            for stage in (stage.value for stage in Stage if stage not in NOT_HANDLING)
        ),
        ("confirmed until its receipt, mean s", [f"{one.receipt_s:.1f}" for one in found.values()]),
        ("**wrong answers**", [f"**{len(one.wrong)}**" for one in found.values()]),
        ("confirmed too soon, refused", [f"{one.refused}" for one in found.values()]),
        (
            "**text neither whole nor said to be cut**",
            [f"**{len(one.unread)}**" for one in found.values()],
        ),
        ("reached their last tenth unseen", [f"{len(one.unseen)}" for one in found.values()]),
        (
            "of these told by a notice",
            [f"{len(one.unseen) - len(one.untold)}" for one in found.values()],
        ),
        ("runtime away, s", [f"{one.outage_s:.1f}" for one in found.values()]),
    ]
    for kind in sorted({kind for one in found.values() for kind in one.by_kind}):
        cells = []
        for one in found.values():
            count, keys, took_s = one.by_kind.get(kind, (0, 0.0, 0.0))
            cells.append(f"{keys:.1f} keys, {took_s:.2f} s ({count})" if count else "")
        rows.append((f"{kind}, mean", cells))
    heads = ["", *found]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join([name, *cells])} |" for name, cells in rows]
    return "\n".join(lines)


def broken_bounds(found: Mapping[str, Measured], before: str, after: str) -> Collection[str]:
    """What is not as it is to be, in words."""
    said = [f"{name}: wrong {one.wrong}" for name, one in found.items() if one.wrong]
    said += [f"{name}: unread {one.unread}" for name, one in found.items() if one.unread]
    if before in found and after in found:
        old, new = found[before], found[after]
        for what, share in (
            ("keys", new.keys / old.keys),
            ("handling time", new.handling_s / old.handling_s),
        ):
            if share > SHARE_MAX:
                said.append(f"{what}: {share:.0%} of {before}, more than {SHARE_MAX:.0%}")
    if after in found and found[after].untold:
        said.append(f"{after}: nobody was told of {found[after].untold}")
    return said
