"""Whether a history of calls is one that a system which keeps its promises can have.

Pure: calls in, sentences out. It knows nothing of how Helmr works, only what it promises:

- A **stream** is a log: each accepted record has one place, places are dense from 1, a record never moves, goes or
  comes twice, and what was accepted before another was sent stands before it. A record is taken by at most one wait,
  for good. Reading a stream shows all that was accepted before and nothing that was refused or not yet sent.
- A **wait** and a **token** are registers that are written once.
- A **public token** is a counter: accepted uses never exceed its bound, none is refused while there is room, and a
  refused use is not counted.
- **A repeated operation** gets its first reply, and is never refused once it was acknowledged.
- **A run** took what its waits took, in that order, and ran a step again only if its outcome was not recorded.

For logs with unique values and registers written once, these conditions are all that linearizability asks for: where a
record stands is its point in the order, and each read's place among them follows from what it shows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.histories.history import Call, Kind, Outcome

WRITES_LOG = (Kind.SEND, Kind.ANSWER, Kind.USE)
SHOWN = 20
"""So many sentences of each kind are told; one fault in a log makes thousands."""


@dataclass(slots=True)
class Operation:
    """What all tries of one operation come to.

    Args:
        tries: Its calls, in the order of their begin.
    """

    tries: list[Call]

    @property
    def first(self) -> Call:
        """The first try."""
        return self.tries[0]

    @property
    def can_have_happened(self) -> bool:
        """Some try was not refused."""
        return any(call.outcome is not Outcome.REFUSED for call in self.tries)

    @property
    def replies(self) -> list[Call]:
        """The tries that were acknowledged."""
        return [call for call in self.tries if call.outcome is Outcome.OK]

    @property
    def began_ns(self) -> float:
        """Before this it can't have happened."""
        return min(
            (call.began_ns for call in self.tries if call.outcome is not Outcome.REFUSED),
            default=math.inf,
        )

    @property
    def ended_ns(self) -> float:
        """After this it has happened; infinite if nobody was told so."""
        return min((call.ended_ns for call in self.replies), default=math.inf)


@dataclass(slots=True)
class Found:
    """The sentences of one check, by kind of fault."""

    sentences: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, sentence: str) -> None:
        """Remember a fault."""
        self.sentences[kind].append(sentence)

    def lines(self) -> list[str]:
        """What is told: the first of each kind, and how many more there are."""
        told = []
        for kind, sentences in self.sentences.items():
            told += [f"{kind}: {sentence}" for sentence in sentences[:SHOWN]]
            if len(sentences) > SHOWN:
                told.append(f"{kind}: and {len(sentences) - SHOWN} more")
        return told


