"""What the naive model has: sessions with their runs, records and waits, and tokens, as lists of plain values."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

Who = tuple[str, str | None]
Receipt = dict[str, Any]
CALLER, RUNTIME, TASK = ("caller", None), ("runtime", None), ("task", None)


@dataclass
class Record:
    stream: str
    seq: int
    data: Any
    correlation: str | None
    is_taken: bool = False
    has_started_run: bool = False


@dataclass
class Claim:
    by: Who
    until: int


@dataclass(frozen=True)
class Person:
    """Who calls, proven.

    Attributes:
        name: Of the person, whatever they come with.
        groups: The issuer's that are known; None if not all of them are, or were known too long ago.
        in_file: Those that the file says, which are known always.
    """

    name: str
    groups: tuple[str, ...] | None
    in_file: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answerers:
    """Who may answer a wait, and how many people must say the same (S-112, S-113)."""

    answerers: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    approvals: int = 1
    refusals: tuple[Any, ...] = ()
    comments: tuple[str, ...] = ()

    @property
    def question(self) -> Any:
        """What of it people are shown (S-70)."""
        return (self.answerers, self.not_by, self.approvals, self.refusals)

    def excluded(self, starters: list[str]) -> list[str]:
        """Who may not answer, which no admin's reason overrides."""
        return [*self.not_by, *(starters if "starter" in self.not_by else ())]

    def admits(self, person: Person, starters: list[str]) -> bool | None:
        """None if that depends on groups which are not known."""
        not_by = self.excluded(starters)
        groups = (*person.in_file, *(person.groups or ()))
        known = [person.name, *(f"group:{one}" for one in groups)]
        if any(one in not_by for one in known):
            return False
        is_named = not self.answerers or any(one in self.answerers for one in known)
        asks_groups = any(one.startswith("group:") for one in not_by)
        if not is_named:
            asks_groups |= any(one.startswith("group:") for one in self.answerers)
        return None if asks_groups and person.groups is None else is_named

    def refuses(self, data: Any) -> bool:
        """One person is enough for this answer."""
        is_object = isinstance(data, dict) and "decision" in data
        return data in self.refusals or (is_object and data["decision"] in self.refusals)

    def proposal(self, data: Any) -> Any:
        """What people must say alike."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name not in self.comments}


@dataclass
class Wait:
    id: str
    run: str
    op: int
    kind: str
    stream: str | None
    correlation: str | None
    token: str | None
    deadline: int | None
    child: str | None = None
    status: str = "pending"
    pinned: bool = False
    asks_for_one: bool = False
    """For an integer, as people are shown."""
    answer: Any = None
    """The record that it took; a token wait's data in a list, if it was given to this wait only."""
    is_set_aside: bool = False
    assignee: str | None = None
    escalation_steps: list[Any] = field(default_factory=list)
    fired: list[int] = field(default_factory=list)
    opened_at: int = 0
    assigned_at: int | None = None
    claim: Claim | None = None
    unsaid: list[Any] = field(default_factory=list)
    """Of claims: kind, who, what; the session's next entry brings it along."""
    ends_at: int | None = None
    """Escalation steps that come then or later never fire: its deadline, or its token's."""
    who: Answerers | None = None
    """Who may answer; None admits anyone."""
    starters: list[str] = field(default_factory=list)
    """Whom `starter` means."""
    votes: list[tuple[str, Any]] = field(default_factory=list)
    """Who stands for what, the newest last; one of each person (S-113)."""

    @property
    def next_escalation(self) -> tuple[int, int] | None:
        """When which step of its escalation comes (S-82)."""
        coming = []
        for number, (_, after, since, _) in enumerate(self.escalation_steps):
            start = self.assigned_at if since == "assigned" else self.opened_at
            if number not in self.fired and start is not None:
                at = start + after
                if self.ends_at is None or at < self.ends_at:
                    coming.append((at, number))
        return min(coming, default=None)

    def fire(self, number: int, at: int) -> None:
        """An escalation step has come; what is counted from an assignment is counted from when that was made."""
        self.fired.append(number)
        if self.escalation_steps[number][0] == "assign":
            self.assigned_at = at

    def come(self, by: int) -> list[int]:
        """The escalation steps that have come by then, if nobody has looked before; a default is the last."""
        alike = replace(self, fired=[*self.fired])
        while (found := alike.next_escalation) is not None and found[0] <= by:
            number = found[1]
            alike.fire(number, by)
            if self.escalation_steps[number][0] == "default":
                break
        return alike.fired[len(self.fired) :]

    @property
    def default_by(self) -> int | None:
        """When its default answers it at the latest, if everything is in time."""
        alike = replace(self, fired=[*self.fired])
        while (found := alike.next_escalation) is not None:
            if self.escalation_steps[found[1]][0] == "default":
                return found[0]
            alike.fire(found[1], found[0])
        return None

    @property
    def question(self) -> Any:
        """What people are shown (S-70)."""
        who = self.who.question if self.who is not None else None
        return (self.kind, self.stream, self.correlation, self.asks_for_one, who)

    def takes(self, stream: str, correlation: str | None) -> bool:
        """S-23; what is sent answers no wait that says who may (S-112)."""
        is_its = self.stream == stream and self.correlation in (None, correlation)
        return is_its and self.who is None


