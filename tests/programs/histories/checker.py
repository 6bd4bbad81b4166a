"""Whether a history of calls is one that a system which keeps its promises can have.

Pure: calls in, sentences out. It knows nothing of how Helmr works, only what it promises:

- A **stream** is a log: each accepted record has one place, places are dense from 1, a record never moves, goes or
  comes twice, and what was accepted before another was sent stands before it. A receipt speaks of its own stream. A
  record is taken by at most one wait, for good. Reading a stream shows all that was accepted before and nothing that
  was refused or not yet sent.
- A **wait** and a **token** are registers that are written once.
- A **public token** is a counter: accepted uses never exceed its bound, none is refused while there is room, and a
  refused use is not counted.
- **A repeated operation** gets its first reply, and is never refused once it was acknowledged. No two create the same.
- **A limit** bounds how many steps go on at once, and how many begin in a time.
- **Several people agree** before a wait ends that asks for that: so many different ones can have stood for the same
  when the last vote came, each vote counts those who certainly did, and nobody votes who was disabled.
- **A run** took what its waits took, in that order, its journal only grows, it stays over, and it ran a step again only
  if the step's outcome was not recorded: not after the time that is written there, nor after anybody knew of a later
  wait.

For logs with unique values and registers written once, these conditions are all that linearizability asks for: where a
record stands is its point in the order, and each read's place among them follows from what it shows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.programs.histories.history import Call, Kind, Outcome
from tests.programs.histories.limits import check_limits
from tests.programs.histories.votes import check_votes

PROMISES = (
    "log",
    "waits",
    "tokens",
    "uses",
    "repeats",
    "creations",
    "votes",
    "runs",
    "steps",
    "limits",
)
"""What each sentence begins with."""
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
    _check_created(operations, found)
    writes = _by_target(operations)
    taken: dict[str, tuple[str, int]] = {}
    for stream, log in sorted(writes[Kind.SEND].items()):
        _check_log(stream, log, reads[Kind.READ_LOG][stream], taken, found)
    for stream in reads[Kind.READ_LOG].keys() - writes[Kind.SEND].keys():
        _check_log(stream, [], reads[Kind.READ_LOG][stream], taken, found)
    looks = _looks_at_waits(reads)
    _check_waits(writes[Kind.ANSWER], looks, taken, found)
    for token, completions in writes[Kind.COMPLETE].items():
        _check_token(token, completions, reads[Kind.READ_TOKEN][token], found)
    for public_token, uses in writes[Kind.USE].items():
        _check_uses(public_token, uses, reads[Kind.READ_USES][public_token], found)
    check_votes(writes, found)
    check_limits(reads[Kind.READ_LIMIT], found)
    known_ns = _known_since(writes[Kind.ANSWER], looks)
    for run, shown in reads[Kind.READ_RUN].items():
        _check_run(run, shown, reads[Kind.READ_LOG], known_ns, found)
    for session, seen in reads[Kind.READ_SESSION].items():
        _check_stays_over(session, seen, found)
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
            case (
                Kind.COMPLETE | Kind.CREATE | Kind.VOTE | Kind.WITHDRAW | Kind.DISABLE | Kind.ENABLE
            ):
                found[call.kind][call.target].append(one)
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


def _check_created(operations: Sequence[Operation], found: Found) -> None:
    """A creation tells `{id}`."""
    creators: dict[str, str] = {}
    for one in operations:
        if one.first.kind is Kind.CREATE:
            for reply in one.replies:
                name, operation = reply.told["id"], one.first.operation
                if creators.setdefault(name, operation) != operation:
                    found.add("creations", f"{name} comes from {creators[name]} and {operation}")


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
            named = reply.told.get("stream", stream)
            if named != stream:
                found.add("log", f"{stream}: {one.first.value} has a receipt of {named}")
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


def _looks_at_waits(reads: dict[Kind, dict[str, list[Call]]]) -> dict[str, list[tuple[Call, bool]]]:
    """By wait: reads of it, and those of its session that showed it; with whether it was pending."""
    found: dict[str, list[tuple[Call, bool]]] = defaultdict(list)
    for wait, looks in reads[Kind.READ_WAIT].items():
        found[wait] += [(look, look.told["status"] == "pending") for look in looks]
    for seen in reads[Kind.READ_SESSION].values():
        for look in seen:
            if (wait := look.told["wait"]) is not None:
                found[wait].append((look, True))
    return found


def _check_waits(
    answers: dict[str, list[Operation]],
    looks: dict[str, list[tuple[Call, bool]]],
    taken: dict[str, tuple[str, int]],
    found: Found,
) -> None:
    for wait in sorted({*answers, *looks}):
        accepted = [one for one in answers.get(wait, ()) if one.replies]
        if len(accepted) > 1:
            found.add("waits", f"{wait} was answered {len(accepted)} times")
        for one in accepted:
            place = (one.first.beside, one.replies[0].told["seq"])
            if taken.get(wait, place) != place:
                found.add("waits", f"{wait} was answered by {place} and took {taken[wait]}")
        done_ns = min((one.ended_ns for one in accepted), default=math.inf)
        seen = looks.get(wait, ())
        done_ns = min(
            (look.ended_ns for look, is_pending in seen if not is_pending), default=done_ns
        )
        if any(is_pending and look.began_ns > done_ns for look, is_pending in seen):
            found.add("waits", f"{wait} is pending after it was resolved")


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


def _known_since(
    answers: dict[str, list[Operation]], looks: dict[str, list[tuple[Call, bool]]]
) -> dict[str, int]:
    """When somebody knew of each wait: it was open by then, and what comes before it in its run was recorded."""
    found: dict[str, int] = {}
    for wait, operations in answers.items():
        found[wait] = min(one.first.began_ns for one in operations)
    for wait, seen in looks.items():
        first_ns = min(look.ended_ns for look, _ in seen)
        found[wait] = min(found.get(wait, first_ns), first_ns)
    return found


def _check_run(
    run: str,
    reads: Sequence[Call],
    logs: dict[str, list[Call]],
    known_ns: dict[str, int],
    found: Found,
) -> None:
    """A read of a run tells `{stream, waits, took, steps}`.

    `waits` in the order they were opened, `took` what the step behind each recorded, and of each recorded step
    `[key, recorded_ns, began_ns…]`: when its outcome was recorded, null if no clock tells, and when its body began,
    each time.
    """
    stream = reads[0].told["stream"]
    newest = max(logs.get(stream, ()), key=lambda one: len(one.told), default=None)
    by_wait = {wait: value for _, value, wait in newest.told if wait} if newest else {}
    for read in reads:
        is_newer = newest is not None and newest.began_ns > read.ended_ns
        for value, wait in zip(read.told["took"], read.told["waits"], strict=False):
            shown = by_wait.get(wait)
            # A log that was read before, or never, may not show yet what the wait took.
            if value != shown and (shown is not None or is_newer):
                found.add("runs", f"{run} took {value}, its {wait} {shown}")
        if len(read.told["took"]) > len(read.told["waits"]):
            found.add(
                "runs", f"{run} took {read.told['took']} with {len(read.told['waits'])} waits"
            )
    _check_journal_grows(run, reads, found)
    last = max(reads, key=lambda one: (len(one.told["steps"]), one.ended_ns)).told
    keys = [key for key, *_ in last["steps"]]
    if len(set(keys)) != len(keys):
        found.add("steps", f"{run}: a step is recorded twice")
    seen_ns = _seen_recorded(reads)
    for place, (key, recorded_ns, began_ns) in enumerate(last["steps"]):
        bounds = [known_ns[wait] for wait in last["waits"][place + 1 :] if wait in known_ns]
        bounds += [bound for bound in (recorded_ns, seen_ns.get(key)) if bound is not None]
        if not began_ns:
            found.add("steps", f"{run}: {key} is recorded and never ran")
        elif max(began_ns) > min(bounds, default=math.inf):
            found.add("steps", f"{run}: {key} ran again after it was recorded")


def _seen_recorded(reads: Sequence[Call]) -> dict[str, int]:
    """When a read had shown each step's outcome."""
    found: dict[str, int] = {}
    for read in sorted(reads, key=lambda one: one.ended_ns):
        for key, *_ in read.told["steps"]:
            found.setdefault(key, read.ended_ns)
    return found


