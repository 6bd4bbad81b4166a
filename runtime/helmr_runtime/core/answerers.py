"""Restricted waits: the people who may answer one, and how many of them must agree (S-112 to S-114). Pure.

A person is known by an `Identity`, which the gateway proves and a command carries. A wait that says who may answer is
*restricted*: only an answer by a person that it admits resolves it, and with `approvals` of n only once n people stand
for the same data. A name that a service's key claims (`On-Behalf-Of`) can exclude a person but never admits one.

People and groups are written as `person_key` and `group_key` make them, here and in `wait.opened`, so that they are
compared as texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import BadRequest, GroupsUnknown, NotAmendable, NotAnAnswerer, SignatureNeeded
from helmr.wire.people import STARTER, answered_by, group_key, person_key
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import PERSON, Principal

GROUPS_AGE_MAX = timedelta(minutes=15)
"""Groups that were resolved longer ago refuse an answer that depends on one (S-114)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A person, as the gateway has proven them.

    Attributes:
        id: The person's one id, however they sign in.
        names: Their other names, such as a verified e-mail.
        groups: Their groups; None if not all of them are known.
        groups_at: Time at which `groups` was resolved.
        groups_why: The reason why not all are known, and what to do, if the issuer should have sent them.
        file_groups: Groups from the configuration, valid even if `groups` is unknown.
    """

    id: str
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = ()
    groups_at: datetime | None = None
    groups_why: str | None = None
    file_groups: tuple[str, ...] = ()

    @property
    def own_keys(self) -> frozenset[str]:
        """The keys by which a list of people may name this person."""
        return frozenset(person_key(name) for name in (self.id, *self.names))

    @property
    def keys(self) -> frozenset[str]:
        """The keys by which a list of people and groups may name this person; unknown groups are missing."""
        groups = (*self.file_groups, *(self.groups or ()))
        return self.own_keys.union(map(group_key, groups))

    def knows_groups(self, now: datetime) -> bool:
        """All their groups are known, and were lately."""
        is_old = self.groups_at is not None and now - self.groups_at > GROUPS_AGE_MAX
        return self.groups is not None and not is_old

    def groups_now(self, now: datetime) -> tuple[str, ...]:
        """The groups that they are certainly in."""
        lately = self.groups or () if self.knows_groups(now) else ()
        return tuple(dict.fromkeys((*self.file_groups, *lately)))

    def recorded(self, named: Iterable[str], now: datetime) -> dict[str, Any]:
        """Return the identity as entries record it, with only those of its groups that are among `named`."""
        found: dict[str, Any] = {"id": person_key(self.id)}
        if self.names:
            found["names"] = list(self.names)
        groups = [one for one in self.groups_now(now) if group_key(one) in frozenset(named)]
        if groups:
            found["groups"] = groups
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSignature:
    """A person's signature of an answer, which the gateway has checked (S-115).

    Attributes:
        wait_id: The wait that it says; a fork's copy of the answer has another one.
        key: Fingerprint of the person's key.
        sshsig: The signature, armored, over `helmr.signing.message`.
    """

    wait_id: str
    key: str
    sshsig: str

    def recorded(self) -> dict[str, str]:
        """Return the signature as entries record it."""
        return {"wait_id": self.wait_id, "key": self.key, "sshsig": self.sshsig}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerers:
    """A wait's rule about its answers, as `wait.opened` records it.

    Attributes:
        answerers: People and groups; empty admits every person.
        not_by: People and groups that may not answer, even if `answerers` admits them.
        approvals: Number of people who must agree on the same data.
        refusals: Decisions for which one person's vote is enough (`is_refusal`).
        comments: Fields of an answer on which people need not agree.
        signed: Each answer carries its person's signature.
        deputies: Deputies may answer; None: unless it is signed (S-142).
    """

    answerers: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    approvals: int = 1
    refusals: tuple[Any, ...] = ()
    comments: tuple[str, ...] = ()
    signed: bool = False
    deputies: bool | None = None

    @classmethod
    def of(cls, opened: Mapping[str, Any]) -> Answerers:
        """Read the rule from the body of a `wait.opened`."""
        return cls(
            answerers=tuple(opened.get("answerers", ())),
            not_by=tuple(opened.get("not_by", ())),
            approvals=opened.get("approvals", 1),
            refusals=tuple(opened.get("refusals", ())),
            comments=tuple(opened.get("comments", ())),
            signed=opened.get("signed", False),
            deputies=opened.get("deputies"),
        )

    @property
    def is_restricted(self) -> bool:
        """Only an answer by a person that this admits resolves the wait (S-112)."""
        says = self.answerers or self.not_by or self.approvals > 1 or self.refusals
        return bool(says or self.signed)

    @property
    def takes_deputies(self) -> bool:
        """A person whom this admits may have their deputy answer (S-142)."""
        return self.deputies if self.deputies is not None else not self.signed

    def require(
        self, wait_id: str, identity: Identity | None, principal: Principal, now: datetime
    ) -> None:
        """Return if this person may answer.

        Args:
            wait_id: The wait's id, for the message.

        Raises:
            NotAnAnswerer: They may not; says who may.
            GroupsUnknown: It depends on groups that are not known, or were known too long ago.
        """
        self.require_not_excluded(wait_id, identity, principal, now)
        if identity is None:
            raise self.refusal(wait_id, None)
        if not self.answerers or _keys(identity, now) & frozenset(self.answerers):
            return
        if any(map(is_group, self.answerers)):
            _require_groups(wait_id, identity, now)
        raise self.refusal(wait_id, identity.id)

    def require_not_excluded(
        self, wait_id: str, identity: Identity | None, principal: Principal, now: datetime
    ) -> None:
        """Return if `not_by` does not name this caller, which no role and no reason overrides.

        Raises:
            NotAnAnswerer: It does.
            GroupsUnknown: It names groups, and those of the person are not known.
        """
        said = next((name for name in names_of(principal) if name in self.not_by), None)
        if said is not None:
            raise self.refusal(wait_id, said)
        if identity is None:
            return
        if _keys(identity, now) & frozenset(self.not_by):
            raise self.refusal(wait_id, identity.id)
        if any(map(is_group, self.not_by)):
            _require_groups(wait_id, identity, now)

    def admit(
        self,
        wait_id: str,
        identity: Identity | None,
        principal: Principal,
        now: datetime,
        *,
        override_reason: str | None = None,
        may_override: bool = False,
    ) -> dict[str, Any]:
        """Return the keys that name the answerer in the answer's entry; empty if anyone may answer.

        Raises:
            NotAnAnswerer: They may not, nor override it; says who may.
            GroupsUnknown: As `require`.
            BadRequest: There is nothing to override.
        """
        if override_reason is not None and not self.is_restricted:
            raise BadRequest(
                f"{wait_id} says nothing of who may answer", hint="Leave the reason out."
            )
        if override_reason is not None:
            if may_override:
                self.require_not_excluded(wait_id, identity, principal, now)
                return {"override_reason": override_reason}
            raise self.refusal(wait_id, "a caller that is no admin, whatever its reason")
        if not self.is_restricted:
            return {}
        self.require(wait_id, identity, principal, now)
        assert identity is not None
        return {"person": identity.recorded((*self.answerers, *self.not_by), now)}

    def with_signature(
        self, wait_id: str, told: Mapping[str, Any], signature: AnswerSignature | None
    ) -> dict[str, Any]:
        """Return the keys that `admit` made, with the signature added; an admin who overrides needs none.

        Raises:
            SignatureNeeded: It has none, and the wait takes signed answers only.
            BadRequest: It has one, and the wait asks for none.
        """
        if not self.signed and signature is not None:
            raise BadRequest(f"{wait_id} asks for no signature", hint="Answer it without.")
        if not self.signed or "override_reason" in told:
            return dict(told)
        if signature is None:
            acting = told.get("delegation")
            said = (
                {"delegation": acting["id"], "deputy_for": acting["delegator"]}
                if acting is not None
                else {}
            )
            raise SignatureNeeded(f"{wait_id} takes signed answers only", wait_id=wait_id, **said)
        return {**told, "signature": signature.recorded()}

    def require_one(self, wait_id: str) -> None:
        """Return if one person's answer is enough, and needs no signature.

        Raises:
            NotAmendable: Several must agree, or sign it.
        """
        if self.signed:
            raise NotAmendable(
                f"{wait_id} takes signed answers only, and what was signed is not amended",
                wait_id=wait_id,
            )
        if self.approvals > 1:
            raise NotAmendable(
                f"{wait_id} was answered by {self.approvals} people, and one can't give it another answer",
                wait_id=wait_id,
            )

    def is_refusal(self, data: Any) -> bool:
        """This answer declines, which one person can.

        A refusal is a whole answer, the value of its field `decision`, or an object, of which the answer has all
        fields.
        """
        return any(_declines(data, refusal) for refusal in self.refusals)

    def proposal(self, data: Any) -> str:
        """Names what an answer says but for its comments: votes for the same are for one proposal."""
        if isinstance(data, Mapping) and self.comments:
            data = {name: value for name, value in data.items() if name not in self.comments}
        return jsontext.same_data_hash(jsontext.by_value(data))[:PROPOSAL_CHARS]

    @property
    def words(self) -> str:
        """The rule in words, for a sentence that begins with the wait."""
        return answered_by(self.answerers, self.not_by, self.approvals, signed=self.signed)

    def refusal(self, wait_id: str, who: str | None) -> NotAnAnswerer:
        """Return the error for a caller that may not answer, which says who may."""
        by = who if who is not None else "a caller that has not signed in as a person"
        return NotAnAnswerer(
            f"{wait_id} can't be answered by {by}: it is answered {self.words}",
            wait_id=wait_id,
            answerers=list(self.answerers),
            not_by=list(self.not_by),
            approvals=self.approvals,
        )


def _keys(identity: Identity, now: datetime) -> frozenset[str]:
    return identity.own_keys.union(map(group_key, identity.groups_now(now)))


ANYONE = Answerers()
"""The rule of a wait without one, as almost all are."""

PROPOSAL_CHARS = 32


def names_of(principal: Principal) -> list[str]:
    """Return the people that a principal names: itself if it is a person, and its `on_behalf_of`."""
    own = principal.id if principal.type == PERSON else None
    return [person_key(name) for name in (own, principal.on_behalf_of) if name is not None]


def with_starters(not_by: Sequence[str], starters: Iterable[str]) -> list[str]:
    """Replace `starter` in the list by the people who started the session."""
    return list(dict.fromkeys((*not_by, *starters))) if STARTER in not_by else list(not_by)


def is_group(key: str) -> bool:
    """The name in a list of people and groups is a group's."""
    return key.startswith("group:")


def _require_groups(wait_id: str, identity: Identity, now: datetime) -> None:
    if not identity.knows_groups(now):
        why = f": {identity.groups_why}" if identity.groups_why is not None else ""
        raise GroupsUnknown(
            f"{wait_id} depends on the groups of {identity.id}, which are not known now{why}",
            wait_id=wait_id,
        )


def _declines(data: Any, refusal: Any) -> bool:
    if jsontext.is_same_data(data, refusal):
        return True
    if not isinstance(data, Mapping):
        return False
    if isinstance(refusal, Mapping):
        fields = refusal.items()
        return bool(fields) and all(
            name in data and jsontext.is_same_data(data[name], value) for name, value in fields
        )
    return "decision" in data and jsontext.is_same_data(data["decision"], refusal)
