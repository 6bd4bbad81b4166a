"""People: who is bound to which sign-in, and who may act no more (S-111, S-117). Pure.

A person's id is the name of their table `[people.NAME]`, else their verified e-mail in lower case. What an issuer
calls them is bound to the id at their first sign-in; another subject with the same e-mail is refused until an admin
unbinds the first. Facts of the system stream:

```
person.bound      person issuer subject operation?
person.unbound    person operation?
person.disabled   person names[] reason? operation?       names: by which tasks, links and others may call them
person.enabled    person operation?
person.key_added      person fingerprint key comment? operation?    a key that signs answers (S-115)
person.key_revoked    person fingerprint reason? operation?         it signs no more
```

With `person.disabled` the ledger writes the end of each API key of theirs in one commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from helmr.errors import BadSignature, PersonDisabled
from helmr.people import person_key
from helmr_runtime.core.commands import AnswerWait, SessionCommand
from helmr_runtime.core.entries import LINK, PERSON, Entry, EntryKind, Principal
from helmr_runtime.core.nouns import CHANGES, NounColumn

PEOPLE_MAX = 100_000
"""People that have signed in or were disabled, all in the ledger's memory."""

SIGNING_KEYS_MAX = 50
"""Of a person, revoked ones too: they say until when they were good."""


@dataclass(frozen=True, slots=True)
class Person:
    """What the ledger knows of a person."""

    id: Annotated[str, NounColumn("person", is_key=True)]
    created_offset: int
    created_at: datetime
    issuer: Annotated[str | None, CHANGES] = None
    subject: Annotated[str | None, CHANGES] = None
    bound_at: Annotated[datetime | None, CHANGES] = None
    disabled_at: Annotated[datetime | None, CHANGES] = None
    names: Annotated[str, NounColumn(is_json=True, changes=True)] = "[]"
    """Of a disabled person, JSON."""
    reason: Annotated[str | None, CHANGES] = None
    signing_keys: Annotated[str, NounColumn(is_json=True, changes=True)] = "[]"
    """JSON, `{fingerprint, key, comment, added_at, revoked_at}` each, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindPerson(SessionCommand):
    """They have signed in as this subject. Receipt: `{person}`. Again with the same subject it changes nothing."""

    person: str
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindPerson(SessionCommand):
    """The next sign-in with their e-mail binds them. Idempotent. Receipt: `{person}`."""

    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisablePerson(SessionCommand):
    """They may act no more (S-117). Idempotent. Receipt: `{person}`."""

    person: str
    names: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnablePerson(SessionCommand):
    """They may act again; what disabling has ended stays ended. Idempotent. Receipt: `{person}`."""

    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSigningKey(SessionCommand):
    """This key signs their answers (S-115). A key that is theirs already changes nothing. Receipt: `{person}`.

    `key` is `TYPE BASE64`, as OpenSSH writes public keys.
    """

    person: str
    fingerprint: str
    key: str
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSigningKey(SessionCommand):
    """The key signs nothing from now on. Idempotent. Receipt: `{person}`."""

    person: str
    fingerprint: str
    reason: str | None = None


PersonCommand = (
    BindPerson | UnbindPerson | DisablePerson | EnablePerson | AddSigningKey | RevokeSigningKey
)


@dataclass(frozen=True, slots=True)
class DisabledPeople:
    """Who may act no more, and with which keys no one signs.

    Attributes:
        people: Their ids.
        names: By which answer links may name them.
        keys: Fingerprints of signing keys that were revoked, of all people.
    """

    people: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()

    def has(self, principal: Principal) -> bool:
        """That one is a disabled person, or a link of theirs."""
        if principal.type == PERSON:
            return principal.id in self.people
        return principal.type == LINK and principal.on_behalf_of in self.names

    def check(self, principal: Principal) -> None:
        """Return if that one may act.

        Raises:
            PersonDisabled: They may not.
        """
        if self.has(principal):
            raise PersonDisabled(
                f"{principal.person} is disabled",
                hint="Nothing was stored.",
                person=principal.person,
            )

    def check_command(self, command: SessionCommand) -> None:
        """Return if who asks may act, and the key that has signed what they ask was not revoked.

        Raises:
            PersonDisabled: They may not.
            BadSignature: It was.
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
        """Whether an entry is of a command of theirs, signed with such a key, or ends a wait with a vote of theirs.

        What only comes later of something they did before (a claim that is written with the next entry, the delivery of
        a completed token) carries no operation, and stays.
        """
        return any(
            ("operation" in entry.body and self.has(entry.principal))
            or entry.body.get("signature", NO_SIGNATURE).get("key") in self.keys
            or self._have_agreed(entry)
            for entry in entries
        )

    def _have_agreed(self, entry: Entry) -> bool:
        """A wait ends, and a vote of theirs may have counted for it (S-113)."""
        is_end = entry.kind is EntryKind.WAIT_FULFILLED
        return is_end and bool(self.voters.intersection(entry.body.get("voters", ())))

    @property
    def voters(self) -> frozenset[str]:
        """Their ids as votes have them."""
        return frozenset(map(person_key, self.people))


NO_ONE_DISABLED = DisabledPeople()
NO_SIGNATURE: Mapping[str, str] = {}


def person_principal(person: str, via: str) -> Principal:
    """A proven person.

    Args:
        person: Their id.
        via: What proved it: the id of an API key, `issuer#subject`, or `proxy`.
    """
    return Principal(PERSON, person, via=via)


def bound_body(command: BindPerson) -> dict[str, Any]:
    """Of `person.bound`."""
    return {"person": command.person, "issuer": command.issuer, "subject": command.subject}


def disabled_body(command: DisablePerson) -> dict[str, Any]:
    """Of `person.disabled`."""
    body: dict[str, Any] = {"person": command.person, "names": list(command.names)}
    return body if command.reason is None else {**body, "reason": command.reason}


def key_added_body(command: AddSigningKey) -> dict[str, Any]:
    """Of `person.key_added`."""
    body = {"person": command.person, "fingerprint": command.fingerprint, "key": command.key}
    return body if command.comment is None else {**body, "comment": command.comment}


def key_revoked_body(command: RevokeSigningKey) -> dict[str, Any]:
    """Of `person.key_revoked`."""
    body = {"person": command.person, "fingerprint": command.fingerprint}
    return body if command.reason is None else {**body, "reason": command.reason}
