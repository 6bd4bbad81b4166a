"""What always holds of answer links: one wait, one person, until they end, at most once (S-74)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from helmr_runtime.core.entries import Entry, EntryKind, decided_at, from_iso
from tests.programs.simulation.counts import Counts


@dataclass(slots=True)
class Link:
    """A link, as its entries tell."""

    wait_id: str
    person: str
    expires_at: datetime
    is_revoked: bool = False
    answered: str | None = None
    """The wait that was answered through it."""
    has_ended_a_wait: bool = False


class Links:
    """All links.

    Args:
        counts: Told of what came by.
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(self, counts: Counts, check: Callable[[bool, str, str], None]) -> None:
        self._counts = counts
        self._check = check
        self.by_id: dict[str, Link] = {}

    def entry(self, entry: Entry) -> None:
        """An entry is stored."""
        body = entry.body
        match entry.kind:
            case EntryKind.PUBLIC_TOKEN_CREATED if body["scope"]["type"] == "wait.answer":
                self._check("copied_from" not in body, "S-86", f"{body['public_token_id']}: copied")
                scope, expires_at = body["scope"], from_iso(body["expires_at"])
                link = Link(scope["wait_id"], scope["person"], expires_at)
                self.by_id[body["public_token_id"]] = link
            case EntryKind.PUBLIC_TOKEN_REVOKED if body["public_token_id"] in self.by_id:
                self.by_id[body["public_token_id"]].is_revoked = True
                self._counts.reached("link revoked")
            case EntryKind.INPUT_ACCEPTED | EntryKind.TOKEN_COMPLETED if (
                entry.principal.type == "link" and "copied_from" not in body
            ):
                self._answers(entry)
            case _:
                pass

    def _answers(self, entry: Entry) -> None:
        principal = entry.principal
        link = self.by_id[principal.id or ""]
        where = f"{entry.session_id} {entry.seq} by {principal.id}"
        self._check(not link.is_revoked, "S-46", f"{where}: it was revoked")
        is_live = decided_at(entry) < link.expires_at
        self._check(is_live, "S-46", f"{where}: it ended at {link.expires_at}")
        self._check(link.answered is None, "S-74", f"{where}: it has answered {link.answered}")
        is_hers = principal.on_behalf_of == link.person
        self._check(is_hers, "S-74", f"{where}: for {link.person}, not {principal.on_behalf_of}")
        link.answered = link.wait_id
        self._counts.reached(f"link:{entry.kind.value}")

    def ends(self, entry: Entry) -> None:
        """A wait is fulfilled by what came through a link: it is that link's."""
        principal = entry.principal
        if principal.type != "link" or "copied_from" in entry.body:
            return
        link = self.by_id[principal.id or ""]
        if link.has_ended_a_wait:
            return  # what a rewind gave back is free, and a completed token fulfils later waits too
        link.has_ended_a_wait = True
        what = f"{principal.id} answers {entry.body['wait_id']}, and is for {link.wait_id}"
        self._check(entry.body["wait_id"] == link.wait_id, "S-74", what)
