"""People in the ledger's memory, and what the ledger decides about them. Pure, folded from entries.

Invariants: S-111 (one subject per person, one person per subject), S-115 (a signing key is one person's, and once
revoked no one's), S-117 (a disabled person's keys end in the commit that disables them), S-142 (a flush that carries a
delegation is refused once it has ended).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import BadRequest, Conflict, KeyNotFound, Overloaded, PersonBound
from helmr.wire.people import person_key
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import names_of
from helmr_runtime.core.delegations import DELEGATION_MAX, Delegation
from helmr_runtime.core.entries import Entry, EntryKind, decided_at, iso, voters_of
from helmr_runtime.core.people import (
    DELEGATIONS_EACH_MAX,
    DELEGATIONS_MAX,
    NO_ONE_DISABLED,
    PEOPLE_MAX,
    SIGNING_KEYS_MAX,
    AddSigningKey,
    BindPerson,
    Delegate,
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
        EntryKind.PERSON_DELEGATED,
        EntryKind.PERSON_DELEGATION_ENDED,
    }
)
"""Kinds of entries that change this index."""

OF_DELEGATIONS = (EntryKind.PERSON_DELEGATED, EntryKind.PERSON_DELEGATION_ENDED)
"""Of these those that no row holds: a start reads them again."""


ENDED_KNOWN_FOR = timedelta(days=1)
"""Time for which hosts hear of a delegation that was ended, beyond that until which it would have held."""


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
        self.delegations: dict[str, Delegation] = {}
        """Those that have not ended, by id, oldest first; one whose time is over leaves with the next fact of one."""
        self.ended: dict[str, Delegation] = {}
        """Those that were ended before their time, until a day after it, by id."""

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        assert entry.feed_offset is not None
        body, at = entry.body, entry.recorded_at
        if entry.kind in OF_DELEGATIONS:
            self.apply_delegation(entry)
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
            case EntryKind.PERSON_DELEGATED:
                pass  # the person is known from now on
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
                self.disabled.delegations,
            )

    def apply_delegation(self, entry: Entry) -> None:
        """Fold the making or the end of a delegation."""
        at = entry.recorded_at
        self.delegations = {k: one for k, one in self.delegations.items() if at < one.ends_at}
        self.ended = {k: one for k, one in self.ended.items() if at < one.ends_at + ENDED_KNOWN_FOR}
        if entry.kind is EntryKind.PERSON_DELEGATED:
            made = Delegation.of(entry)
            self.delegations[made.id] = made
        elif (ended := self.delegations.pop(entry.body["delegation_id"], None)) is not None:
            self.ended[ended.id] = replace(ended, ended_at=at)
        self.disabled = replace(self.disabled, delegations=frozenset(self.ended))

    def delegations_of(self, person: str, now: datetime) -> list[Delegation]:
        """Return the delegations that have not ended and name this person, as delegator or as deputy."""
        key = person_key(person)
        return [one for one in self.delegations.values() if now < one.ends_at and key in one.people]

    def refuses(self, entries: Collection[Entry]) -> bool:
        """True if an entry is a disabled person's, is signed by a revoked key, or is by a delegation that has ended."""
        disabled = self.disabled
        if (disabled.people or disabled.keys) and disabled.acts_in(entries):
            return True
        return any("delegation" in one.body and not self._is_by_delegation(one) for one in entries)

    def _is_by_delegation(self, entry: Entry) -> bool:
        """True if the delegation that the entry names holds at the time of the decision, for these two people.

        The time is the entry's, as with deadlines: a flush may come late.
        """
        known = self.delegations.get(entry.body["delegation"]["id"])
        if known is None or not known.holds_at(decided_at(entry)):
            return False
        return known.people == frozenset(voters_of(entry.body))

    def check_delegation(self, command: Delegate, now: datetime) -> None:
        """Return if the delegation may be made.

        Raises:
            BadRequest: It is to the person themselves, by the deputy, or its times are wrong.
            Conflict: One of the two is disabled.
            Overloaded: There are too many delegations or people.
        """
        one = command.delegation
        deputy = person_key(one.deputy)
        if deputy == person_key(one.delegator):
            raise BadRequest(
                f"{one.delegator} can't be their own deputy", hint="Name another person."
            )
        if deputy in names_of(command.principal):
            raise BadRequest(
                f"{one.deputy} can't make themselves a deputy",
                hint=f"{one.delegator} or another admin makes the delegation.",
            )
        if not max(now, one.starts_at) < one.ends_at <= now + DELEGATION_MAX:
            raise BadRequest(
                f"a delegation ends after it begins, at most {DELEGATION_MAX.days} days from now",
                hint="Name another end: --until 14d.",
            )
        for name in (one.delegator, one.deputy):
            if name in self.disabled.people:
                raise Conflict(f"{name} is disabled", hint="Enable them first.")
        self._check_room(one.delegator)
        live = [other for other in self.delegations.values() if now < other.ends_at]
        own = [other for other in live if other.delegator == one.delegator]
        if len(live) >= DELEGATIONS_MAX or len(own) >= DELEGATIONS_EACH_MAX:
            raise Overloaded(
                f"{one.delegator} has {len(own)} delegations, and there are {len(live)}",
                hint="End some: `helmr person undelegate`.",
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
