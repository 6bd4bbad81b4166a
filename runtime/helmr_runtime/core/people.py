"""People: their sign-ins, their signing keys, and the people who are disabled (S-111, S-117). Pure.

A person's id is the name of their table `[people.NAME]`, else their verified e-mail in lower case. Their first sign-in
binds the issuer's subject to the id; another subject with the same e-mail is refused until an admin unbinds the first.
Facts of the system stream:

```
person.bound      person issuer subject operation?
person.unbound    person operation?
person.disabled   person names[] reason? operation?       names: by which tasks, links and others may call them
person.enabled    person operation?
person.key_added      person fingerprint key comment? operation?    a key that signs answers (S-115)
person.key_revoked    person fingerprint reason? operation?         it signs no more
person.delegated, person.delegation_ended    see `core/delegations.py` (S-142)
```

In the commit of a `person.disabled` the ledger also revokes each of their API keys, and ends the delegations that name
them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from helmr.errors import BadSignature, PersonDisabled
from helmr.wire.people import person_key
from helmr_runtime.core.commands import AnswerWait, SessionCommand
from helmr_runtime.core.delegations import Delegation
from helmr_runtime.core.entries import LINK, PERSON, Entry, EntryKind, Principal
from helmr_runtime.core.nouns import CHANGES, NounColumn

PEOPLE_MAX = 100_000
"""People who have signed in or were disabled; the ledger keeps all in memory."""

DELEGATIONS_MAX = 10_000
"""Delegations that have not ended; the ledger keeps all in memory."""

DELEGATIONS_EACH_MAX = 50
"""Delegations of one person that have not ended."""

SIGNING_KEYS_MAX = 50
"""Signing keys of one person, including revoked ones, which record until when they were valid."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the ledger knows them."""

    id: Annotated[str, NounColumn("person", is_key=True)]
    created_offset: int
    created_at: datetime
    issuer: Annotated[str | None, CHANGES] = None
    subject: Annotated[str | None, CHANGES] = None
    bound_at: Annotated[datetime | None, CHANGES] = None
    disabled_at: Annotated[datetime | None, CHANGES] = None
    names: Annotated[str, NounColumn(is_json=True, changes=True)] = "[]"
    """A disabled person's other names, JSON."""
    reason: Annotated[str | None, CHANGES] = None
    signing_keys: Annotated[str, NounColumn(is_json=True, changes=True)] = "[]"
    """JSON, `{fingerprint, key, comment, added_at, revoked_at}` each, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindPerson(SessionCommand):
    """Bind a person to the subject they signed in as. Repeating it changes nothing. Receipt: `{person}`."""

    person: str
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindPerson(SessionCommand):
    """Unbind a person; the next sign-in with their e-mail binds them. Idempotent. Receipt: `{person}`."""

    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisablePerson(SessionCommand):
    """Disable a person (S-117). Idempotent. Receipt: `{person}`."""

    person: str
    names: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnablePerson(SessionCommand):
    """Enable a person again; whatever disabling ended stays ended. Idempotent. Receipt: `{person}`."""

    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSigningKey(SessionCommand):
    """Add a key that signs a person's answers (S-115). Adding it twice changes nothing. Receipt: `{person}`.

    `key` is `TYPE BASE64`, as OpenSSH writes public keys.
    """

    person: str
    fingerprint: str
    key: str
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSigningKey(SessionCommand):
    """Revoke a signing key. Idempotent. Receipt: `{person}`."""

    person: str
    fingerprint: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate(SessionCommand):
    """Make a person another's deputy for a while (S-142). Receipt: `{delegation_id}`."""

    delegation: Delegation


@dataclass(frozen=True, slots=True, kw_only=True)
class EndDelegation(SessionCommand):
    """End a delegation before its time. Idempotent. Receipt: `{delegation_id}`."""

    delegation_id: str


PersonCommand = (
    BindPerson
    | UnbindPerson
    | DisablePerson
    | EnablePerson
    | AddSigningKey
    | RevokeSigningKey
    | Delegate
    | EndDelegation
)


