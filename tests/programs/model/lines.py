"""Entries as the model tells them: ids as names, times since the beginning, and of each body what matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from helmr_runtime.core.entries import Entry, from_iso

LEFT_OUT = ("run.resumed", "run.actor_died")
"""They say where a session lived."""

OF_CLAIMS = ("wait.claimed", "wait.claim_ended")
"""They come with the next entry, also with one that is left out: when is no matter."""

Body = Mapping[str, Any]
PRINCIPALS = {"api_key": "caller", "ray_job": "caller"}


class Lines:
    """The transcripts of sessions, and what became of runs and waits.

    Args:
        begin: What times count from; None leaves them out.

    Attributes:
        of: Per session, its lines.
        waits: By id: session, run, kind, token_id, deadline_at, status.
        runs: By id: its status.
        names: Of ids.
    """

    def __init__(self, begin: datetime | None) -> None:
        self.begin = begin
        self.of: dict[str, list[Any]] = {}
        self.waits: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def name(self, thing: str, prefix: str) -> None:
        """Give the next of its kind its name; one that has one keeps it."""
        if thing in self.names:
            return
        count = self._counts.get(prefix, 0)
        self._counts[prefix] = count + 1
        self.names[thing] = f"{prefix}{count}"
        self.ids[f"{prefix}{count}"] = thing

    def add(self, entry: Entry | Any) -> None:
        """The next entry of a session."""
        kind, body = str(entry.kind), entry.body
        session, run = entry.session_id, str(entry.run_id)
        if session not in self.of and kind != "session.created":
            return  # of no session
        if kind == "session.created":
            parent = body.get("parent")
            self.name(session, f"{self.names[parent['session_id']]}c" if parent else "s")
        mine = self.names[session]
        if kind == "run.created":
            self.name(run, f"{mine}.r")
            self.runs[run] = "queued"
        if kind == "wait.opened":
            self.name(body["wait_id"], f"{mine}.w")
            about = {name: body.get(name) for name in ("kind", "token_id", "deadline_at")}
            about |= {"session": session, "run": run, "status": "pending"}
            self.waits[body["wait_id"]] = about
        elif kind in ("wait.fulfilled", "wait.timed_out", "wait.cancelled"):
            self.waits[body["wait_id"]]["status"] = kind.removeprefix("wait.")
        if kind == "token.created":
            self.name(body["token_id"], f"{mine}.t")
        if kind == "public_token.created" and entry.op is not None:
            self.name(body["public_token_id"], f"{mine}.p")
        if kind in (
            "run.succeeded",
            "run.failed",
            "run.cancelled",
            "run.blocked",
            "run.retried",
            "run.rewound",
        ):
            self.runs[run] = kind.removeprefix("run.")
        if kind in LEFT_OUT:
            return
        who = principal_of(entry.principal)
        tell = _TOLD.get(kind)
        told = tell(self, body) if tell is not None else []
        named = self.names[run] if entry.run_id is not None else None
        at = self.since(entry.recorded_at) if kind not in OF_CLAIMS else None
        self.of.setdefault(session, []).append((kind, named, entry.op, who, told, at))

    def since(self, moment: datetime | str | None) -> int | None:
        """Milliseconds since the beginning."""
        if moment is None or self.begin is None:
            return None
        at = from_iso(moment) if isinstance(moment, str) else moment
        return round((at - self.begin).total_seconds() * 1000)

    def accepted(self, body: Body) -> list[Any]:
        """A record."""
        wait = body.get("wait_id")
        taken_by = self.names[wait] if wait is not None else None
        shown = (body["stream"], body["stream_seq"], body["data"], body.get("correlation_id"))
        return [*shown, body["outcome"], taken_by]

    def opened(self, body: Body) -> list[Any]:
        """A wait."""
        deadline = body.get("deadline_at") if body["kind"] != "token" else None
        return [body["kind"], body.get("stream"), body.get("correlation_id"), self.since(deadline)]


def principal_of(principal: Any) -> str:
    """Who acted, and for which person."""
    kind = PRINCIPALS.get(principal.type, str(principal.type))
    if kind == "person":
        return f"person {principal.id}"
    person = principal.on_behalf_of
    return kind if person is None else f"{kind} for {person}"


def _fulfilled(lines: Lines, body: Body) -> list[Any]:
    taken = f"{body['stream']}#{body['record_seq']}" if "record_seq" in body else None
    return [taken, *_answered(body), *([body["have"]] if "have" in body else [])]


def _answered(body: Body) -> list[Any]:
    """Who has answered, or why in place of those who may."""
    person = [body["person"]["id"]] if "person" in body else []
    return [*person, *([body["override_reason"]] if "override_reason" in body else [])]


def _voted(lines: Lines, body: Body) -> list[Any]:
    said = [body["data"], body["person"]["id"], body["have"], body["need"]]
    return [*said, list(body["voters"])]


_TOLD: Mapping[str, Callable[[Lines, Body], list[Any]]] = {
    "session.forked": lambda _, body: [body["to_op"], *_answered(body)],
    "session.closed": lambda _, body: [body["end_input"]],
    "note.added": lambda _, body: [body["text"]],
    "run.created": lambda _, body: [body["started_by"]["type"]],
    "run.started": lambda _, body: [body["attempt"]],
    "run.attempt_failed": lambda _, body: [body["error"]["type"], body["next_attempt"]],
    "run.retried": lambda _, body: [body["attempt"]],
    "run.rewound": lambda _, body: [body["attempt"], body["to_op"], *_answered(body)],
    "run.succeeded": lambda _, body: [body["result"]],
    "run.failed": lambda _, body: [body["error"]["type"]],
    "run.blocked": lambda _, body: [body["code"]],
    "step.started": lambda _, body: [body["name"]],
    "step.succeeded": lambda lines, body: [lines.names.get(body["value"], body["value"])],
    "wait.opened": Lines.opened,
    "wait.reminded": lambda _, body: [body["escalation_step"]],
    "wait.assigned": lambda _, body: [
        body.get(one) for one in ("assignee", "from_assignee", "escalation_step")
    ],
    "wait.claimed": lambda lines, body: [lines.since(body[one]) for one in ("at", "until_at")],
    "wait.claim_ended": lambda lines, body: [body["reason"], lines.since(body["at"])],
    "wait.voted": _voted,
    "wait.vote_withdrawn": lambda _, body: [
        body[one] for one in ("person", "reason", "have", "need")
    ],
    "wait.fulfilled": _fulfilled,
    "wait.cancelled": lambda _, body: [body["reason"]],
    "input.accepted": Lines.accepted,
    "output.appended": lambda _, body: [body["stream_seq"], body["data"]],
    "peek.read": lambda _, body: [body["record_seqs"]],
    "history.read": lambda _, body: [body["through_seq"]],
    "public_token.spent": lambda _, body: [body["uses"]],
}
