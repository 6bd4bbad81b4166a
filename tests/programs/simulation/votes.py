"""What always holds of people and their votes: only who may answers, one vote each, and none of who is disabled.

The entries are counted again from what people have said, whatever the runtime counted (S-112, S-113, S-117).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helmr_runtime.core.entries import Entry, EntryKind
from tests.programs.simulation.counts import Counts


@dataclass(slots=True)
class Asked:
    """A wait that says who may answer, as its entries tell.

    Attributes:
        standing: By person, what they stand for, and at which place of the feed they said so.
    """

    answerers: frozenset[str]
    not_by: frozenset[str]
    approvals: int
    refusals: list[Any]
    comments: frozenset[str]
    standing: dict[str, tuple[Any, int]] = field(default_factory=dict)
    is_open: bool = True

    def proposal(self, data: Mapping[str, Any]) -> Any:
        """What of an answer people must say alike."""
        return {name: value for name, value in data.items() if name not in self.comments}

    def keep(self, voters: Mapping[str, int]) -> None:
        """Nobody else's vote stands any more: theirs are of the disabled."""
        self.standing = {one: said for one, said in self.standing.items() if one in voters}

    def admits(self, person: str, groups: list[str]) -> bool:
        """Whether they may answer."""
        keys = {person, *(f"group:{one}" for one in groups)}
        return not keys & self.not_by and (not self.answerers or bool(keys & self.answerers))

    def count(self, data: Mapping[str, Any], person: str, out: frozenset[str]) -> int:
        """How many stand for this with that person; whoever is out does not."""
        said = self.proposal(data)
        others = [what for one, (what, _) in self.standing.items() if one not in {person, *out}]
        return 1 + others.count(said)


class Votes:
    """All such waits, and who is disabled.

    Args:
        counts: Told of what came by.
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(self, counts: Counts, check: Callable[[bool, str, str], None]) -> None:
        self._counts = counts
        self._check = check
        self.asked: dict[str, Asked] = {}
        self.disabled: set[str] = set()
        self._said: dict[str, Any] = {}
        """By record, its data, until its wait has ended."""

    def entry(self, entry: Entry) -> None:
        """An entry is stored."""
        body, where = entry.body, f"{entry.session_id} {entry.seq} {entry.kind.value}"
        by = entry.principal
        if by.type == "person" and "operation" in body:
            self._check(by.id not in self.disabled, "S-117", f"{where}: {by.id} is disabled")
        match entry.kind:
            case EntryKind.PERSON_DISABLED:
                self.disabled.add(body["person"])
            case EntryKind.PERSON_ENABLED:
                self.disabled.discard(body["person"])
            case EntryKind.WAIT_OPENED if _says_who(body):
                self.asked[body["wait_id"]] = Asked(
                    answerers=frozenset(body.get("answerers", ())),
                    not_by=frozenset(body.get("not_by", ())),
                    approvals=body.get("approvals", 1),
                    refusals=body.get("refusals", []),
                    comments=frozenset(body.get("comments", ())),
                )
            case EntryKind.INPUT_ACCEPTED if body.get("wait_id") in self.asked:
                self._said[body["record_id"]] = body["data"]
            case EntryKind.WAIT_VOTED | EntryKind.WAIT_VOTE_WITHDRAWN | EntryKind.WAIT_FULFILLED:
                asked = self.asked.get(body["wait_id"])
                if asked is not None:
                    self._of_wait(asked, entry, where)
            case EntryKind.WAIT_TIMED_OUT | EntryKind.WAIT_CANCELLED:
                if (asked := self.asked.get(body["wait_id"])) is not None:
                    asked.is_open = False
            case _:
                pass

    def _of_wait(self, asked: Asked, entry: Entry, where: str) -> None:
        body, is_copy = entry.body, "copied_from" in entry.body
        match entry.kind:
            case EntryKind.WAIT_VOTE_WITHDRAWN:
                known = asked.standing.pop(body["person"], None)
                self._check(is_copy or known is not None, "S-113", f"{where}: there was none")
                asked.keep(body["voters"])
            case EntryKind.WAIT_VOTED:
                person = self._answerer(asked, entry, where)
                if is_copy:  # those count who did then, whoever is disabled now
                    asked.keep(body["voters"])
                out = frozenset() if is_copy else frozenset(self.disabled)
                most = asked.count(body["data"], person, frozenset())
                least = asked.count(body["data"], person, out)
                # A host may not have heard yet who is disabled.
                is_so = least <= body["have"] <= most
                self._check(is_so, "S-113", f"{where}: {least} to {most} stand for it")
                is_few = least < asked.approvals and not _declines(asked, body["data"])
                self._check(is_few, "S-113", f"{where}: it should have ended the wait")
                asked.keep(body["voters"])
                asked.standing[person] = asked.proposal(body["data"]), entry.feed_offset or 0
            case _:
                asked.is_open = False
                if not is_copy and "kept_from" not in body:
                    self._ended(asked, entry, where)

    def _ended(self, asked: Asked, entry: Entry, where: str) -> None:
        body = entry.body
        if body.get("mode") == "default" or "override_reason" in body:
            self._counts.reached("ended without those who may")
            return
        person, data = self._answerer(asked, entry, where), self._said.pop(body["record_id"])
        if asked.approvals == 1 or _declines(asked, data):
            self._counts.reached("one person was enough")
            return
        have = asked.count(data, person, frozenset(self.disabled))
        self._check(have >= asked.approvals, "S-113", f"{where}: {have} of {asked.approvals}")
        self._counts.reached(f"agreed:{asked.approvals}")

    def _answerer(self, asked: Asked, entry: Entry, where: str) -> str:
        """Who has answered; they may."""
        said = entry.body.get("person", {})
        person = str(said.get("id"))
        is_proven = entry.principal.type == "person" and entry.principal.id == person
        self._check(is_proven, "S-112", f"{where}: {entry.principal.type} is no {person}")
        is_admitted = asked.admits(person, said.get("groups", []))
        self._check(is_admitted, "S-112", f"{where}: {person} may not answer it")
        return person

    def voters(self) -> list[str]:
        """Who has a vote that stands."""
        pending = (one for one in self.asked.values() if one.is_open)
        return sorted({person for one in pending for person in one.standing})

    def given_back(self, person: str, offset: int) -> None:
        """A client was told that they are disabled since that place: what they said before stands nowhere any more."""
        for wait_id, asked in self.asked.items():
            said_at = asked.standing.get(person, (None, offset))[1]
            stays = asked.is_open and said_at < offset
            self._check(not stays, "S-117", f"{wait_id}: the vote of {person} still stands")


def _says_who(body: Mapping[str, Any]) -> bool:
    return any(name in body for name in ("answerers", "not_by", "approvals", "refusals"))


def _declines(asked: Asked, data: Mapping[str, Any]) -> bool:
    return data.get("decision") in asked.refusals
