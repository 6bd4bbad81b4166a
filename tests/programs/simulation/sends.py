"""What always holds of receipts for sends: each speaks of the record that was sent, on its stream (S-26)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from helmr.models import SendReceipt
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import Entry, EntryKind
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.folded import Session
from tests.programs.simulation.tasks import TASKS

CREATED = EntryKind.RUN_CREATED
RUN_FOR_INPUT = {one.id for one in TASKS if one.on_idle_input == "run"}


class Sends:
    """Receipts and refusals of sends, compared with what is stored.

    Args:
        sessions: What is stored, by session.
        counts: Told of what came by.
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(
        self,
        sessions: Mapping[str, Session],
        counts: Counts,
        check: Callable[[bool, str, str], None],
    ) -> None:
        self._sessions = sessions
        self._counts = counts
        self._check = check

    def acknowledged(self, session_id: str, parts: dict[str, Any], receipt: SendReceipt) -> None:
        """The record of the receipt is the one that was sent."""
        stream, request = parts["stream"], parts["request"]
        where = (
            f"{session_id} {stream}: {request} has the receipt of {receipt.stream} {receipt.seq}"
        )
        records = self._records(session_id)
        self._check(receipt.record_id in records, "S-60", f"{where}, which is not there")
        body = records[receipt.record_id].body
        key = request.get("idempotency_key")
        asked = stream, request["data"], key_hash(key) if key is not None else None
        found = body["stream"], body["data"], body.get("key_hash")
        self._check(asked == found, "S-26", where)
        if receipt.duplicate:
            self._counts.reached("key repeated")
            if any(other.body["stream"] != stream for other in self._under(records, asked[2])):
                self._counts.reached("key repeated that another stream has too")

    def conflicts(self, session_id: str, parts: dict[str, Any]) -> None:
        """It was refused for its key: other data is there under that key, on that stream."""
        stream, request = parts["stream"], parts["request"]
        under = self._under(self._records(session_id), key_hash(request["idempotency_key"]))
        others = [one for one in under if one.body["stream"] == stream]
        is_other = any(one.body["data"] != request["data"] for one in others)
        self._check(is_other, "S-26", f"{session_id} {stream}: {request} conflicts with nothing")

    def at_rest(self, session_id: str, session: Session) -> None:
        """Of a task that runs for input, each record that no wait has taken has started a run (S-7)."""
        created = session.entries[0].body.get("task") if session.entries else None
        runs = list(session.runs.values())
        is_idle = bool(runs) and runs[-1].status in ("ended", "failed")
        if created not in RUN_FOR_INPUT or session.status != "open" or not is_idle:
            return
        started = [one.body["started_by"] for one in session.entries if one.kind is CREATED]
        by = {one["id"] for one in started if one["type"] == "record"}
        for record_id, entry in self._records(session_id).items():
            body = entry.body
            is_free = "amends" not in body and (
                (body["stream"], int(body["stream_seq"])) not in session.taken
            )
            if is_free:
                self._counts.reached("record that no run took")
                self._check(record_id in by, "S-7", f"{session_id}: {record_id} started no run")

    def _records(self, session_id: str) -> dict[str, Entry]:
        entries = self._sessions[session_id].entries
        accepted = (one for one in entries if one.kind is EntryKind.INPUT_ACCEPTED)
        return {one.body["record_id"]: one for one in accepted}

    @staticmethod
    def _under(records: Mapping[str, Entry], hashed: str | None) -> list[Entry]:
        return [one for one in records.values() if one.body.get("key_hash") == hashed]
