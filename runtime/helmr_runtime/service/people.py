"""People of a runtime: the caller, all that are known, and those that are disabled (S-111, S-117).

The configuration names people; the ledger knows the account that each signed in with and if they are disabled. The
ledger's facts are cached here until the feed brings a change. Security does not rest on this cache: the ledger itself
refuses commands of a disabled person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from helmr.errors import (
    BadRequest,
    DelegationNotFound,
    RoleDenied,
    SessionTerminal,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import (
    LIST_LIMIT_MAX,
    ApiKeyInfo,
    DelegateRequest,
    DelegationInfo,
    DisableRequest,
    ListQuery,
    Page,
    PersonInfo,
    PrincipalInfo,
    RevokeKeyRequest,
    SigningKeyInfo,
    SigningKeyRequest,
    WaitsQuery,
    WhoAmI,
)
from helmr.wire import ids
from helmr.wire.people import person_key
from helmr.wire.roles import Need, Role, may
from helmr_runtime.core.answerers import GROUPS_AGE_MAX, Identity
from helmr_runtime.core.commands import AssignWait, RevokePublicToken, WithdrawVote
from helmr_runtime.core.delegations import Delegation, Deputy
from helmr_runtime.core.entries import PERSON
from helmr_runtime.core.people import (
    AddSigningKey,
    Delegate,
    DisablePerson,
    EnablePerson,
    EndDelegation,
    RevokeSigningKey,
    UnbindPerson,
)
from helmr_runtime.ports.ledger import Json
from helmr_runtime.security.people import NO_PEOPLE, NamedPerson, PeopleConfig
from helmr_runtime.security.role_checks import person_name
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.paging import page_of
from helmr_runtime.service.shared import Shared

Assigned = list[tuple[str, str]]
"""Sessions and their waits."""


OVER = (WaitResolved, WaitTimedOut, SessionTerminal)
"""Errors that leave nothing to give back: the wait has ended, or its session takes no assignments any more."""

CLAIMS_KNOWN_MAX = 10_000
"""People whose groups by the issuer are cached; for others they are unknown until they sign in again."""


@dataclass(frozen=True, slots=True)
class ClaimedGroups:
    """The issuer's list of a person's groups; None if it is not complete, with a reason if asking failed."""

    groups: tuple[str, ...] | None
    said_at: datetime
    why: str | None = None

    def is_news(self, before: ClaimedGroups) -> bool:
        """True if this replaces `before`: it is later, and not a failure while the list before is young."""
        if before.why is not None:
            return True
        has_failed = self.why is not None and before.groups is not None
        is_old = self.said_at - before.said_at > GROUPS_AGE_MAX
        return before.said_at <= self.said_at and (is_old or not has_failed)


class PeopleView:
    """People as configuration and ledger together describe them.

    The issuer's groups come with sign-ins only. They are cached here for the person's other ways in: a personal key or
    a proxy's header carries none of them.

    Args:
        shared: The ledger.
        named: The people in the configuration.
    """

    def __init__(self, shared: Shared, named: PeopleConfig = NO_PEOPLE) -> None:
        self._ledger = shared.ledger
        self.named = named
        self._known: Mapping[str, Json] | None = None
        self._accounts: Mapping[tuple[str, str], str] = {}
        self._claims: LruCache[str, ClaimedGroups] = LruCache(CLAIMS_KNOWN_MAX)
        self._forgotten = 0
        self._delegations: Sequence[Delegation] | None = None
        self._deputies: Sequence[Deputy] | None = None
        self.on_disabled: Callable[[str], None] = lambda person_id: None
        """Called with the id of a disabled person: at once by this gateway, over the feed for another."""

    def forget(self, *, is_unbound: bool = False) -> None:
        """Empty the cache: a person has changed. `is_unbound`: one has lost their account, so drop groups too."""
        self._known = self._delegations = self._deputies = None
        self._forgotten += 1
        if is_unbound:
            self._claims.clear()

    async def known(self) -> Mapping[str, Json]:
        """The ledger's record of each person, by id."""
        found = self._known
        if found is None:
            forgotten = self._forgotten
            found = {str(one["id"]): one for one in await self._ledger.people()}
            if forgotten == self._forgotten:  # else this may be older than what has changed
                self._known = found
            accounts = {(one["issuer"], one["subject"]): name for name, one in found.items()}
            self._accounts = accounts
        return found

    async def delegations(self) -> Sequence[Delegation]:
        """The delegations that have not ended, as far as entries say; the time of some may be over."""
        found = self._delegations
        if found is None:
            forgotten = self._forgotten
            found = [one for one in await self._ledger.delegations() if one.ended_at is None]
            if forgotten == self._forgotten:
                self._delegations = found
        return found

    async def all_deputies(self) -> Sequence[Deputy]:
        """The delegations with what the configuration says of their delegators.

        A delegator counts only while it names them, with a role that may answer.
        """
        found = self._deputies
        if found is None:
            forgotten = self._forgotten
            found = [*filter(None, map(self._deputy, await self.delegations()))]
            if forgotten == self._forgotten:
                self._deputies = found
        return found

    async def deputies(self, identity: Identity | None) -> tuple[Deputy, ...]:
        """The delegations by which this person may answer for others, if the wait admits those."""
        if identity is None:
            return ()
        key, found = person_key(identity.id), await self.all_deputies()
        return tuple(one for one in found if person_key(one.delegation.deputy) == key)

    def _deputy(self, one: Delegation) -> Deputy | None:
        person = self.named.find(one.delegator)
        is_theirs = person is not None and person.id == one.delegator
        if person is None or not is_theirs or not may(self.named.role_of(person), Need.ANSWER):
            return None
        return Deputy(
            delegation=one,
            names=tuple(sorted(person.names - {person.id})),
            file_groups=person.groups,
            claims_groups=self.named.settings.claims_groups,
        )

    async def bound(self, issuer: str, subject: str) -> str | None:
        """The id of the person bound to that account; None without one."""
        await self.known()
        return self._accounts.get((issuer, subject))

    def signed_in(self, person: NamedPerson, claimed: ClaimedGroups) -> Identity:
        """The identity of a person who signed in with these groups; of two sign-ins the later counts."""
        before = self._claims.get(person.id)
        if before is None or claimed.is_news(before):
            self._claims.put(person.id, claimed)
        return self.identity(person)

    def identity(self, person: NamedPerson) -> Identity:
        """The identity of a person, as commands carry it.

        Groups from the configuration are current. If the issuer adds groups, the full list is known only by a sign-in.
        """
        names = tuple(sorted(person.names - {person.id}))
        if not self.named.settings.claims_groups:
            return Identity(id=person.id, names=names, groups=person.groups)
        claimed = self._claims.get(person.id)
        groups = claimed.groups if claimed is not None else None
        return Identity(
            id=person.id,
            names=names,
            groups=tuple(dict.fromkeys((*person.groups, *groups))) if groups is not None else None,
            groups_at=claimed.said_at if claimed is not None else None,
            groups_why=claimed.why if claimed is not None else None,
            file_groups=person.groups,
        )

    async def signing_keys(self, person_id: str) -> list[SigningKeyInfo]:
        """A person's signing keys that are not revoked."""
        known = (await self.known()).get(person_id, {"signing_keys": []})
        keys = (SigningKeyInfo.model_validate(one) for one in known["signing_keys"])
        return [one for one in keys if one.revoked_at is None]

    async def acting(self, person_id: str) -> NamedPerson | None:
        """The person with this id; None if there is none or they are disabled."""
        person = self.named.find(person_id)
        if person is None or person.id != person_id:
            return None
        known = (await self.known()).get(person_id)
        return person if known is None or known["disabled_at"] is None else None

    async def was_disabled_since(self, person_id: str, at: datetime) -> bool:
        """True if the person was enabled again after that time, in whole seconds as tokens have them (S-117)."""
        enabled_at = (await self.known()).get(person_id, {}).get("enabled_at")
        return enabled_at is not None and at < datetime.fromisoformat(enabled_at).replace(
            microsecond=0
        )

    async def info(self, person_id: str) -> PersonInfo:
        """The person with this id, even if the configuration no longer has them."""
        person = self.named.find(person_id)
        known = (await self.known()).get(person_id) or {"id": person_id}
        said = {name: value for name, value in known.items() if name != "enabled_at"}
        key = person_key(person_id)
        own = [one.to_json() for one in await self.delegations() if key in one.people]
        said["delegations"] = own
        if person is None:
            return PersonInfo.model_validate(said)
        of_file = {
            "email": person.email,
            "groups": list(person.groups),
            "role": self.named.role_of(person),
        }
        return PersonInfo.model_validate({**said, **of_file, "id": person.id})