@dataclass(frozen=True, slots=True)
class DisabledPeople:
    """Disabled people, signing keys that were revoked, and delegations that were ended.

    Attributes:
        people: Their ids.
        names: Names by which answer links may refer to them.
        keys: Fingerprints of signing keys that were revoked, of all people.
        delegations: Ids of delegations that were ended before their time.
    """

    people: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    delegations: frozenset[str] = frozenset()

    def has(self, principal: Principal) -> bool:
        """True for a disabled person or a link of theirs, and for the deputy of one (S-142)."""
        if principal.type == PERSON:
            return principal.id in self.people or principal.on_behalf_of in self.people
        return principal.type == LINK and principal.on_behalf_of in self.names

    def concern(self, command: SessionCommand) -> bool:
        """True if the command is by a disabled person or may be for one: they may be enabled again by now."""
        deputies = command.deputies if isinstance(command, AnswerWait) else ()
        delegators = {one.delegation.delegator for one in deputies}
        return self.has(command.principal) or not delegators.isdisjoint(self.people)

    def check(self, principal: Principal) -> None:
        """Return if the principal may act.

        Raises:
            PersonDisabled: The person is disabled.
        """
        if self.has(principal):
            raise PersonDisabled(
                f"{principal.person} is disabled",
                hint="Nothing was stored.",
                person=principal.person,
            )

    def check_command(self, command: SessionCommand) -> None:
        """Return if the command's person may act and its signing key is not revoked.

        Raises:
            PersonDisabled: The person is disabled.
            BadSignature: The key is revoked.
        """
        self.check(command.principal)
        signature = command.signature if isinstance(command, AnswerWait) else None
        if signature is not None and signature.key in self.keys:
            raise BadSignature(
                f"the key {signature.key} was revoked",
                hint="Nothing was stored. Sign with another key.",
                key=signature.key,
            )

    def acts_in(self, entries: Collection[Entry]) -> bool:
        """True if an entry is their command, is signed with a revoked key, or ends a wait with their vote.

        Late effects of earlier acts (a claim written with the next entry, the delivery of a completed token) carry no
        operation and are allowed.
        """
        return any(
            ("operation" in entry.body and self.has(entry.principal))
            or entry.body.get("signature", NO_SIGNATURE).get("key") in self.keys
            or self._have_agreed(entry)
            for entry in entries
        )

    def _have_agreed(self, entry: Entry) -> bool:
        """True if the entry ends a wait and a vote of theirs may have counted (S-113)."""
        is_end = entry.kind is EntryKind.WAIT_FULFILLED
        return is_end and bool(self.voters.intersection(entry.body.get("voters", ())))

    @property
    def voters(self) -> frozenset[str]:
        """Their ids in the form that votes use."""
        return frozenset(map(person_key, self.people))


NO_ONE_DISABLED = DisabledPeople()
NO_SIGNATURE: Mapping[str, str] = {}


def person_principal(person: str, via: str) -> Principal:
    """Return the principal of a proven person.

    Args:
        person: Their id.
        via: The proof: the id of an API key, `issuer#subject`, or `proxy`.
    """
    return Principal(PERSON, person, via=via)


def bound_body(command: BindPerson) -> dict[str, Any]:
    """Return the body of a `person.bound`."""
    return {"person": command.person, "issuer": command.issuer, "subject": command.subject}


def disabled_body(command: DisablePerson) -> dict[str, Any]:
    """Return the body of a `person.disabled`."""
    body: dict[str, Any] = {"person": command.person, "names": list(command.names)}
    return body if command.reason is None else {**body, "reason": command.reason}


def key_added_body(command: AddSigningKey) -> dict[str, Any]:
    """Return the body of a `person.key_added`."""
    body = {"person": command.person, "fingerprint": command.fingerprint, "key": command.key}
    return body if command.comment is None else {**body, "comment": command.comment}


def key_revoked_body(command: RevokeSigningKey) -> dict[str, Any]:
    """Return the body of a `person.key_revoked`."""
    body = {"person": command.person, "fingerprint": command.fingerprint}
    return body if command.reason is None else {**body, "reason": command.reason}
