"""Public tokens, answer links and API keys are made, listed, revoked and found by their secrets (S-44…S-46, S-74).

An answer link is a secret for one wait and one named person. It is a public token whose scope is a wait: made and
revoked in the wait's session, found by its secret's hash.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from helmr.errors import BadRequest, Conflict, KeyNotFound
from helmr.models import (
    NAME_MAX,
    AnswerLinkInfo,
    AnswerLinkReceipt,
    AnswerLinkRequest,
    ApiKeyInfo,
    ApiKeyReceipt,
    ApiKeyRequest,
    ListQuery,
    Page,
    PublicTokenInfo,
    PublicTokenReceipt,
    PublicTokenRequest,
    WaitStatus,
)
from helmr.wire import ids
from helmr.wire.durations import seconds
from helmr.wire.people import GROUP, PERSON, STARTER
from helmr.wire.roles import Role, ScopeType
from helmr_runtime.core.api_keys import CreateApiKey, RevokeApiKey
from helmr_runtime.core.commands import CreatePublicToken, OperationKey, RevokePublicToken
from helmr_runtime.core.entries import LINK, Principal, from_iso
from helmr_runtime.core.public_tokens import (
    CreateCompletionToken,
    RevokeCompletionToken,
    Scope,
    ScopedToken,
    check_correlation_id,
    scope_of_request,
)
from helmr_runtime.ports.ledger import Json
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig
from helmr_runtime.security.role_checks import check_delegation, person_name
from helmr_runtime.security.secrets import SecretKind, make_secret, secret_hash
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.shared import Shared

KEYS_KNOWN_MAX = 1_000
"""API keys known without asking the ledger (authentication is cached)."""

KEY_KNOWN_S = 300.0
"""The feed brings revocations by other gateways; this bounds how long a lost feed keeps a revoked key alive."""

SECRETS_KEPT_MAX = 1_000
SECRETS_KEPT_S = 600.0
"""The secret of a new key is kept this long for a caller that lost the response and repeats the request."""


@dataclass(frozen=True, slots=True)
class LiveKey:
    """An API key that was not revoked when it was read."""

    id: str
    role: Role
    name: str
    person: str | None = None
    expires_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """True if the key has not expired."""
        return self.expires_at is None or now < self.expires_at


class AccessTokens:
    """Public tokens."""

    def __init__(self, shared: Shared) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._catalog = shared.catalog
        self._keys = shared.keys
        self._clock = shared.clock
        self._repeats = shared.repeats

    async def create(self, caller: Caller, request: PublicTokenRequest) -> PublicTokenReceipt:
        """Make a public token; a repeated operation shows the same secret.

        Raises:
            BadRequest: The scope, an origin or the number of uses can't be used.
            SessionNotFound, StreamNotFound, TokenNotFound: The scope names something that does not exist.
            RoleDenied: The caller's own key may not do what the token is for.
        """
        check_delegation(caller.role, ScopeType(request.scope.type))
        named = request.scope.model_dump(exclude_none=True)
        check_correlation_id(named)
        scope = scope_of_request(named)
        owner = ids.SYSTEM_STREAM
        if scope.type is ScopeType.TOKEN_COMPLETE:
            ids.check_id(scope.token_id or "", ids.TOKEN)
        else:
            owner = ids.check_id(scope.session_id or "", ids.SESSION)
        secrets = TaskSecrets(await self._keys(owner), "")
        public_token_id, key_id, hashed, origins = secrets.new_public_token(
            scope, tuple(request.allowed_origins)
        )
        now = self._clock.now()
        token = ScopedToken(
            id=public_token_id,
            scope=scope,
            secret_hash=hashed,
            created_at=now,
            expires_at=now + timedelta(seconds=seconds(request.expires_in)),
            max_uses=request.max_uses,
            allowed_origins=origins,
            key_id=key_id,
        )
        asked = request.model_dump(mode="json")
        operation = caller.operation("public_tokens.create", asked)

        async def write() -> Json:
            if owner == ids.SYSTEM_STREAM:
                fact = _completion_token(caller, operation, token)
                return await self._router.write(
                    lambda: self._ledger.fact(fact), what="a public token"
                )
            await self._check_stream(scope)
            command = CreatePublicToken(
                principal=caller.principal, operation=operation, token=token.to_json()
            )
            return await self._router.command(owner, command)

        receipt = await self._repeats.receipt(caller, operation, write)
        made_id = str(receipt["public_token_id"])
        info = await self._ledger.get_public_token(made_id)
        secret = secrets.secret("pat", made_id, str(receipt["key_id"]))
        return PublicTokenReceipt.model_validate({**info, "public_access_token": secret})

    async def _check_stream(self, scope: Scope) -> None:
        direction = "input" if scope.type is ScopeType.SESSION_INPUT_SEND else "output"
        task = str((await self._ledger.brief(scope.session_id or ""))["task"])
        await self._catalog.stream(task, scope.stream or "", direction)

    async def list(self, query: ListQuery) -> Page[PublicTokenInfo]:
        """Public tokens, newest first, with the uses they have left."""
        found = await self._ledger.list_public_tokens(**query.given())
        return Page[PublicTokenInfo].model_validate(found)

    async def revoke(self, caller: Caller, public_token_id: str) -> PublicTokenInfo:
        """Revoke one; revoking again changes nothing.

        Raises:
            KeyNotFound: No public token with that id.
        """
        ids.check_id(public_token_id, ids.PUBLIC_TOKEN)
        info = await self._ledger.get_public_token(public_token_id)
        operation = caller.operation("public_tokens.revoke", public_token_id)
        session_id = info["scope"].get("session")
        if session_id is None:
            fact = RevokeCompletionToken(
                principal=caller.principal, operation=operation, public_token_id=public_token_id
            )
            await self._router.write(lambda: self._ledger.fact(fact), what="a revocation")
        else:
            command = RevokePublicToken(
                principal=caller.principal,
                operation=operation,
                public_token_id=public_token_id,
                is_link="wait" in info["scope"],
            )
            await self._router.command(session_id, command)
        return PublicTokenInfo.model_validate(await self._ledger.get_public_token(public_token_id))

    async def maker(self, public_token_id: str) -> Principal:
        """Return the principal that made a public token.

        Raises:
            KeyNotFound: No public token with that id.
        """
        ids.check_id(public_token_id, ids.PUBLIC_TOKEN)
        return Principal.from_json(await self._ledger.public_token_maker(public_token_id))

    async def find(self, hashed: str) -> ScopedToken | None:
        """The public token with this secret, expired or revoked too. Reads the ledger: a revocation counts at once."""
        found = await self._ledger.find_public_token(hashed)
        return ScopedToken.from_json(found["state"]) if found is not None else None


class ApiKeys:
    """API keys, with a cache of those in use."""

    def __init__(self, shared: Shared, people: PeopleConfig = NO_PEOPLE) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._now = shared.now
        self._people = people
        self._known: LruCache[str, LiveKey] = LruCache(
            KEYS_KNOWN_MAX, age_max_s=KEY_KNOWN_S, monotonic=_monotonic
        )
        self._revocations = 0
        self._secrets: LruCache[str, str] = LruCache(
            SECRETS_KEPT_MAX, age_max_s=SECRETS_KEPT_S, monotonic=_monotonic
        )

    async def create(self, caller: Caller, request: ApiKeyRequest) -> ApiKeyReceipt:
        """Make a key; its secret is shown once, and to anyone who repeats the operation soon.

        Raises:
            BadRequest: It has neither a person nor a role and a name, or its expiry can't be used.
            PersonNotFound: No person with that name.
            Conflict: The operation was done, and its secret is no longer kept.
        """
        person, role, name = self._whose(request)
        expires_at = None
        if request.expires_in is not None:
            expires_at = self._now() + timedelta(seconds=seconds(request.expires_in))
        secret = self._secrets.get(caller.operation_id) or make_secret(SecretKind.API_KEY)
        fact = CreateApiKey(
            principal=caller.principal,
            operation=caller.operation("api_keys.create", request.model_dump(mode="json")),
            key_id=ids.new_id(ids.API_KEY),
            role=role,
            name=name,
            secret_hash=secret_hash(secret),
            person=person,
            expires_at=expires_at,
        )
        self._secrets.put(caller.operation_id, secret)
        receipt = await self._router.write(lambda: self._ledger.fact(fact), what="an API key")
        info = await self._ledger.get_api_key(str(receipt["key_id"]))
        found = await self._ledger.find_api_key(secret_hash(secret))
        if found is None or found["id"] != info["id"]:
            raise Conflict(
                f"{info['id']} was made by this operation, and its secret is shown only once",
                hint="Revoke it and make another.",
                key_id=info["id"],
            )
        return ApiKeyReceipt.model_validate({**info, "secret": secret})

    def _whose(self, request: ApiKeyRequest) -> tuple[str | None, str, str]:
        """The key's person, if it has one, and its role and name."""
        if request.person is None:
            if request.role is None or request.name is None:
                raise BadRequest("a key has a role and a name, or a person")
            return None, request.role, request.name
        if request.role is not None:
            raise BadRequest(
                "a person's key has no role of its own: it may do what the person may",
                hint="Their role stands in helmr.toml.",
            )
        person = self._people.get(request.person)
        return person.id, self._people.role_of(person).value, request.name or person.id[:NAME_MAX]

    async def list(self, query: ListQuery) -> Page[ApiKeyInfo]:
        """API keys, newest first, revoked ones too."""
        found = await self._ledger.list_api_keys(**query.given())
        return Page[ApiKeyInfo].model_validate(found)

    async def revoke(self, caller: Caller, key_id: str) -> ApiKeyInfo:
        """Revoke a key; it opens nothing from now on. A second revocation changes nothing.

        Raises:
            KeyNotFound: No key with that id.
        """
        ids.check_id(key_id, ids.API_KEY)
        fact = RevokeApiKey(
            principal=caller.principal,
            operation=caller.operation("api_keys.revoke", key_id),
            key_id=key_id,
        )
        await self._router.write(lambda: self._ledger.fact(fact), what="a revocation")
        self.forget()
        return ApiKeyInfo.model_validate(await self._ledger.get_api_key(key_id))

    def known(self, hashed: str) -> LiveKey | None:
        """The live key with this secret, if the cache has it."""
        return self._known.get(hashed)

    async def find(self, hashed: str) -> LiveKey | None:
        """The live key with this secret, from the ledger."""
        revocations = self._revocations
        found = await self._ledger.find_api_key(hashed)
        if found is None or found["revoked_at"] is not None:
            return None
        expires_at = from_iso(found["expires_at"]) if found["expires_at"] is not None else None
        key = LiveKey(
            str(found["id"]), Role(found["role"]), str(found["name"]), found["person"], expires_at
        )
        if revocations == self._revocations:  # else this answer may be older than a revocation
            self._known.put(hashed, key)
        return key

    def forget(self) -> None:
        """Empty the cache: some gateway revoked a key."""
        self._revocations += 1
        self._known.clear()


