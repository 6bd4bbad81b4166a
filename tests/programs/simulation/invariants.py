"""What always holds, looked at whenever something is stored, held, answered or executed.

The checks know the entries of a transcript and the rules, and nothing of how the runtime keeps them: each is a small
fold of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn

from helmr_runtime.core.entries import (
    Entry,
    EntryKind,
    decided_at,
    from_iso,
    link,
    principal_text,
)
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.memory_rows import Stored
from helmr_runtime.ports import Flush, Loaded
from helmr_runtime.ports.ledger import restore
from tests.core.builder import picture
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.folded import Run, Session, Wait, set_aside
from tests.programs.simulation.links import Links
from tests.programs.simulation.notices import Notices
from tests.programs.simulation.pruning import Pruning
from tests.programs.simulation.schedules import Schedules
from tests.programs.simulation.sends import Sends
from tests.programs.simulation.votes import Votes

WAIT_ENDS = {
    EntryKind.WAIT_FULFILLED: "fulfilled",
    EntryKind.WAIT_TIMED_OUT: "timed_out",
    EntryKind.WAIT_CANCELLED: "cancelled",
}
STEP_ENDS = frozenset({EntryKind.STEP_SUCCEEDED, EntryKind.STEP_FAILED})
TOKEN_ENDS = frozenset(
    {EntryKind.TOKEN_COMPLETED, EntryKind.TOKEN_EXPIRED, EntryKind.TOKEN_CANCELLED}
)
RUN_ENDS = frozenset({EntryKind.RUN_SUCCEEDED, EntryKind.RUN_FAILED, EntryKind.RUN_CANCELLED})
REACHED = RUN_ENDS | {EntryKind.WAIT_OPENED, EntryKind.RUN_ATTEMPT_FAILED, EntryKind.RUN_BLOCKED}
ALONE_AFTER = 2
"""Of so many crashes that may be another's doing a session goes on in a host of its own."""


