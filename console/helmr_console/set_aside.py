"""Entries that corrections set aside, by whom, and the corrections possible at an entry (S-75…S-79). Pure.

A rewind follows the entries that it sets aside, so an entry can be judged only once the later rewinds are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypedDict

from helmr.models import EntryInfo, RunInfo, SessionInfo, SessionStatus, WaitInfo, WaitStatus
from helmr.person.review.words import who
from helmr_console.entry_lines import entry_line

REWOUND = "run.rewound"
_ENDS = ("run.succeeded", "run.failed")
_RESOLVED = (WaitStatus.FULFILLED, WaitStatus.TIMED_OUT)
_ASKING = ("wait.opened", "wait.fulfilled", "wait.timed_out", "input.accepted")
"""Kinds of entries that name a wait whose answer may be wrong."""


@dataclass(frozen=True, slots=True)
class Rewound:
    """One rewind: the ops that it removed from a run's journal, its author and reason. Texts are unsafe, as stored."""

    seq: int
    run_id: str
    ops: frozenset[int]
    to_op: int
    reason: str
    by: str
    amends: str | None = None

    def takes(self, entry: EntryInfo) -> bool:
        """True if the rewind set this entry aside: it has one of the ops, or was the run's end."""
        if entry.seq > self.seq or entry.run_id != self.run_id:
            return False
        return entry.op in self.ops or (entry.op is None and entry.kind in _ENDS)


@dataclass(slots=True)
class Rewinds:
    """The known rewinds of a session, in order."""

    known: dict[int, Rewound] = field(default_factory=dict)

    def learn(self, entries: Iterable[EntryInfo]) -> bool:
        """Add the rewinds among these entries; True if one was new."""
        before = len(self.known)
        for entry in entries:
            if entry.kind == REWOUND and entry.seq not in self.known:
                self.known[entry.seq] = rewound(entry)
        self.known = dict(sorted(self.known.items()))
        return len(self.known) > before

    def of(self, entry: EntryInfo) -> Rewound | None:
        """The rewind that set this entry aside: the first later one that names its op; None if there is none."""
        return next((one for one in self.known.values() if one.takes(entry)), None)

    def stretches(self, entries: Iterable[EntryInfo]) -> list[tuple[int, int]]:
        """First and last seq of each stretch of at least two set-aside entries; `entries` must be in order of seq."""
        found: list[tuple[int, int]] = []
        for entry in entries:
            if self.of(entry) is None:
                continue
            if found and found[-1][1] == entry.seq - 1:
                found[-1] = (found[-1][0], entry.seq)
            else:
                found.append((entry.seq, entry.seq))
        return [(first, last) for first, last in found if last > first]


def rewound(entry: EntryInfo) -> Rewound:
    """Read a `run.rewound` entry; one with an incomplete body sets nothing aside."""
    body, amended = entry.body, entry.body.get("amended")
    ops = body.get("set_aside")
    return Rewound(
        seq=entry.seq,
        run_id=entry.run_id or "",
        ops=frozenset(op for op in ops if isinstance(op, int))
        if isinstance(ops, list)
        else frozenset(),
        to_op=to_op if isinstance(to_op := body.get("to_op"), int) else 0,
        reason=str(body.get("reason", "")),
        by=who(entry.principal),
        amends=str(amended["wait_id"])
        if isinstance(amended, dict) and "wait_id" in amended
        else None,
    )


class PlaceName(TypedDict):
    """A run's op or wait; the other one is None."""

    to_op: int | None
    wait_id: str | None


@dataclass(frozen=True, slots=True)
class CorrectionPlace:
    """An entry as a place to correct, with the reason against each kind of correction, empty if it is possible.

    `wait_id` is the wait that the entry is about, `op` the op under which it stands.
    """

    entry: EntryInfo | None = None
    run_id: str = ""
    op: int | None = None
    wait_id: str | None = None
    not_rewindable: str = "no entry is selected"
    not_amendable: str = "no entry is selected"
    not_forkable: str = "no entry is selected"

    @property
    def named(self) -> PlaceName:
        """Arguments that name the place in a request: its op, or its wait where the entry has no op."""
        if self.op is not None:
            return {"to_op": self.op, "wait_id": None}
        return {"to_op": None, "wait_id": self.wait_id}

    @property
    def words(self) -> str:
        """`op 5, entry 12: post_review started`."""
        op = f"op {self.op}, " if self.op is not None else ""
        if self.entry is None:
            return self.wait_id or ""
        return f"{op}entry {self.entry.seq}: {entry_line(self.entry).text}"


def place_of(
    entry: EntryInfo | None,
    *,
    aside: Rewound | None,
    session: SessionInfo | None,
    newest: RunInfo | None,
    wait_of: Callable[[str], WaitInfo | None],
) -> CorrectionPlace:
    """Judge what can be corrected at an entry from what is known here; the gateway has the last word.

    Args:
        aside: The rewind that set it aside.
        newest: The session's newest run, the only one that can be rewound.
        wait_of: A wait of the session, if it is known.
    """
    if entry is None:
        return CorrectionPlace()
    wait_id = _wait_of(entry)
    op = entry.op
    wait = wait_of(wait_id) if wait_id is not None else None
    common = _not_here(entry, op, wait_id, aside, newest)
    rewind = common
    if not rewind and session is not None and session.status is SessionStatus.CANCELLED:
        rewind = "the session was cancelled"
    amend = (rewind if wait_id is not None else "") or _not_amendable(entry, wait_id, wait)
    run_id = entry.run_id or (wait.run_id if wait is not None else "")
    return CorrectionPlace(entry, run_id, op, wait_id, rewind, amend, common)


def place_of_wait(
    wait: WaitInfo, *, session: SessionInfo | None, newest: RunInfo | None
) -> CorrectionPlace:
    """Like `place_of`, for a wait in a list."""
    why = ""
    if session is not None and session.status is SessionStatus.CANCELLED:
        why = "the session was cancelled"
    elif newest is not None and wait.run_id != newest.id:
        why = "only the newest run of a session can be corrected"
    amend = why or _why_no_answer(wait.kind.value, wait)
    return CorrectionPlace(None, wait.run_id, None, wait.id, why, amend, why)


def _not_here(
    entry: EntryInfo,
    op: int | None,
    wait_id: str | None,
    aside: Rewound | None,
    newest: RunInfo | None,
) -> str:
    if aside is not None:
        return f"entry {entry.seq} was set aside by entry {aside.seq}"
    if op is None and wait_id is None:
        return "this entry is not a step, wait, output or answer of a run"
    if newest is not None and entry.run_id is not None and entry.run_id != newest.id:
        return "only the newest run of a session can be corrected"
    return ""


def _not_amendable(entry: EntryInfo, wait_id: str | None, wait: WaitInfo | None) -> str:
    if wait_id is None:
        return "this entry is not an answer"
    return _why_no_answer(wait.kind.value if wait is not None else entry.body.get("kind"), wait)


def _why_no_answer(kind: object, wait: WaitInfo | None) -> str:
    if kind in ("timer", "session"):
        return f"a {kind} wait has no answer"
    if wait is not None and wait.status is WaitStatus.PENDING:
        return "the wait has no answer yet: a answers it"
    if wait is not None and wait.status not in _RESOLVED:
        return f"the wait is {wait.status.value.replace('_', ' ')}"
    return ""


def _wait_of(entry: EntryInfo) -> str | None:
    wait_id = entry.body.get("wait_id") if entry.kind in _ASKING else None
    return wait_id if isinstance(wait_id, str) else None