def _completion_token(
    caller: Caller, operation: OperationKey, token: ScopedToken
) -> CreateCompletionToken:
    return CreateCompletionToken(
        principal=caller.principal,
        operation=operation,
        public_token_id=token.id,
        token_id=token.scope.token_id or "",
        secret_hash=token.secret_hash,
        key_id=token.key_id or "",
        max_uses=token.max_uses,
        expires_at=token.expires_at,
        allowed_origins=token.allowed_origins,
    )


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


EXPIRES_IN_MAX = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class LiveLink:
    """A link that is neither expired nor revoked; its wait may be over."""

    id: str
    wait_id: str
    person: str

    @property
    def principal(self) -> Principal:
        """The principal of an answer through this link."""
        return Principal(LINK, self.id, None, self.person)


def _checked_person(name: str) -> str:
    """The name of the person that a link is for.

    Raises:
        BadRequest: The name is empty, a group, or `starter`.
    """
    text = name.strip()
    if not text or text != person_name(text):
        raise BadRequest(
            "a link needs the name of a person, of characters that show",
            hint="Write ada@example.com or ada.",
        )
    if text.startswith(GROUP) or text.removeprefix(PERSON) in ("", STARTER):
        raise BadRequest(
            f"{text[:80]!r} is no one person", hint="Make a link for each: ada@example.com or ada."
        )
    return text


