"""People in the ledger's memory, and what the ledger decides about them. Pure, folded from entries.

Invariants: S-111 (one subject per person, one person per subject), S-117 (a disabled person's keys end in the commit
that disables them).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from helmr.errors import Overloaded, PersonBound
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, iso
from helmr_runtime.core.people import (
    NO_ONE_DISABLED,
    PEOPLE_MAX,
    BindPerson,
    DisabledPeople,
    Person,
)
from helmr_runtime.ledger.index.views import Json

OF_PEOPLE = frozenset(
    {
        EntryKind.PERSON_BOUND,
        EntryKind.PERSON_UNBOUND,
        EntryKind.PERSON_DISABLED,
        EntryKind.PERSON_ENABLED,
    }
)
"""What changes something here."""


class PeopleIndex:
    """People by id and by what an issuer calls them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Person] = {}
        self.disabled = NO_ONE_DISABLED
        self.touched: set[str] = set()
        self._by_subject: dict[tuple[str, str], str] = {}

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        assert entry.feed_offset is not None
        body, at = entry.body, entry.recorded_at
        person = self.by_id.get(body["person"]) or Person(body["person"], entry.feed_offset, at)
        match entry.kind:
            case EntryKind.PERSON_BOUND:
                person = replace(
                    person, issuer=body["issuer"], subject=body["subject"], bound_at=at
                )
            case EntryKind.PERSON_UNBOUND:
                person = replace(person, issuer=None, subject=None, bound_at=None)
            case EntryKind.PERSON_DISABLED:
                names = jsontext.encode(body["names"])
                reason = body.get("reason")
                person = replace(person, disabled_at=at, names=names, reason=reason)
            case EntryKind.PERSON_ENABLED:
                person = replace(person, disabled_at=None, names="[]", reason=None)
            case _:
                return
        self.touched.add(person.id)
        self.admit(person)

    def admit(self, person: Person) -> None:
        """Take in a person as they are now."""
        before = self.by_id.get(person.id)
        if before is not None and before.issuer is not None and before.subject is not None:
            self._by_subject.pop((before.issuer, before.subject), None)
        self.by_id[person.id] = person
        if person.issuer is not None and person.subject is not None:
            self._by_subject[person.issuer, person.subject] = person.id
        is_changed = (before is not None and before.disabled_at is not None) or person.disabled_at
        if is_changed:
            disabled = [one for one in self.by_id.values() if one.disabled_at is not None]
            self.disabled = DisabledPeople(
                frozenset(one.id for one in disabled),
                frozenset(name for one in disabled for name in jsontext.decode(one.names)),
            )

    def check_binding(self, command: BindPerson) -> bool:
        """Whether the binding is new.

        Raises:
            PersonBound: The person is another subject's, or the subject another person's.
            Overloaded: There are too many people.
        """
        person = self.by_id.get(command.person)
        other = self._by_subject.get((command.issuer, command.subject))
        if other is not None and other != command.person:
            raise PersonBound(
                f"this account signs in as {other}, not as {command.person}",
                hint=f"An admin runs `helmr person unbind {other}` if that is another person now.",
                person=other,
            )
        if person is not None and person.subject is not None:
            if (person.issuer, person.subject) == (command.issuer, command.subject):
                return False
            raise PersonBound(
                f"{command.person} is bound to another account of the issuer",
                hint=f"An admin runs `helmr person unbind {command.person}` if it is the same human.",
                person=command.person,
            )
        if person is None and len(self.by_id) >= PEOPLE_MAX:
            raise Overloaded(f"there are {PEOPLE_MAX} people", hint="That is the limit.")
        return True


def person_json(person: Person) -> Json:
    """What the ledger knows of a person; a part of a `PersonInfo`."""
    return {
        "id": person.id,
        "issuer": person.issuer,
        "subject": person.subject,
        "bound_at": _iso(person.bound_at),
        "disabled_at": _iso(person.disabled_at),
        "reason": person.reason,
    }


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None