@dataclass
class Run:
    id: str
    code: list[Any]
    tokens: list[str]
    attempt: int = 1
    status: str = "queued"
    is_started: bool = False
    retry_at: int | None = None
    failed_op: int | None = None
    first_attempt: int = 1
    """Since the newest rewind."""
    outcomes: dict[int, Any] = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)
    made_public: dict[int, str] = field(default_factory=dict)
    starters: list[str] = field(default_factory=list)
    """Who started it, or the one that it goes on for."""
    held: list[Any] = field(default_factory=list)
    """Answers that a rewind keeps, in order: what was asked, and the record, or a token wait's data in a list."""

    @property
    def is_active(self) -> bool:
        return self.status in ("queued", "running", "waiting", "blocked")


@dataclass
class Parent:
    session: str
    run: str
    op: int
    leaves: bool


@dataclass
class End:
    at: int
    who: Who
    told: Any
    """What the wait of a parent gives: a failure is no list."""


@dataclass
class Output:
    """A record of the stream that sessions write to."""

    data: Any
    run: str
    op: int
    is_set_aside: bool = False


@dataclass
class Session:
    id: str
    task: str
    external_id: str | None
    key: str | None
    asked: Any
    parent: Parent | None = None
    end: End | None = None
    """How it ended for its parent, and whoever else waits for it (S-91)."""
    status: str = "open"
    input_ended: bool = False
    closed_by: str | None = None
    runs: list[Run] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[Any, Receipt]] = field(default_factory=dict)
    tokens_made: int = 0
    starters: list[str] = field(default_factory=list)
    """Who started it, those above it, or forked it, as far as that is said."""
    entries: list[Any] = field(default_factory=list)
    is_gone: bool = False
    """Pruned, with all that is its own (S-69)."""

    @property
    def run(self) -> Run:
        return self.runs[-1]

    @property
    def wait(self) -> Wait | None:
        return next((w for w in self.waits if w.status == "pending"), None)


@dataclass
class Token:
    id: str
    owner: str | None
    expires_at: int
    is_integer: bool
    """What completes it has to be one."""
    asks_for_one: bool
    """And whoever is asked is told so; else only a wait on it does."""
    status: str = "pending"
    data: Any = None
    ended_at: int = 0
    ended_by: Who = RUNTIME
    pinned_by: str | None = None
    """The session whose wait gave it a type, the newest."""


@dataclass
class PublicToken:
    id: str
    session: str | None
    stream: str | None
    token: str | None
    correlation: str | None
    max_uses: int | None
    expires_at: int
    uses: int = 0
    is_revoked: bool = False
    wait: str | None = None
    person: str | None = None
    """Those of an answer link, which is for one wait and one person (S-74)."""

    @property
    def who(self) -> Who:
        """Who acts by its secret."""
        is_link = self.wait is not None
        return (f"link for {self.person}" if is_link else "public_token", self.id)


OF_CLIENTS = (
    "session.closed",
    "public_token.created",
    "public_token.spent",
    "public_token.revoked",
    "wait.reminded",
    "wait.claimed",
    "wait.claim_ended",
)
"""Entries that no fork has, unless its code asked for them."""


def like(session: Session) -> Session:
    """It once more, as it is now."""
    kept = [session.entries, *(run.code for run in session.runs)]
    alike = deepcopy(session, {id(one): one for one in kept})
    alike.entries = list(session.entries)
    return alike


def copied(origin: Session, name: str) -> Session:
    """What a fork begins with, under names of its own (S-86)."""

    def own(text: Any) -> Any:
        is_its = isinstance(text, str) and text.startswith((f"{origin.id}.r", f"{origin.id}.w"))
        return f"{name}.{text.partition('.')[2]}" if is_its else text

    made = like(origin)
    stays = [
        kind not in OF_CLIENTS or (kind == "public_token.created" and op is not None)
        for kind, _, op, *_ in origin.entries
    ]
    made.entries = [
        (kind, own(run), op, who, [own(one) for one in told], at)
        for kind, run, op, who, told, at in compress(origin.entries, stays)
    ]
    made.id, made.external_id, made.key, made.tokens_made = name, None, None, 0
    made.keys = {
        key: (data, {part: own(text) for part, text in receipt.items()})
        for key, (data, receipt) in origin.keys.items()
    }
    made.status, made.closed_by, made.input_ended = "open", None, False
    made.parent = made.end = None
    for run in made.runs:
        run.id = own(run.id)
    for said in made.outputs:
        said.run = own(said.run)
    for wait in made.waits:
        wait.id, wait.run = own(wait.id), own(wait.run)
    return made
