"""What clients did and were told, with times: one row for each call, kept in a Parquet file.

A row is written when its call has ended or was given up, so a file holds whole calls only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet

from helmr.wire import jsonio


class Outcome(StrEnum):
    """What the caller knows of a call."""

    OK = "ok"
    REFUSED = "refused"
    """It was told that nothing happened."""
    UNKNOWN = "unknown"
    """It was told nothing, or that nobody knows: it may have happened, or happen yet."""


class Kind(StrEnum):
    """What a call does."""

    SEND = "send"
    ANSWER = "answer"
    USE = "use"
    """A send with a public token."""
    COMPLETE = "complete"
    CREATE = "create"
    """A session, a token or a public token."""
    VOTE = "vote"
    """A person's answer to a wait that several must agree on."""
    WITHDRAW = "withdraw"
    DISABLE = "disable"
    ENABLE = "enable"
    READ_LOG = "read_log"
    READ_SESSION = "read_session"
    READ_WAIT = "read_wait"
    READ_TOKEN = "read_token"
    READ_USES = "read_uses"
    READ_RUN = "read_run"
    READ_LIMIT = "read_limit"
    """A session whose steps have a limit."""
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call.

    Args:
        client: Who made it; one client makes one call at a time.
        kind: What it does.
        target: On what: a stream as `session/stream`, or the id of a wait, token, public token, session, run or
            person; of what is created, which kind; of a fault, what it hit.
        beside: Of an answer, the stream; of a use, the public token; of a vote and its withdrawal, the person.
        operation: The operation id; equal for a call that is repeated.
        value: What it carries, unique to its operation; of a vote, what its person stands for.
        began_ns: When it was sent, by one clock for all.
        ended_ns: When its reply was there; of an unknown one, when the caller gave up.
        outcome: What the caller knows.
        reply: JSON of what it was told, in the shapes of `checker.py`.
    """

    client: int
    kind: Kind
    target: str
    beside: str = ""
    operation: str = ""
    value: int = -1
    began_ns: int
    ended_ns: int
    outcome: Outcome
    reply: str = "null"

    @property
    def told(self) -> Any:
        """The reply."""
        return jsonio.loads(self.reply)


COLUMNS = tuple(field.name for field in fields(Call))


def write(calls: Iterable[Call], path: Path) -> None:
    """Keep a history."""
    rows = [astuple(call) for call in calls]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    table = {
        name: [str(value) if isinstance(value, StrEnum) else value for value in column]
        for name, column in zip(COLUMNS, columns, strict=True)
    }
    pyarrow.parquet.write_table(pyarrow.table(table), path, compression="zstd")


def read(path: Path) -> list[Call]:
    """A kept history, in the order in which its calls began."""
    with duckdb.connect() as database:
        relation = database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM read_parquet(?) ORDER BY began_ns", [str(path)]
        )
        rows = relation.fetchall()
    return [
        Call(
            **{
                **dict(zip(COLUMNS, row, strict=True)),
                "kind": Kind(row[COLUMNS.index("kind")]),
                "outcome": Outcome(row[COLUMNS.index("outcome")]),
            }
        )
        for row in rows
    ]


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


def longest(calls: Sequence[Call]) -> Iterator[str]:
    """The longest time without an acknowledgement, a line."""
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
