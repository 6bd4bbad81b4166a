"""Delegations: a deputy answers for a person who is away (S-142). Pure.

A delegation says whose deputy a person is, until when, and for which tasks, streams and tags. It never widens who may
answer: the delegator must be one whom the wait admits, and neither of the two may be excluded or disabled. Delegations
are facts of the system stream:

```
person.delegated    delegation_id person deputy starts_at ends_at tasks[]? streams[]? tags[]? groups[]? reason?
                    operation?    person: the delegator; groups: theirs, as the issuer said them when they made it
person.delegation_ended    delegation_id person deputy reason: ended|disabled operation?    before its time
```

The entry of an answer or vote by a deputy holds the delegation, and its principal names both people: the deputy, and
the delegator as `on_behalf_of`.

```
delegation{id delegator deputy starts_at ends_at tasks[]? streams[]? tags[]? made_by{} made_at reason? names[]?
           groups[]?}
```

`names` and `groups` are the delegator's, those groups alone that the wait names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import GroupsUnknown, HelmrError, NotAnAnswerer
from helmr.wire.people import person_key
from helmr_runtime.core.answerers import Answerers, Identity
from helmr_runtime.core.entries import PERSON, Entry, Principal, from_iso, iso

DELEGATION_MAX = timedelta(days=90)
"""A delegation ends at most that long after it is made."""

PROVEN_GROUPS_FOR = timedelta(days=14)
"""Time for which the groups of a delegator count that their issuer said when they made the delegation."""

SCOPE = ("tasks", "streams", "tags")
"""Fields that narrow a delegation; one that is empty narrows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWait:
    """The facts of a wait that delegations are compared with; `tags` are its own and its session's."""

    id: str
    task: str
    stream: str | None
    tags: frozenset[str] = frozenset()

    @classmethod
    def of(cls, task: str, opened: Mapping[str, Any]) -> AskedWait:
        """Read them from the body of a `wait.opened`, in a session of that task."""
        tags = frozenset((*opened.get("tags", ()), *opened.get("session_tags", ())))
        return cls(id=opened["wait_id"], task=task, stream=opened.get("stream"), tags=tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """A person's word, or an admin's, that another answers for them.

    Attributes:
        delegator, deputy: Ids of the two people.
        starts_at, ends_at: It holds from the first until just before the second.
        made_by, made_at: The maker, and the time.
        tasks, streams, tags: Waits that it is for; of each that is not empty, one must match.
        reason: The maker's reason; an admin gives one.
        groups: The delegator's groups, as their issuer said them when they made it; None if it says none.
        ended_at: The time at which it was ended before its time.
    """

    id: str
    delegator: str
    deputy: str
    starts_at: datetime
    ends_at: datetime
    made_by: Principal
    made_at: datetime
    tasks: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    reason: str | None = None
    groups: tuple[str, ...] | None = None
    ended_at: datetime | None = None

    @classmethod
    def of(cls, entry: Entry) -> Delegation:
        """Read it from its `person.delegated`."""
        body = entry.body
        groups = body.get("groups")
        return cls(
            id=body["delegation_id"],
            delegator=body["person"],
            deputy=body["deputy"],
            starts_at=from_iso(body["starts_at"]),
            ends_at=from_iso(body["ends_at"]),
            made_by=entry.principal,
            made_at=entry.recorded_at,
            reason=body.get("reason"),
            groups=tuple(groups) if groups is not None else None,
            tasks=tuple(body.get("tasks", ())),
            streams=tuple(body.get("streams", ())),
            tags=tuple(body.get("tags", ())),
        )

    @property
    def people(self) -> frozenset[str]:
        """The two people, in the form that votes use."""
        return frozenset((person_key(self.delegator), person_key(self.deputy)))

    def holds_at(self, now: datetime) -> bool:
        """It has begun and not ended, as far as its times say."""
        return self.starts_at <= now < self.ends_at

    def covers(self, wait: AskedWait) -> bool:
        """It is for such a wait."""
        return (
            (not self.tasks or wait.task in self.tasks)
            and (not self.streams or wait.stream in self.streams)
            and (not self.tags or not wait.tags.isdisjoint(self.tags))
        )

    @property
    def scope(self) -> dict[str, list[str]]:
        """The fields that narrow it, by name."""
        return {name: list(value) for name in SCOPE if (value := getattr(self, name))}

    @property
    def body(self) -> dict[str, Any]:
        """The body of its `person.delegated`."""
        said: dict[str, Any] = {
            "delegation_id": self.id,
            "person": self.delegator,
            "deputy": self.deputy,
            "starts_at": iso(self.starts_at),
            "ends_at": iso(self.ends_at),
            **self.scope,
        }
        if self.groups is not None:
            said["groups"] = list(self.groups)
        return said if self.reason is None else {**said, "reason": self.reason}

    def ended_body(self, reason: str) -> dict[str, Any]:
        """The body of its `person.delegation_ended`.

        Args:
            reason: ended, by a person; disabled, because one of the two may act no more.
        """
        return {
            "delegation_id": self.id,
            "person": self.delegator,
            "deputy": self.deputy,
            "reason": reason,
        }

    def to_json(self) -> dict[str, Any]:
        """A `DelegationInfo`."""
        said: dict[str, Any] = {
            "id": self.id,
            "delegator": self.delegator,
            "deputy": self.deputy,
            "starts_at": iso(self.starts_at),
            "ends_at": iso(self.ends_at),
            **self.scope,
            "made_by": self.made_by.to_json(),
            "made_at": iso(self.made_at),
        }
        ended_at = iso(self.ended_at) if self.ended_at is not None else None
        optional = {"reason": self.reason, "ended_at": ended_at}
        return said | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deputy:
    """A delegation to a person, with what the gateway knows of its delegator.

    Attributes:
        names: The delegator's other names, such as a verified e-mail.
        file_groups: The delegator's groups in the configuration.
        claims_groups: People are in groups that their issuer alone knows.
    """

    delegation: Delegation
    names: tuple[str, ...] = ()
    file_groups: tuple[str, ...] = ()
    claims_groups: bool = False

    def delegator(self, now: datetime) -> Identity:
        """The delegator: their groups are the configuration's, and those proven when they made it, for 14 days."""
        known = self.delegation
        proven = known.groups
        person = Identity(
            id=known.delegator,
            names=self.names,
            groups=self.file_groups,
            file_groups=self.file_groups,
        )
        if not self.claims_groups:
            return person
        if proven is None:
            why = "they have not proven any when the delegation was made"
            return replace(person, groups=None, groups_why=why)
        if now >= known.made_at + PROVEN_GROUPS_FOR:
            why = (
                f"those proven when the delegation was made count for {PROVEN_GROUPS_FOR.days} days"
            )
            return replace(person, groups=None, groups_why=why)
        return replace(person, groups=tuple(dict.fromkeys((*self.file_groups, *proven))))

    def filter(self, deputy: Identity, now: datetime) -> DeputyFilter:
        """Return what finds the waits that the deputy may answer by it."""
        one, delegator = self.delegation, self.delegator(now)
        return DeputyFilter(
            delegator=tuple(sorted(delegator.keys)),
            both=tuple(sorted(delegator.keys | deputy.keys)),
            people=tuple(sorted(one.people)),
            tasks=one.tasks,
            streams=one.streams,
            tags=one.tags,
        )

    def recorded(self, named: Iterable[str], now: datetime) -> dict[str, Any]:
        """Return the delegation as the answer's entry holds it, with those groups that are among `named`."""
        person = self.delegator(now).recorded(named, now)
        said = {name: value for name, value in person.items() if name != "id"}
        return {**self.delegation.to_json(), **said}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeputyFilter:
    """What a list of waits needs of a delegation: names and groups of the two people, and the delegation's scope.

    Attributes:
        delegator: Names and groups by which lists may name the delegator.
        both: Those of both people.
        people: The ids of both, in the form that votes use.
    """

    delegator: tuple[str, ...]
    both: tuple[str, ...]
    people: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingPerson:
    """A person who answers a wait now, and the delegations that they may do it by.

    Attributes:
        who: The wait's rule.
        wait: Its facts.
        identity: The person.
        principal: The person as the answer's principal.
        deputies: The delegations to this person.
        now: The time.
        disabled: Ids of disabled people.
        ended: Ids of delegations that were ended before their time.
    """

    who: Answerers
    wait: AskedWait
    identity: Identity
    principal: Principal
    deputies: Sequence[Deputy]
    now: datetime
    disabled: Collection[str] = ()
    ended: Collection[str] = ()

    def chosen(self, deputy_for: str | None = None) -> Deputy | None:
        """Return the delegation by which the person answers; None: they answer as themselves.

        A person whom the wait admits answers as themselves, unless they say for whom. One whom it does not admit
        answers for the one person whose deputy they are for this wait.

        Args:
            deputy_for: The delegator, as the person named them.

        Raises:
            NotAnAnswerer: They may not, or are the deputy of several and do not say for whom.
            GroupsUnknown: It depends on groups that are not known.
        """
        if deputy_for is not None:
            return self._named(person_key(deputy_for))
        if not self.deputies or not self.who.is_restricted:
            return None
        try:
            self.who.require(self.wait.id, self.identity, self.principal, self.now)
        except NotAnAnswerer as error:
            return self._only(error)
        return None

    def possible(self) -> list[Deputy]:
        """Return a delegation of each person for whom this one may answer."""
        found: dict[str, Deputy] = {}
        for one in self.deputies:
            if self.problem(one) is None:
                found.setdefault(person_key(one.delegation.delegator), one)
        return list(found.values())

    def _named(self, delegator: str) -> Deputy:
        own = [one for one in self.deputies if person_key(one.delegation.delegator) == delegator]
        problem: HelmrError | None = None
        for one in own:
            problem = self.problem(one)
            if problem is None:
                return one
        if problem is not None:
            raise problem
        raise NotAnAnswerer(
            f"{self.wait.id} can't be answered by {self.identity.id} for {delegator}: "
            f"{self.identity.id} is not {delegator}'s deputy now",
            hint="`helmr person delegations` shows who is whose deputy.",
            wait_id=self.wait.id,
        )

    def _only(self, refusal: NotAnAnswerer) -> Deputy:
        """The one delegation that admits the person, whom the wait itself does not admit."""
        found = self.possible()
        if len(found) == 1:
            return found[0]
        if not found:
            problems = map(self.problem, self.deputies)
            unsure = next((one for one in problems if isinstance(one, GroupsUnknown)), None)
            raise unsure if unsure is not None else refusal
        names = " and of ".join(one.delegation.delegator for one in found)
        raise NotAnAnswerer(
            f"{self.wait.id} can't be answered by {self.identity.id} without saying for whom: they are the deputy "
            f"of {names}",
            hint="Say for whom: `deputy_for`, or `helmr wait answer WAIT … --deputy-for NAME`.",
            wait_id=self.wait.id,
            deputy_for=[one.delegation.delegator for one in found],
        )

    def problem(self, deputy: Deputy) -> NotAnAnswerer | GroupsUnknown | None:
        """Return why the person can't answer by this delegation; None if they can."""
        one, wait_id, now = deputy.delegation, self.wait.id, self.now
        why = self._why_not(one)
        if why is not None:
            said, hint = why
            return NotAnAnswerer(
                f"{wait_id} can't be answered by {self.identity.id} for {one.delegator}: {said}",
                hint=hint,
                wait_id=wait_id,
                delegation=one.id,
            )
        try:
            self.who.require_not_excluded(wait_id, self.identity, self.principal, now)
            delegator = deputy.delegator(now)
            self.who.require(wait_id, delegator, Principal(PERSON, delegator.id), now)
        except NotAnAnswerer as error:
            return error
        except GroupsUnknown as error:
            hint = f"{one.delegator} signs in and delegates again, or answers it themselves."
            is_own = self.identity.id in error.message
            return GroupsUnknown(
                error.message, hint=None if is_own else hint, wait_id=wait_id, delegation=one.id
            )
        return None

    def _why_not(self, one: Delegation) -> tuple[str, str] | None:
        """Say why the delegation does not reach this wait, and what to do."""
        again = f"{one.delegator} or an admin makes another: `helmr person delegate`."
        if person_key(one.deputy) != person_key(self.identity.id):
            return f"{one.id} is to {one.deputy}", again
        if one.id in self.ended or self.now >= one.ends_at:
            return f"{one.id} has ended", again
        if self.now < one.starts_at:
            return f"{one.id} begins at {iso(one.starts_at)}", "Answer from then on."
        if not one.covers(self.wait):
            scope = "; ".join(f"{name} {', '.join(listed)}" for name, listed in one.scope.items())
            return f"{one.id} is for {scope}", again
        if not self.who.takes_deputies:
            return (
                "it takes no deputies",
                f"{one.delegator} answers it, or another of those who may.",
            )
        gone = one.people & frozenset(map(person_key, self.disabled))
        if gone:
            return f"{', '.join(sorted(gone))} is disabled", "Someone else answers it."
        return None