class PeopleOperations:
    """Operations on people: whoami, list, show, disable, enable, unbind, their signing keys and delegations."""

    def __init__(self, shared: Shared, view: PeopleView) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._now = shared.now
        self.view = view

    async def whoami(self, caller: Caller) -> WhoAmI:
        """The caller, and what it may do."""
        principal = caller.principal
        key_id = principal.via if principal.type == PERSON else principal.id
        person, groups_at, expires_at = None, None, None
        if principal.type == PERSON and principal.id is not None:
            person = await self.view.info(principal.id)
        if person is not None and caller.identity is not None:
            identity, now = caller.identity, self._now()
            if identity.knows_groups(now):
                groups_at = identity.groups_at or now
            person = person.model_copy(update={"groups": list(identity.groups_now(now))})
        if key_id is not None and key_id.startswith("key_"):
            key = ApiKeyInfo.model_validate(await self._ledger.get_api_key(key_id))
            expires_at = key.expires_at
        return WhoAmI(
            principal=PrincipalInfo.model_validate(principal.to_json()),
            role=caller.role.value if caller.role is not None else None,
            person=person,
            groups_at=groups_at,
            expires_at=expires_at,
        )

    async def list(self, query: ListQuery) -> Page[PersonInfo]:
        """People by id."""
        ids = sorted({*self.view.named.named, *(await self.view.known())})
        found = page_of(ids, query)
        items = [await self.view.info(one) for one in found["items"]]
        return Page[PersonInfo](items=items, next_cursor=found["next_cursor"])

    async def get(self, person: str) -> PersonInfo:
        """A person, by id or e-mail.

        Raises:
            PersonNotFound: No person with that name.
        """
        return await self.view.info(await self._id_of(person))

    async def disable(self, caller: Caller, person: str, request: DisableRequest) -> PersonInfo:
        """Disable a person.

        From the commit on, the ledger refuses their commands, and their keys and links open nothing. Then their votes,
        claims, links and assignments are given back; if that is interrupted, disabling again continues it.

        Raises:
            PersonNotFound: No person with that name.
        """
        person_id = await self._id_of(person, is_any=True)
        found = self.view.named.find(person_id)
        names = tuple(sorted(found.names)) if found is not None else (person_id,)
        fact = DisablePerson(
            principal=caller.principal,
            operation=caller.operation("people.disable", person_id, request.reason),
            person=person_id,
            names=names,
            reason=request.reason,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what=f"disabling {person_id}")
        self.view.forget()
        self.view.on_disabled(person_id)
        await self._give_back(caller, person_id, names)
        return await self.view.info(person_id)

    async def _give_back(self, caller: Caller, person_id: str, names: tuple[str, ...]) -> None:
        by = caller.principal
        for session_id, wait_id in await self._waits(voter=person_id):
            vote = WithdrawVote(principal=by, wait_id=wait_id, person=person_id, reason="disabled")
            with suppress(*OVER):
                await self._router.command(session_id, vote)
        for session_id, kept in (await self._ledger.give_back_claims(names, by)).items():
            await self._router.tell_claims(session_id, kept)
        for link in await self._ledger.links_of_person(names):
            revoke = RevokePublicToken(principal=by, public_token_id=link["id"], is_link=True)
            await self._router.command(str(link["session_id"]), revoke)
        for name in names:
            for session_id, wait_id in await self._waits(assignee=name):
                back = AssignWait(principal=by, wait_id=wait_id, assignee=None)
                with suppress(*OVER):
                    await self._router.command(session_id, back)

    async def _waits(self, **wanted: str) -> Sequence[tuple[str, str]]:
        found: Assigned = []
        cursor: str | None = None
        while True:
            query = WaitsQuery(limit=LIST_LIMIT_MAX, cursor=cursor).model_copy(update=wanted)
            page = await self._ledger.list_waits(**query.given())
            found += [(str(one["session_id"]), str(one["id"])) for one in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def enable(self, caller: Caller, person: str) -> PersonInfo:
        """Enable a person again; votes, claims, links and older ID tokens stay void.

        Raises:
            PersonNotFound: No person with that name.
        """
        return await self._changed(caller, EnablePerson, "enable", person)

    async def unbind(self, caller: Caller, person: str) -> PersonInfo:
        """Forget a person's account; the next sign-in with their e-mail binds a new one.

        Raises:
            PersonNotFound: No person with that name.
        """
        return await self._changed(caller, UnbindPerson, "unbind", person)

    async def _changed(
        self, caller: Caller, command: type[EnablePerson | UnbindPerson], verb: str, person: str
    ) -> PersonInfo:
        person_id = await self._id_of(person, is_any=True)
        fact = command(
            principal=caller.principal,
            operation=caller.operation(f"people.{verb}", person_id),
            person=person_id,
        )
        await self._router.write(
            lambda: self._ledger.fact(fact), what=f"people.{verb} of {person_id}"
        )
        self.view.forget(is_unbound=command is UnbindPerson)
        return await self.view.info(person_id)

    async def add_key(self, caller: Caller, person: str, request: SigningKeyRequest) -> PersonInfo:
        """Add a key that signs a person's answers (S-115).

        Raises:
            PersonNotFound: No person with that name.
            BadRequest: The key can't sign answers, or the person's name can't stand in a list of signers.
            Conflict: The key is another person's, or was revoked.
        """
        from helmr_runtime.security.sshsig import NOT_IN_NAMES, read_key  # noqa: PLC0415 - few sign

        key, person_id = read_key(request.key), await self._id_of(person)
        if NOT_IN_NAMES & set(person_id):
            raise BadRequest(
                f"{person_id} can't have a key: in a list of signers its name is a pattern",
                hint="Name them by a table of their own, [people.NAME].",
            )
        fact = AddSigningKey(
            principal=caller.principal,
            operation=caller.operation("people.add_key", person_id, request.key),
            person=person_id,
            fingerprint=key.fingerprint,
            key=key.text,
            comment=key.comment,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what=f"a key of {person_id}")
        self.view.forget()
        return await self.view.info(person_id)

    async def revoke_key(
        self, caller: Caller, person: str, request: RevokeKeyRequest
    ) -> PersonInfo:
        """Revoke a signing key; earlier signatures stay valid.

        Raises:
            PersonNotFound: No person with that name.
            KeyNotFound: The person has no such key.
        """
        person_id = await self._id_of(person)
        fact = RevokeSigningKey(
            principal=caller.principal,
            operation=caller.operation(
                "people.revoke_key", person_id, request.fingerprint, request.reason
            ),
            person=person_id,
            fingerprint=request.fingerprint,
            reason=request.reason,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what=f"a key of {person_id}")
        self.view.forget()
        return await self.view.info(person_id)

    async def delegate(
        self, caller: Caller, person: str, request: DelegateRequest
    ) -> DelegationInfo:
        """Make a person another's deputy for a while (S-142).

        Raises:
            PersonNotFound: No person with one of the names.
            RoleDenied: The caller is neither the person nor an admin.
            BadRequest: An admin gives no reason, the two are one, the deputy makes it, or its times are wrong.
            Conflict: One of the two is disabled.
        """
        delegator, deputy = await self._id_of(person), await self._id_of(request.deputy)
        identity, now = caller.identity, self._now()
        is_own = identity is not None and identity.id == delegator
        self._require_right(caller, (delegator,))
        if not is_own and request.reason is None:
            raise BadRequest(
                f"a delegation that an admin makes for {delegator} needs a reason",
                hint="Say why: `reason`, or `--reason TEXT`.",
            )
        groups = None
        if is_own and identity is not None and self.view.named.settings.claims_groups:
            known = identity.groups or () if identity.knows_groups(now) else None
            if known is not None:
                groups = tuple(one for one in known if one not in identity.file_groups)
        made = Delegation(
            id=ids.new_id(ids.DELEGATION),
            delegator=delegator,
            deputy=deputy,
            starts_at=request.starts_at or now,
            ends_at=request.ends_at,
            made_by=caller.principal,
            made_at=now,
            tasks=tuple(dict.fromkeys(request.tasks)),
            streams=tuple(dict.fromkeys(request.streams)),
            tags=tuple(dict.fromkeys(request.tags)),
            reason=request.reason,
            groups=groups,
        )
        asked = request.model_dump(mode="json")
        fact = Delegate(
            principal=caller.principal,
            operation=caller.operation("people.delegate", delegator, asked),
            delegation=made,
        )
        receipt = await self._router.write(
            lambda: self._ledger.fact(fact), what=f"a delegation of {delegator}"
        )
        self.view.forget()
        return await self._delegation(str(receipt["delegation_id"]))

    async def delegations(self, query: ListQuery) -> Page[DelegationInfo]:
        """Delegations whose time is not over and that were not ended, by id."""
        now = self._now()
        live = {one.id: one for one in await self.view.delegations() if now < one.ends_at}
        found = page_of(sorted(live), query)
        items = [DelegationInfo.model_validate(live[one].to_json()) for one in found["items"]]
        return Page[DelegationInfo](items=items, next_cursor=found["next_cursor"])

    async def undelegate(self, caller: Caller, delegation_id: str) -> DelegationInfo:
        """End a delegation before its time; what the deputy answered stays.

        Raises:
            DelegationNotFound: None with that id, or its time is over.
            RoleDenied: The caller is neither of the two, nor an admin.
        """
        ids.check_id(delegation_id, ids.DELEGATION)
        known = await self._delegation(delegation_id)
        self._require_right(caller, (known.delegator, known.deputy))
        fact = EndDelegation(
            principal=caller.principal,
            operation=caller.operation("people.undelegate", delegation_id),
            delegation_id=delegation_id,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what=f"ending {delegation_id}")
        self.view.forget()
        return await self._delegation(delegation_id)

    async def _delegation(self, delegation_id: str) -> DelegationInfo:
        """The delegation as the ledger has it, also if it was ended lately.

        Raises:
            DelegationNotFound: None with that id, or its time is over.
        """
        found = (one for one in await self._ledger.delegations() if one.id == delegation_id)
        one = next(found, None)
        if one is None:
            raise DelegationNotFound(f"there is no delegation {delegation_id}")
        return DelegationInfo.model_validate(one.to_json())

    def _require_right(self, caller: Caller, people: Sequence[str]) -> None:
        """Return if the caller is one of these people, or an admin.

        Raises:
            RoleDenied: They are not.
        """
        identity = caller.identity
        if caller.role is Role.ADMIN or (identity is not None and identity.id in people):
            return
        names = " or ".join(people)
        raise RoleDenied(
            f"a delegation of {people[0]} is for {names} or an admin",
            hint="Ask them, or sign in as yourself: `helmr whoami` says who you are.",
        )

    async def _id_of(self, name: str, *, is_any: bool = False) -> str:
        """The id of a person in configuration or ledger.

        Args:
            name: A name of the person.
            is_any: If the configuration names no people, accept any name that links and assignments may have.
        """
        found = self.view.named.find(name)
        if found is not None:
            return found.id
        if name in await self.view.known():
            return name
        said = person_name(name)
        if is_any and not self.view.named.is_on and said:
            return said
        return self.view.named.get(name).id