def _check_journal_grows(run: str, reads: Sequence[Call], found: Found) -> None:
    """All reads show beginnings of one journal, and none less than one that had ended before it began."""

    def shown(read: Call) -> dict[str, list[Any]]:
        told = read.told
        return {
            "waits": told["waits"], "took": told["took"], "steps": [key for key, *_ in told["steps"]],
        }  # fmt: skip

    all_shown = [(read, shown(read)) for read in reads]
    for what in ("waits", "took", "steps"):
        longest = max((one[what] for _, one in all_shown), key=len)
        for _, one in all_shown:
            if one[what] != longest[: len(one[what])]:
                found.add("runs", f"{run}: its {what} were {one[what]} and {longest}")
        ended = sorted((read.ended_ns, len(one[what])) for read, one in all_shown)
        most, at = 0, 0
        for read, one in sorted(all_shown, key=lambda pair: pair[0].began_ns):
            while ended[at][0] < read.began_ns:
                most = max(most, ended[at][1])
                at += 1
            if len(one[what]) < most:
                found.add("runs", f"{run}: {len(one[what])} {what} after {most} were shown")


def _check_stays_over(session: str, reads: Sequence[Call], found: Found) -> None:
    """A read of a session tells `{wait, is_over}`; nobody starts another run of it."""
    over_ns = min((read.ended_ns for read in reads if read.told["is_over"]), default=math.inf)
    if any(not read.told["is_over"] and read.began_ns > over_ns for read in reads):
        found.add("runs", f"{session}: its run was over and is not any more")