class Violation(AssertionError):
    """Something that always holds does not."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule


class Invariants:
    """The checks, and what they must remember.

    Args:
        counts: Told of the branches that only entries show.
        told: Notice targets that are told every event.
    """

    def __init__(self, counts: Counts, told: tuple[str, ...] = ()) -> None:
        self.counts = counts
        self.violation: Violation | None = None
        self.entries: list[Entry] = []
        """All that are there; what was pruned has left gaps."""
        self.head_offset = 0
        self.on_stored: Callable[[Sequence[Entry]], None] = lambda entries: None
        self.is_of_today: Callable[[datetime], bool] = lambda recorded_at: True
        """What was recorded then is known by its operation for sure."""
        self.sessions: dict[str, Session] = {}
        self.waits: dict[str, Wait] = {}
        self.tokens: dict[str, str] = {}
        """By token, how it stands."""
        self.completed_at: dict[str, datetime] = {}
        self.uses: Counter[str] = Counter()
        self.uses_max: dict[str, int | None] = {}
        self.operations: dict[str, Entry] = {}
        self.record_ids: set[str] = set()
        self.step_keys: dict[str, tuple[str, str, int]] = {}
        self.spent_keys: set[str] = set()
        """Of steps that had an outcome and were set aside by a rewind: nothing is done under them any more."""
        self.answers: list[str] = []
        """Waits on tokens that clients were told to have answered."""
        self.suspect: Counter[str] = Counter()
        """Crashes of hosts in which the session executed beside others, since it reached a wait or an end last."""
        self.schedules = Schedules(counts, self.check)
        self.notices = Notices(told, counts, self.check)
        self.links = Links(counts, self.check)
        self.votes = Votes(counts, self.check)
        self.sends = Sends(self.sessions, counts, self.check)
        self.on_step_begun: Callable[[str, str, datetime], None] = lambda key, name, at: None
        """Told of a step that is opened: its key, its name, and when."""
        self.token_owners: dict[str, str] = {}
        """By token, the session whose transcript it was made in."""
        self.pruning = Pruning(self, counts, self.check)
        self.children: dict[tuple[str, int], str] = {}
        """By run and op, the child session that was started there."""
        self._owners: dict[tuple[str, int], str] = {}
        self._given_up: set[str] = set()

    # --- what is stored ---------------------------------------------------------------------------

    def stored(self, entries: Sequence[Entry], flush: Flush | None) -> None:
        """The ledger has these entries on disk, in this order."""
        self.on_stored(entries)
        if flush is not None:
            session = self.sessions[flush.session_id]
            self.check(
                flush.epoch >= session.epoch,
                "S-62",
                f"{flush.session_id}: stored under epoch {flush.epoch}, {session.epoch} is out",
            )
        for entry in entries:
            self.check(
                entry.feed_offset == self.head_offset + 1, "S-54", f"feed {entry.feed_offset}"
            )
            self.head_offset += 1
            self.entries.append(entry)
            self._entry(entry)

    def reopened(self, stored: Stored) -> None:
        """A ledger starts: what it finds begins with all that was stored; more may be there that nobody was told of.

        Adoptions under which nothing was stored are forgotten: until somebody adopts the session again, whoever had it
        before may go on with it. Seed 12: a host that could not be reached was given up 0.3 ms before the ledger was
        killed; it committed a second later, and nobody else had the session meanwhile.
        """
        entries = stored.entries
        unheard = [one for one in entries if (one.feed_offset or 0) > self.head_offset]
        pruned = [one.body["sessions"] for one in unheard if one.kind is EntryKind.SESSIONS_PRUNED]
        gone = frozenset().union(*pruned)
        expected = [one for one in self.entries if one.session_id not in gone]
        has_all = len(entries) == len(expected) + len(unheard)
        self.check(has_all, "S-60", f"of {len(expected)} entries {len(entries)} are left")
        for found, known in zip(entries, expected, strict=False):
            is_same = (found.hash, found.body_json) == (known.hash, known.body_json)
            self.check(is_same, "S-60", f"entry {known.feed_offset} is another one")
        if unheard:
            self.counts.reached("stored unheard")
            self.stored(unheard, None)
        for session in self.sessions.values():
            session.epoch = 0
        for session_id, epoch, _ in stored.holdings:
            self.sessions[session_id].epoch = epoch

    def held(self, session_id: str, epoch: int, holder: str | None) -> None:
        """The ledger gave out an epoch, or took a session back."""
        session = self.sessions[session_id]
        self.check(epoch >= session.epoch, "S-62", f"{session_id}: epoch {epoch} is an old one")
        if holder is not None:
            owner = self._owners.setdefault((session_id, epoch), holder)
            self.check(owner == holder, "S-62", f"{session_id}: epoch {epoch} has two holders")
            is_out = holder in self._given_up
            self.check(not is_out, "S-62", f"{session_id} comes to {holder}, which was given up")
        session.epoch = epoch

    def given_up(self, holder: str) -> None:
        """A directory has the ledger's word that this host holds nothing."""
        self._given_up.add(holder)

    def loaded(self, session_id: str, loaded: Loaded) -> None:
        """An adoption got this: it must be the fold of what is stored (S-53)."""
        self.counts.reached("fold compared")
        self.is_fold(restore(session_id, loaded))

    def is_newest(self, session_id: str, known: tuple[int, bytes]) -> bool:
        """The session's newest entry has that seq and hash."""
        session = self.sessions.get(session_id)
        return session is not None and known == (session.seq, session.hash)

    def is_fold(self, state: SessionState) -> None:
        """The state is that of all entries of its session."""
        folded = SessionState(state.id)
        for entry in self.sessions[state.id].entries:
            folded.apply(entry)
        found, expected = picture(state), picture(folded)
        differing = [part for part in expected if expected[part] != found[part]]
        self.check(not differing, "S-53", f"{state.id} differs in {differing}")

    def _entry(self, entry: Entry) -> None:
        is_there = entry.session_id not in self.pruning.gone
        self.check(is_there, "S-69", f"{entry.session_id} is pruned")
        session = self.sessions.setdefault(entry.session_id, Session())
        body, where = entry.body, f"{entry.session_id} {entry.seq} {entry.kind.value}"
        self.check(entry.seq == session.seq + 1, "S-50", f"{where} follows {session.seq}")
        hashed = link(
            session.hash,
            key=None,
            session_id=entry.session_id,
            seq=entry.seq,
            recorded_at=entry.recorded_at,
            kind=entry.kind.value,
            run_id=entry.run_id,
            op=entry.op,
            principal_json=principal_text(entry.principal),
            body_json=entry.body_json,
        )
        self.check(entry.hash == hashed, "S-52", f"{where}: the chain is broken")
        if session.at is not None:
            self.check(entry.recorded_at >= session.at, "S-50", f"{where} is before the last")
        session.entries.append(entry)
        session.seq, session.hash, session.at = entry.seq, entry.hash, entry.recorded_at
        operation = body.get("operation")
        if operation is not None:
            known = self.operations.get(operation["id"])
            is_first = known is None or not self.is_of_today(known.recorded_at)
            self.check(is_first, "S-61", f"{where}: twice done")
            if known is not None and entry.kind is EntryKind.TOKEN_CREATED:
                # By a call that has gone on for a simulated day.
                self.tokens.pop(body["token_id"], None)
            self.operations[operation["id"]] = entry
        self.counts.reached(f"entry:{entry.kind.value}")
        self.schedules.entry(entry)
        self.links.entry(entry)
        self.votes.entry(entry)
        self._session_entry(session, entry)
        if entry.run_id is not None:
            self._run_entry(session, session.runs.setdefault(entry.run_id, Run()), entry)
        wait = self.waits.get(body.get("wait_id", ""))
        self.notices.entry(entry, wait.kind if wait is not None else None)

    def _session_entry(self, session: Session, entry: Entry) -> None:
        kind, body = entry.kind, entry.body
        where = f"{entry.session_id} {entry.seq} {kind.value}"
        is_copy = "copied_from" in body
        match kind:
            case EntryKind.SESSIONS_PRUNED:
                gone = self.pruning.pruned(entry)
                self.entries = [one for one in self.entries if one.session_id not in gone]
                self.notices.pruned(gone)
            case EntryKind.RUN_REWOUND if body.get("opens_session") and not is_copy:
                self.check(session.status == "closed", "S-75", f"{where}: it is {session.status}")
                session.status = "open"
                self.counts.reached("session opened by a rewind")
            case _ if is_copy and (kind is EntryKind.TOKEN_CREATED or kind in TOKEN_ENDS):
                pass  # the origin's
            case EntryKind.SESSION_CREATED if "parent" in body and not is_copy:
                self._child(entry.session_id, body["parent"], where)
            case EntryKind.INPUT_ACCEPTED:
                session.records[body["stream"]] += 1
                self.check(
                    body["stream_seq"] == session.records[body["stream"]], "S-22", f"{where}: a gap"
                )
                self.check(body["record_id"] not in self.record_ids, "S-24", f"{where}: twice")
                self.check(session.status == "open", "S-27", f"{where}: it is {session.status}")
                self.record_ids.add(body["record_id"])
                self.counts.reached(f"send:{body['outcome']}")
            case EntryKind.INPUT_RETURNED:
                record = body["stream"], int(body["record_seq"])
                self.check(session.taken.pop(record, None) is not None, "S-24", where)
            case EntryKind.SESSION_CLOSED | EntryKind.SESSION_CANCELLED:
                self.check(session.status == "open", "S-1", f"{where}: it is {session.status}")
                session.status = kind.value.partition(".")[2]
                if kind is EntryKind.SESSION_CANCELLED:
                    # No entry of their own says so. Seed 125: a token's session was cancelled 8 ms after it was
                    # made; who completes it is told `token_cancelled`, and the session is pruned.
                    owners = self.token_owners.items()
                    self._cancel_tokens(one for one, by in owners if by == entry.session_id)
            case EntryKind.PUBLIC_TOKEN_CREATED:
                self.uses_max[body["public_token_id"]] = body.get("max_uses")
            case EntryKind.PUBLIC_TOKEN_SPENT:
                self.uses[body["public_token_id"]] += 1
                most = self.uses_max[body["public_token_id"]]
                used = self.uses[body["public_token_id"]]
                self.check(most is None or used <= most, "S-45", f"{where}: {used} of {most}")
            case EntryKind.TOKEN_CREATED:
                self.check(body["token_id"] not in self.tokens, "S-40", f"{where}: twice")
                self.tokens[body["token_id"]] = "pending"
                self.token_owners[body["token_id"]] = entry.session_id
            case _ if kind in TOKEN_ENDS:
                known = self.tokens[body["token_id"]]
                self.check(known == "pending", "S-40", f"{where}: it is {known}")
                self.tokens[body["token_id"]] = kind.value.partition(".")[2]
                if kind is EntryKind.TOKEN_COMPLETED:
                    self.completed_at[body["token_id"]] = decided_at(entry)
            case _:
                pass

    def _cancel_tokens(self, token_ids: Iterable[str]) -> None:
        """Those that are pending end with their session, or with what made them."""
        for token_id in token_ids:
            if self.tokens[token_id] == "pending":
                self.tokens[token_id] = "cancelled"

    def _child(self, session_id: str, parent: dict[str, Any], where: str) -> None:
        """Each op starts one child, whatever dies meanwhile; taken back, it may start another (S-75)."""
        key = parent["run_id"], int(parent["op"])
        self.pruning.kin(session_id, parent["session_id"])
        self.check(key not in self.children, "S-61", f"{where}: {self.children.get(key)} is there")
        self.children[key] = session_id
        self.counts.reached("child started")

    def _run_entry(self, session: Session, run: Run, entry: Entry) -> None:
        kind, body = entry.kind, entry.body
        where = f"{entry.session_id} {entry.seq} {kind.value}"
        if kind in REACHED:
            self.suspect.pop(entry.session_id, None)
        if kind is EntryKind.WAIT_OPENED:
            self.check(run.wait is None, "S-10", f"{where}: {run.wait} is open")
            self.check(body["wait_id"] not in self.waits, "S-11", f"{where}: opened twice")
            due = from_iso(body["deadline_at"]) if body.get("deadline_at") else None
            question = body.get("question_hash")
            self.waits[body["wait_id"]] = Wait(
                entry.session_id,
                str(entry.run_id),
                entry.op,
                body["kind"],
                due,
                question,
                body.get("stream"),
                body.get("token_id"),
                is_kept_for=any(one["question_hash"] == question for one in run.held),
                escalation=body.get("escalation", []),
                since={
                    "opened": from_iso(body["counted_at"]) if "counted_at" in body else None,
                    "assigned": None,
                },
            )
            run.wait = body["wait_id"]
        elif kind in (EntryKind.WAIT_REMINDED, EntryKind.WAIT_ASSIGNED):
            if "escalation_step" in body:
                self._escalation_step_fires(entry)
            if "counted_at" in body:
                counted_at = from_iso(body["counted_at"]) if body.get("assignee") else None
                self.waits[body["wait_id"]].since["assigned"] = counted_at
        elif kind in WAIT_ENDS:
            self._wait_ends(session, run, entry)
        elif kind is EntryKind.STEP_STARTED:
            assert entry.op is not None
            self.check(entry.op not in run.outcomes, "S-32", f"{where}: op {entry.op} has ended")
            run.opened[entry.op] = entry.seq
            run.keys[entry.op] = key = body["step_key"]
            if "copied_from" not in body:
                self.check(key not in self.spent_keys, "S-76", f"{where}: the key of before")
                self.step_keys[key] = (entry.session_id, str(entry.run_id), entry.op)
                self.on_step_begun(key, body["name"], entry.recorded_at)
        elif kind in STEP_ENDS:
            assert entry.op is not None
            self.check(entry.op in run.opened, "S-32", f"{where}: op {entry.op} was not opened")
            self.check(entry.op not in run.outcomes, "S-32", f"{where}: op {entry.op} ended twice")
            run.outcomes[entry.op] = run.ended[entry.op] = entry.seq
        elif kind is EntryKind.RUN_REWOUND:
            self._rewound(session, run, entry)
        elif kind is EntryKind.SESSION_FORKED:
            run.held = list(body.get("held", ()))  # what rewinds kept, the origin has
        elif kind in (EntryKind.RUN_RETRIED, EntryKind.RUN_ATTEMPT_FAILED):
            set_aside(run, body.get("failed_op"))
            run.status = "queued"
        elif kind in RUN_ENDS:
            self.check(run.status not in ("ended",), "S-3", f"{where}: it has ended")
            self.check(run.wait is None, "S-10", f"{where}: {run.wait} is open")
            run.status = "ended" if kind is not EntryKind.RUN_FAILED else "failed"
        elif kind is EntryKind.RUN_BLOCKED:
            self.counts.reached(f"blocked:{body['code']}")
            run.status = "blocked"
        elif kind is EntryKind.RUN_ACTOR_DIED:
            self.counts.reached("crash counted" if body["attributed"] else "crash not counted")
        if entry.op is not None and kind not in STEP_ENDS and kind not in WAIT_ENDS:
            run.opened.setdefault(entry.op, entry.seq)

    def _rewound(self, session: Session, run: Run, entry: Entry) -> None:
        """The run goes back to an op: what stood behind it is there no more, but for its answers (S-75…S-78)."""
        body, where = entry.body, f"{entry.session_id} {entry.seq} {entry.kind.value}"
        self.check(entry.run_id == list(session.runs)[-1], "S-75", f"{where}: not the newest run")
        self.check(run.wait is None, "S-75", f"{where}: {run.wait} is open")
        gone = set(body["set_aside"])
        behind = {op for op in run.outcomes if op >= body["to_op"]}
        self.check(behind <= gone, "S-75", f"{where}: {behind - gone} stay")
        for op in gone & run.outcomes.keys():
            self.spent_keys.add(run.keys[op])
        for op in gone:
            for known in (run.opened, run.outcomes, run.ended):
                known.pop(op, None)
        for key in [
            one for one in self.children if one[0] == entry.run_id and one[1] >= body["to_op"]
        ]:
            del self.children[key]  # also of one that had no outcome and went with its run
        self._cancel_tokens(body["tokens"])
        run.held = list(body["held"])
        run.status = "queued"
        self.counts.reached("amended" if "amended" in body else "rewound")

    def _kept(self, session: Session, run: Run, wait: Wait, entry: Entry) -> None:
        """A wait takes an answer that was kept for what it asks (S-78)."""
        body, where = entry.body, f"{entry.session_id} {entry.seq} {entry.kind.value}"
        fitting = [one for one in run.held if one["question_hash"] == wait.question]
        is_first = bool(fitting) and fitting[0]["wait_id"] == body["kept_from"]
        self.check(is_first, "S-78", f"{where}: not what was kept for it first")
        run.held.remove(fitting[0])
        if "record_seq" in body:
            session.taken.pop((body["stream"], int(body["record_seq"])), None)
        self.counts.reached("answer kept")

    def _escalation_step_fires(self, entry: Entry) -> None:
        """Each escalation step once, while its wait is pending, at its time or later (S-82)."""
        body, where = entry.body, f"{entry.session_id} {entry.seq} {entry.kind.value}"
        wait, number = self.waits[body["wait_id"]], int(body["escalation_step"])
        self.check(wait.status == "pending", "S-82", f"{where}: its wait is {wait.status}")
        self.check(number not in wait.fired, "S-82", f"{where}: escalation step {number} has fired")
        at = wait.comes_at(number)
        # The time at which a token ended counts, which a host whose clock is behind hears of before.
        is_due = at is not None and (entry.recorded_at >= at or wait.kind == "token")
        self.check(is_due, "S-82", f"{where}: escalation step {number} comes at {at}")
        wait.fired.add(number)

    def _default_or_before(self, wait: Wait, entry: Entry) -> None:
        """A default comes at its time or later, an answer before it, whatever is heard of when (S-82)."""
        body, where = entry.body, f"{entry.session_id} {entry.seq} {entry.kind.value}"
        default_at = wait.default_at
        if "kept_from" in body:
            return
        if body.get("mode") != "default":
            told = body.get("completed_at")
            at = from_iso(told) if told is not None else decided_at(entry)
            is_before = default_at is None or at < default_at
            self.check(is_before, "S-82", f"{where}: the default was due at {default_at}")
            return
        self.counts.reached(f"default:{wait.kind}")
        is_due = default_at is not None and (
            entry.recorded_at >= default_at or wait.kind == "token"
        )
        self.check(is_due, "S-82", f"{where}: the default comes at {default_at}")
        completed_at = self.completed_at.get(wait.token_id or "")
        is_first = completed_at is None or default_at is None or completed_at >= default_at
        self.check(is_first, "S-82", f"{where}: the token was completed at {completed_at}")

    def _wait_ends(self, session: Session, run: Run, entry: Entry) -> None:
        kind, body = entry.kind, entry.body
        where = f"{entry.session_id} {entry.seq} {kind.value}"
        wait = self.waits.get(body["wait_id"])
        if wait is None:
            self.fail("S-12", f"{where}: {body['wait_id']} was never opened")
        self.check(wait.status == "pending", "S-11", f"{where}: it was {wait.status}")
        wait.status, wait.ended_at = WAIT_ENDS[kind], entry.feed_offset
        if entry.op is not None:
            run.ended[entry.op] = entry.seq
        run.wait = None
        due = wait.deadline_at
        if "kept_from" in body:
            self._kept(session, run, wait, entry)
        else:
            is_passed_over = wait.is_kept_for and body.get("reason") != "rewound"
            self.check(not is_passed_over, "S-78", f"{where}: an answer was kept for it")
        self.counts.reached(f"wait:{wait.kind}:{wait.status}")
        if kind is EntryKind.WAIT_TIMED_OUT or (
            kind is EntryKind.WAIT_FULFILLED and wait.kind == "timer"
        ):
            is_due = due is not None and entry.recorded_at >= due
            self.check(is_due or wait.kind == "token", "S-14", f"{where}: due at {due}")
        if kind is EntryKind.WAIT_FULFILLED:
            self.links.ends(entry)
            self._default_or_before(wait, entry)
        if kind is EntryKind.WAIT_FULFILLED and wait.kind == "input":
            is_in_time = due is None or decided_at(entry) < due or body.get("mode") == "default"
            self.check(is_in_time, "S-14", f"{where}: too late")
            record = body["stream"], int(body["record_seq"])
            self.check(record not in session.taken, "S-24", f"{where}: {record} is taken")
            session.taken[record] = body["wait_id"]

    # --- what is executed and answered --------------------------------------------------------------

    def executes(self, step_key: str, *, is_holder: bool) -> None:
        """The body of a step begins."""
        known = self.step_keys.get(step_key)
        if known is None:
            self.fail("S-32", f"a step executes whose start is not on disk: {step_key}")
        session_id, run_id, op = known
        run = self.sessions[session_id].runs[run_id]
        if step_key in self.spent_keys or (op in run.outcomes and run.keys[op] == step_key):
            # Only who lost the session without knowing it yet may still begin what it was told to.
            self.check(not is_holder, "S-32", f"{session_id} {run_id}: op {op} is repeated")
            self.counts.reached("step repeated by who is fenced")

    def died_executing(self, session_ids: Sequence[str]) -> None:
        """A host died while the code of these sessions executed."""
        if len(session_ids) > 1:
            self.suspect.update(session_ids)

    def executes_beside_others(self, step_key: str) -> None:
        """The body of a step begins in a host that is there for all sessions."""
        session_id, _, _ = self.step_keys[step_key]
        crashes = self.suspect[session_id]
        self.check(crashes < ALONE_AFTER, "S-3", f"{session_id}: suspect of {crashes} crashes")

    def acknowledged(self, operation_id: str, what: str) -> None:
        """A client was told that its operation was done."""
        self.check(operation_id in self.operations, "S-60", f"{what}: {operation_id} is not there")

    def answered(self, wait_id: str, operation_id: str) -> None:
        """A client was told that its answer completed the token of that wait."""
        self.answers.append(wait_id)
        completion, ended_at = self.operations[operation_id], self.waits[wait_id].ended_at
        is_before = ended_at is None or (completion.feed_offset or 0) < ended_at
        self.check(is_before, "S-18", f"{wait_id} was over at {ended_at} when it was answered")

    def ended(self) -> None:
        """Everything is at rest."""
        for wait_id in self.answers:
            wait = self.waits[wait_id]
            self.check(wait.status != "timed_out", "S-18", f"{wait_id} is answered, and timed out")
        for session_id, session in self.sessions.items():
            if session_id not in self.pruning.gone:
                self.sends.at_rest(session_id, session)

    def repeated(self, what: str, first: Any, again: Any) -> None:
        """A client repeated an operation."""
        self.counts.reached("operation repeated")
        self.check(first == again, "S-61", f"{what}: {first} at first, then {again}")

    def check(self, holds: bool, rule: str, message: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.fail(rule, message)

    def fail(self, rule: str, message: str) -> NoReturn:
        """Note what does not hold: whoever catches the error that is raised here changes nothing about it."""
        self.violation = self.violation or Violation(rule, message)
        raise self.violation
