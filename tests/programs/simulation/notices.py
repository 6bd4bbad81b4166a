"""What always holds of notices: each event told, in order, and none forgotten by a position that is stored (S-84).

A fold of its own over entries and what receivers took; it knows which kinds tell something, and nothing of how an
outbox keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helmr_runtime.core.entries import Entry, EntryKind
from tests.programs.simulation.counts import Counts

OF_WAITS = frozenset(
    {
        EntryKind.WAIT_OPENED,
        EntryKind.WAIT_REMINDED,
        EntryKind.WAIT_ASSIGNED,
        EntryKind.WAIT_FULFILLED,
        EntryKind.WAIT_CANCELLED,
        EntryKind.WAIT_TIMED_OUT,
    }
)
TELLING = OF_WAITS | {EntryKind.RUN_FAILED, EntryKind.RUN_BLOCKED}


@dataclass(slots=True)
class Receiver:
    """What one target has been told.

    Attributes:
        began_after: The feed offset behind which it is told; None before it has begun.
        owed: By feed offset, the session and the seq of what it has not taken.
        newest: By session, the highest seq that it has taken.
        late: The ranges of offsets that the stored position says it was passed by.
    """

    began_after: int | None = None
    owed: dict[int, tuple[str, int]] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    taken: set[tuple[str, int]] = field(default_factory=set)
    late: list[list[int]] = field(default_factory=list)

    def is_passed_by(self, offset: int) -> bool:
        """The stored position names it as late."""
        return any(first <= offset <= last for first, last in self.late)


class Notices:
    """All targets.

    Args:
        names: Of those that are told every event.
        counts: Told of what came by.
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(
        self, names: tuple[str, ...], counts: Counts, check: Callable[[bool, str, str], None]
    ) -> None:
        self._counts = counts
        self._check = check
        self.receivers = {name: Receiver() for name in names}

    def entry(self, entry: Entry, kind_of_wait: str | None) -> None:
        """An entry is stored. `kind_of_wait`: of the wait that it names."""
        if entry.kind is EntryKind.NOTICES_MOVED:
            for name, position in entry.body["positions"].items():
                self._moved(name, position)
            return
        is_asked = entry.kind not in OF_WAITS or kind_of_wait in ("input", "token")
        if entry.kind not in TELLING or not is_asked or "copied_from" in entry.body:
            return
        for receiver in self.receivers.values():
            is_owed = (entry.session_id, entry.seq) not in receiver.taken
            if receiver.began_after is not None and is_owed:
                assert entry.feed_offset is not None
                receiver.owed[entry.feed_offset] = entry.session_id, entry.seq

    def _moved(self, name: str, position: Mapping[str, Any]) -> None:
        receiver = self.receivers.get(name)
        if receiver is None:
            return
        offset = int(position["offset"])
        receiver.late = position["late"]
        if receiver.late:
            self._counts.reached("notice passed by")
        if receiver.began_after is None:
            receiver.began_after = offset
        for owed, (session_id, seq) in receiver.owed.items():
            is_kept = owed > offset or receiver.is_passed_by(owed)
            what = f"{name} is at {offset}: {session_id} {seq} at {owed} was never taken"
            self._check(is_kept, "S-84", what)

    def pruned(self, session_ids: frozenset[str]) -> None:
        """These sessions are gone: nobody can say any more what their events were about."""
        for receiver in self.receivers.values():
            for offset in [o for o, (one, _) in receiver.owed.items() if one in session_ids]:
                del receiver.owed[offset]

    def taken(self, name: str, event_id: str, *, is_late: bool) -> None:
        """A target has it."""
        session_id, _, number = event_id.rpartition("-")
        receiver = self.receivers.get(name)
        if not number.isdecimal():
            self._counts.reached("notice due soon")
        if receiver is None or not number.isdecimal():
            return
        seq = int(number)
        if (session_id, seq) in receiver.taken:
            self._counts.reached("notice repeated")
            return
        receiver.taken.add((session_id, seq))
        if is_late:
            self._counts.reached("notice late")
        else:
            self._in_order(name, receiver, session_id, seq)
        receiver.newest[session_id] = max(seq, receiver.newest.get(session_id, 0))
        for offset, owed in receiver.owed.items():
            if owed == (session_id, seq):
                del receiver.owed[offset]
                break

    def _in_order(self, name: str, receiver: Receiver, session_id: str, seq: int) -> None:
        what = f"{name} gets {session_id} {seq}"
        newest = receiver.newest.get(session_id, 0)
        self._check(seq > newest, "S-84", f"{what} behind {newest}, and not as late")
        for offset, (one, earlier) in receiver.owed.items():
            if one == session_id and earlier < seq:
                is_passed = receiver.is_passed_by(offset)
                self._check(is_passed, "S-84", f"{what} before {earlier}, which was not passed by")

    def behind(self) -> str | None:
        """What a target has not been told; None if there is nothing."""
        for name, receiver in self.receivers.items():
            for offset, (session_id, seq) in receiver.owed.items():
                return f"{name} was not told of {session_id} {seq} at {offset}"
        return None