def check(calls: Iterable[Call]) -> list[str]:
    """Everything that a history shows and may not; empty if it is as promised."""
    found = Found()
    by_operation: dict[str, list[Call]] = defaultdict(list)
    reads: dict[Kind, dict[str, list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in sorted(calls, key=lambda one: one.began_ns):
        if call.operation:
            by_operation[call.operation].append(call)
        elif call.outcome is Outcome.OK:
            reads[call.kind][call.target].append(call)
    operations = [Operation(tries) for tries in by_operation.values()]
    _check_repeats(operations, found)
    writes = _by_target(operations)
    taken: dict[str, tuple[str, int]] = {}
    for stream, log in sorted(writes[Kind.SEND].items()):
        _check_log(stream, log, reads[Kind.READ_LOG][stream], taken, found)
    for stream in reads[Kind.READ_LOG].keys() - writes[Kind.SEND].keys():
        _check_log(stream, [], reads[Kind.READ_LOG][stream], taken, found)
    _check_waits(writes[Kind.ANSWER], reads[Kind.READ_WAIT], taken, found)
    for token, completions in writes[Kind.COMPLETE].items():
        _check_token(token, completions, reads[Kind.READ_TOKEN][token], found)
    for public_token, uses in writes[Kind.USE].items():
        _check_uses(public_token, uses, reads[Kind.READ_USES][public_token], found)
    for run, shown in reads[Kind.READ_RUN].items():
        _check_run(run, shown, reads[Kind.READ_LOG], found)
    return found.lines()


def _by_target(operations: Sequence[Operation]) -> dict[Kind, dict[str, list[Operation]]]:
    """Whatever writes a log under its stream; answers under their waits and uses under their tokens besides."""
    found: dict[Kind, dict[str, list[Operation]]] = defaultdict(lambda: defaultdict(list))
    for one in operations:
        call = one.first
        match call.kind:
            case Kind.SEND:
                found[Kind.SEND][call.target].append(one)
            case Kind.ANSWER:
                found[Kind.SEND][call.beside].append(one)
                found[Kind.ANSWER][call.target].append(one)
            case Kind.USE:
                found[Kind.SEND][call.target].append(one)
                found[Kind.USE][call.beside].append(one)
            case Kind.COMPLETE:
                found[Kind.COMPLETE][call.target].append(one)
            case _:
                raise ValueError(f"{call.kind} has no operation id")
    return found


def _check_repeats(operations: Sequence[Operation], found: Found) -> None:
    for one in operations:
        replies = {call.reply for call in one.replies}
        if len(replies) > 1:
            found.add("repeats", f"{one.first.operation} was told {sorted(replies)}")
        late = [
            call
            for call in one.tries
            if call.outcome is Outcome.REFUSED and call.began_ns > one.ended_ns
        ]
        if late:
            found.add(
                "repeats", f"{one.first.operation} was acknowledged, then refused: {late[0].reply}"
            )


# --- logs ---------------------------------------------------------------------------------------


def _check_log(
    stream: str,
    writes: Sequence[Operation],
    reads: Sequence[Call],
    taken: dict[str, tuple[str, int]],
    found: Found,
) -> None:
    """`taken` collects which value each wait took, over all streams."""
    by_value = {one.first.value: one for one in writes}
    place_of: dict[int, int] = {}
    value_at: dict[int, int] = {}

    def stands(value: int, place: int, who: str) -> None:
        if place_of.setdefault(value, place) != place:
            found.add("log", f"{stream}: {value} at {place_of[value]} and, {who}, at {place}")
        if value_at.setdefault(place, value) != value:
            found.add("log", f"{stream}: at {place} {value_at[place]} and, {who}, {value}")

    for one in writes:
        for reply in one.replies:
            stands(one.first.value, reply.told["seq"], "by its receipt")
    for read in reads:
        _check_read(stream, read, by_value, stands, taken, found)
    _check_reads_grow(stream, reads, found)
    _check_missing(stream, writes, reads, found)
    placed = [(by_value[value], place) for value, place in place_of.items() if value in by_value]
    _check_order(stream, placed, found)


def _check_read(
    stream: str,
    read: Call,
    by_value: dict[int, Operation],
    stands: Any,
    taken: dict[str, tuple[str, int]],
    found: Found,
) -> None:
    for expected, (place, value, wait) in enumerate(read.told, start=1):
        if place != expected:
            found.add("log", f"{stream}: a read shows place {place} where {expected} should be")
            return
        stands(value, place, "by a read")
        write = by_value.get(value)
        if write is None or not write.can_have_happened:
            found.add("log", f"{stream}: {value} is shown, which nobody sent or which was refused")
        elif write.began_ns > read.ended_ns:
            found.add("log", f"{stream}: {value} was shown before it was sent")
        if wait is not None:
            before = taken.setdefault(wait, (stream, place))
            if before != (stream, place):
                found.add("waits", f"{wait} took {stream} {place} and {before[0]} {before[1]}")


def _check_reads_grow(stream: str, reads: Sequence[Call], found: Found) -> None:
    """What a read has shown, one that began after its end shows too, takings included."""
    longest, takers = 0, dict[int, str]()
    begun = sorted(reads, key=lambda one: one.began_ns)
    pending = sorted(reads, key=lambda one: one.ended_ns)
    at = 0
    for read in begun:
        while pending[at].ended_ns < read.began_ns:
            shown = pending[at].told
            longest = max(longest, len(shown))
            takers |= {place: wait for place, _, wait in shown if wait is not None}
            at += 1
        now = read.told
        if len(now) < longest:
            found.add("log", f"{stream}: a read shows {len(now)} after one had shown {longest}")
        for place, _, wait in now:
            if takers.get(place, wait) != wait:
                found.add("waits", f"{stream} {place}: taken by {takers[place]}, then by {wait}")


def _check_missing(
    stream: str, writes: Sequence[Operation], reads: Sequence[Call], found: Found
) -> None:
    """What was accepted before a read began is in it."""
    ends = sorted((one.ended_ns, one.replies[0].told["seq"]) for one in writes if one.replies)
    highest: list[int] = []
    for _, place in ends:
        highest.append(max(place, highest[-1] if highest else 0))
    times = [ended for ended, _ in ends]
    for read in reads:
        count = bisect_left(times, read.began_ns)
        if count and highest[count - 1] > len(read.told):
            found.add(
                "log",
                f"{stream}: {highest[count - 1]} was acknowledged, and a later read shows {len(read.told)}",
            )


def _check_order(stream: str, placed: Sequence[tuple[Operation, int]], found: Found) -> None:
    """What had happened before another began stands before it."""
    ended = sorted(placed, key=lambda one: one[0].ended_ns)
    at, highest = 0, 0
    for write, place in sorted(placed, key=lambda one: one[0].began_ns):
        while ended[at][0].ended_ns < write.began_ns:
            highest = max(highest, ended[at][1])
            at += 1
        if place < highest:
            found.add("log", f"{stream}: {place} was sent after {highest} was accepted")


# --- registers ----------------------------------------------------------------------------------


def _check_waits(
    answers: dict[str, list[Operation]],
    reads: dict[str, list[Call]],
    taken: dict[str, tuple[str, int]],
    found: Found,
) -> None:
    for wait in {*answers, *reads}:
        accepted = [one for one in answers.get(wait, ()) if one.replies]
        if len(accepted) > 1:
            found.add("waits", f"{wait} was answered {len(accepted)} times")
        for one in accepted:
            place = (one.first.beside, one.replies[0].told["seq"])
            if taken.get(wait, place) != place:
                found.add("waits", f"{wait} was answered by {place} and took {taken[wait]}")
        done_ns = min((one.ended_ns for one in accepted), default=math.inf)
        for read in sorted(reads.get(wait, ()), key=lambda one: one.began_ns):
            if read.told["status"] == "pending" and read.began_ns > done_ns:
                found.add("waits", f"{wait} is pending after it was resolved")
            if read.told["status"] != "pending":
                done_ns = min(done_ns, read.ended_ns)


def _check_token(
    token: str, completions: Sequence[Operation], reads: Sequence[Call], found: Found
) -> None:
    winners = [
        one
        for one in completions
        if any(call.told["outcome"] == "completed" for call in one.replies)
    ]
    if len(winners) > 1:
        found.add("tokens", f"{token} was completed by {[one.first.value for one in winners]}")
    values = {read.told["value"] for read in reads if read.told["status"] == "completed"}
    values |= {one.first.value for one in winners}
    if len(values) > 1:
        found.add("tokens", f"{token} was completed with {sorted(map(str, values))}")
    sent = {one.first.value: one for one in completions if one.can_have_happened}
    done_ns = min((one.ended_ns for one in winners), default=math.inf)
    for read in sorted(reads, key=lambda one: one.began_ns):
        if read.told["status"] == "completed":
            write = sent.get(read.told["value"])
            if write is None or write.began_ns > read.ended_ns:
                found.add("tokens", f"{token} shows {read.told['value']}, which nobody had sent")
            done_ns = min(done_ns, read.ended_ns)
        elif read.began_ns > done_ns:
            found.add("tokens", f"{token} is {read.told['status']} after it was completed")


# --- counters -----------------------------------------------------------------------------------


def _check_uses(
    public_token: str, uses: Sequence[Operation], reads: Sequence[Call], found: Found
) -> None:
    """A read tells `{uses, max}`; a use that was refused for want of room, `{"spent": true}`."""
    bounds = {read.told["max"] for read in reads}
    if len(bounds) != 1:
        found.add("uses", f"{public_token}: its bound was never read, or changed: {bounds}")
        return
    (bound,) = bounds
    happened = sum(bool(one.replies) for one in uses)
    if happened > bound:
        found.add("uses", f"{public_token}: {happened} uses were accepted, {bound} are allowed")
    ended = sorted(one.ended_ns for one in uses if one.replies)
    begun = sorted(one.began_ns for one in uses if one.can_have_happened)
    for read in reads:
        least, most = bisect_left(ended, read.began_ns), bisect_left(begun, read.ended_ns)
        if not least <= read.told["uses"] <= min(most, bound):
            shown = f"{read.told['uses']} are shown, {least} to {min(most, bound)} are possible"
            found.add("uses", f"{public_token}: {shown}")
    for one in uses:
        for call in one.tries:
            if call.outcome is Outcome.REFUSED and (call.told or {}).get("spent"):
                possible = bisect_left(begun, call.ended_ns)
                if possible < bound:
                    found.add("uses", f"{public_token}: spent after at most {possible} of {bound}")


# --- runs ---------------------------------------------------------------------------------------


def _check_run(run: str, reads: Sequence[Call], logs: dict[str, list[Call]], found: Found) -> None:
    """A read of a run tells `{stream, waits, took, steps}`.

    `waits` in the order they were opened, `took` what the steps behind them recorded, and of each recorded step
    `[key, recorded_ns, began_ns…]`: when its outcome was recorded, and when its body began, each time.
    """
    for read in reads:
        told = read.told
        newest = max(logs.get(told["stream"], ()), key=lambda one: len(one.told), default=None)
        by_wait = {wait: value for _, value, wait in newest.told if wait} if newest else {}
        expected = [by_wait.get(wait) for wait in told["waits"]][: len(told["took"])]
        if told["took"] != expected:
            found.add("runs", f"{run} took {told['took']}, its waits {expected}")
        keys = [key for key, *_ in told["steps"]]
        if len(set(keys)) != len(keys):
            found.add("steps", f"{run}: a step is recorded twice")
        for key, recorded_ns, began_ns in told["steps"]:
            if not began_ns:
                found.add("steps", f"{run}: {key} is recorded and never ran")
            elif max(began_ns) > recorded_ns:
                found.add("steps", f"{run}: {key} ran again after it was recorded")


def counts(calls: Sequence[Call]) -> Iterator[str]:
    """What a history holds, a line each."""
    by: dict[tuple[Kind, Outcome], int] = defaultdict(int)
    for call in calls:
        by[call.kind, call.outcome] += 1
    for kind in Kind:
        parts = [f"{by[kind, outcome]:,} {outcome}" for outcome in Outcome if by[kind, outcome]]
        if parts:
            yield f"{kind}: {', '.join(parts)}"
    tries: dict[str, int] = defaultdict(int)
    for call in calls:
        if call.operation:
            tries[call.operation] += 1
    yield f"operations: {len(tries):,}, repeated: {sum(count > 1 for count in tries.values()):,}"
    gaps = sorted(
        later.ended_ns - earlier.ended_ns
        for earlier, later in pairwise(
            sorted(
                (call for call in calls if call.operation and call.outcome is Outcome.OK),
                key=lambda one: one.ended_ns,
            )
        )
    )
    if gaps:
        yield f"longest time without an acknowledgement: {gaps[-1] / 1e9:.1f} s"