class AnswerLinks:
    """Answer links: make, list, revoke, find by secret."""

    def __init__(self, shared: Shared, people: PeopleConfig = NO_PEOPLE) -> None:
        self._people = people
        self._ledger = shared.ledger
        self._router = shared.router
        self._keys = shared.keys
        self._clock = shared.clock
        self._repeats = shared.repeats
        self._base_url = shared.base_url

    async def create(
        self, caller: Caller, wait_id: str, request: AnswerLinkRequest
    ) -> AnswerLinkReceipt:
        """Make a link; a repeated operation shows the same URL.

        Raises:
            WaitNotFound: No wait with that id.
            WaitResolved: It is no longer pending.
            BadRequest: No one answers it, or the person or the time can't be used.
        """
        ids.check_id(wait_id, ids.WAIT)
        person = self._people.canonical(_checked_person(request.person))
        wait = await self._ledger.get_wait(wait_id)
        session_id, now = str(wait["session_id"]), self._clock.now()
        secrets = TaskSecrets(await self._keys(session_id), self._base_url)
        link_id, key_id, hashed = secrets.new_link()
        token = ScopedToken(
            id=link_id,
            scope=Scope(
                type=ScopeType.WAIT_ANSWER, session_id=session_id, wait_id=wait_id, person=person
            ),
            secret_hash=hashed,
            created_at=now,
            expires_at=_expires_at(request, wait, now),
            key_id=key_id,
        )
        operation = caller.operation("waits.link", wait_id, request.model_dump(mode="json"))
        command = CreatePublicToken(
            principal=caller.principal, operation=operation, token=token.to_json()
        )
        receipt = await self._repeats.receipt(
            caller, operation, lambda: self._router.command(session_id, command)
        )
        made_id = str(receipt["public_token_id"])
        info = await self._info(await self._ledger.get_public_token(made_id), wait_id)
        url = secrets.link_url(made_id, str(receipt["key_id"]))
        return AnswerLinkReceipt.model_validate({**info.model_dump(), "url": url})

    async def list(self, wait_id: str) -> Page[AnswerLinkInfo]:
        """The links of a wait, newest first; revoked and expired ones too, while the session keeps them.

        Raises:
            WaitNotFound: No wait with that id.
        """
        ids.check_id(wait_id, ids.WAIT)
        await self._ledger.get_wait(wait_id)
        found = await self._ledger.links_of_wait(wait_id)
        return Page[AnswerLinkInfo](items=[await self._info(one, wait_id) for one in found])

    async def revoke(self, caller: Caller, wait_id: str, link_id: str) -> AnswerLinkInfo:
        """Revoke a link; revoking again, or after its wait, changes nothing.

        Raises:
            KeyNotFound: The wait has no such link.
        """
        ids.check_id(wait_id, ids.WAIT)
        ids.check_id(link_id, ids.PUBLIC_TOKEN)
        found = await self._ledger.get_public_token(link_id)
        if found["scope"].get("wait") != wait_id:
            raise KeyNotFound(f"{wait_id} has no link {link_id}")
        command = RevokePublicToken(
            principal=caller.principal,
            operation=caller.operation("waits.unlink", wait_id, link_id),
            public_token_id=link_id,
            is_link=True,
        )
        await self._router.command(str(found["session_id"]), command)
        return await self._info(await self._ledger.get_public_token(link_id), wait_id)

    async def find(self, hashed: str) -> LiveLink | None:
        """The link with this secret, if it is live. Reads the ledger: a revocation counts at once."""
        found = await self._ledger.find_public_token(hashed)
        if found is None:
            return None
        token = ScopedToken.from_json(found["state"])
        scope = token.scope
        if scope.type is not ScopeType.WAIT_ANSWER or not _is_live(token, self._clock.now()):
            return None
        return LiveLink(token.id, scope.wait_id or "", scope.person or "")

    async def _info(self, found: Json, wait_id: str) -> AnswerLinkInfo:
        token = ScopedToken.from_json(found["state"])
        wait = await self._ledger.get_wait(wait_id)
        is_pending = wait["status"] == WaitStatus.PENDING.value
        return AnswerLinkInfo(
            id=token.id,
            wait_id=wait_id,
            session_id=found["session_id"],
            person=token.scope.person or "",
            created_at=token.created_at,
            expires_at=token.expires_at,
            revoked_at=token.revoked_at,
            is_live=is_pending and _is_live(token, self._clock.now()),
        )


def _is_live(token: ScopedToken, now: datetime) -> bool:
    return token.revoked_at is None and now < token.expires_at


def _expires_at(request: AnswerLinkRequest, wait: Json, now: datetime) -> datetime:
    """The earlier of the wait's deadline and the requested expiry, at most 7 days from now.

    Raises:
        BadRequest: More than 7 days are requested.
    """
    ends = [now + EXPIRES_IN_MAX]
    if request.expires_in is not None:
        asked = timedelta(seconds=seconds(request.expires_in))
        if asked > EXPIRES_IN_MAX:
            raise BadRequest(
                f"expires_in: an answer link lives at most {EXPIRES_IN_MAX.days} days",
                hint="Make another link when it is needed.",
            )
        ends.append(now + asked)
    if wait["deadline_at"] is not None:
        ends.append(from_iso(wait["deadline_at"]))
    return min(ends)
