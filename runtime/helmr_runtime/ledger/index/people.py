"""People in the ledger's memory, and what the ledger decides about them. Pure, folded from entries.

Invariants: S-111 (one subject per person, one person per subject), S-115 (a signing key is one person's, and once
revoked no one's), S-117 (a disabled person's keys end in the commit that disables them).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from helmr.errors import Conflict, KeyNotFound, Overloaded, PersonBound
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, iso
from helmr_runtime.core.people import (
    NO_ONE_DISABLED,
    PEOPLE_MAX,
    SIGNING_KEYS_MAX,
    AddSigningKey,
    BindPerson,
    DisabledPeople,
    Person,
    RevokeSigningKey,
)
from helmr_runtime.ledger.index.views import Json

OF_PEOPLE = frozenset(
    {
        EntryKind.PERSON_BOUND,
        EntryKind.PERSON_UNBOUND,
        EntryKind.PERSON_DISABLED,
        EntryKind.PERSON_ENABLED,
        EntryKind.PERSON_KEY_ADDED,
        EntryKind.PERSON_KEY_REVOKED,
    }
)
"""Kinds of entries that change this index."""


class PeopleIndex:
    """People by id and by what an issuer calls them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Person] = {}
        self.disabled = NO_ONE_DISABLED
        self.touched: set[str] = set()
        self.enabled_at: dict[str, datetime] = {}
        """Time of the last re-enabling, by person."""
        self._by_subject: dict[tuple[str, str], str] = {}
        self._signers: dict[str, str] = {}
        """By the fingerprint of a signing key whose it is or was."""

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
                self.enabled_at[person.id] = at
            case EntryKind.PERSON_KEY_ADDED:
                added = {name: body.get(name) for name in ("fingerprint", "key", "comment")}
                keys = [*signing_keys(person), {**added, "added_at": iso(at), "revoked_at": None}]
                person = replace(person, signing_keys=jsontext.encode(keys))
            case EntryKind.PERSON_KEY_REVOKED:
                keys = [
                    {**key, "revoked_at": iso(at)}
                    if key["fingerprint"] == body["fingerprint"]
                    else key
                    for key in signing_keys(person)
                ]
                person = replace(person, signing_keys=jsontext.encode(keys))
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
        keys = signing_keys(person)
        self._signers.update((key["fingerprint"], person.id) for key in keys)
        revoked = {key["fingerprint"] for key in keys if key["revoked_at"] is not None}
        was_disabled = before is not None and before.disabled_at is not None
        if was_disabled or person.disabled_at is not None or not revoked <= self.disabled.keys:
            disabled = [one for one in self.by_id.values() if one.disabled_at is not None]
            self.disabled = DisabledPeople(
                frozenset(one.id for one in disabled),
                frozenset(name for one in disabled for name in jsontext.decode(one.names)),
                self.disabled.keys | revoked,
            )

    def check_binding(self, command: BindPerson) -> bool:
        """Check a binding; True if it is new.

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
        self._check_room(command.person)
        return True

    def check_new_key(self, command: AddSigningKey) -> bool:
        """Check a signing key; True if it is new.

        Raises:
            Conflict: It is another person's, or was revoked.
            Overloaded: There are too many people, or keys of this one.
        """
        whose = self._signers.get(command.fingerprint)
        if whose is not None and whose != command.person:
            raise Conflict(
                f"{command.fingerprint} is a key of {whose}", hint="Each key is one person's."
            )
        if command.fingerprint in self.disabled.keys:
            raise Conflict(f"{command.fingerprint} was revoked", hint="Make a new key.")
        if whose is not None:
            return False
        if command.person in self.disabled.people:
            raise Conflict(f"{command.person} is disabled", hint="Enable them first.")
        self._check_room(command.person)
        known = self.by_id.get(command.person)
        if known is not None and len(signing_keys(known)) >= SIGNING_KEYS_MAX:
            raise Overloaded(
                f"{command.person} has had {SIGNING_KEYS_MAX} keys", hint="That is the limit."
            )
        return True

    def check_revocation(self, command: RevokeSigningKey) -> bool:
        """Check the revocation of a key; True if the key is still valid.

        Raises:
            KeyNotFound: The person has no such key.
        """
        if self._signers.get(command.fingerprint) != command.person:
            raise KeyNotFound(f"{command.person} has no key {command.fingerprint[:80]}")
        return command.fingerprint not in self.disabled.keys

    def _check_room(self, person: str) -> None:
        if person not in self.by_id and len(self.by_id) >= PEOPLE_MAX:
            raise Overloaded(f"there are {PEOPLE_MAX} people", hint="That is the limit.")


def signing_keys(person: Person) -> list[dict[str, Any]]:
    """The keys that sign or have signed their answers, the oldest first."""
    found: list[dict[str, Any]] = jsontext.decode(person.signing_keys)
    return found


def person_json(person: Person, enabled_at: datetime | None = None) -> Json:
    """Return a person's facts in the ledger: fields of `PersonInfo`, and `enabled_at`."""
    return {
        "id": person.id,
        "issuer": person.issuer,
        "subject": person.subject,
        "bound_at": _iso(person.bound_at),
        "disabled_at": _iso(person.disabled_at),
        "enabled_at": _iso(enabled_at),
        "reason": person.reason,
        "signing_keys": signing_keys(person),
    }


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None
