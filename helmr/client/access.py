"""Of an `AsyncClient`: tokens, public tokens, API keys, people, grants, outcomes, schedules and notice targets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal

from helmr.client.calls import check_schedule_name, given, task_id
from helmr.client.http import ClientPart, all_pages
from helmr.durations import Duration, seconds
from helmr.escalation import EscalationStep, escalation_json
from helmr.models import (
    ApiKeyInfo,
    ApiKeyReceipt,
    CompleteReceipt,
    FileKeyInfo,
    GatedCallInfo,
    GrantInfo,
    Missed,
    NoticeRetryReceipt,
    NoticeTargetInfo,
    NoticeTestReceipt,
    Overlap,
    Page,
    PersonInfo,
    PublicTokenInfo,
    PublicTokenReceipt,
    ScheduleInfo,
    ScheduleReceipt,
    SignInInfo,
    StartReceipt,
    TokenInfo,
    TokenReceipt,
    WhoAmI,
)
from helmr.operations import (
    ADD_SIGNING_KEY,
    CANCEL_TOKEN,
    COMPLETE_TOKEN,
    CREATE_API_KEY,
    CREATE_GRANT,
    CREATE_PUBLIC_TOKEN,
    CREATE_SCHEDULE,
    CREATE_TOKEN,
    DELETE_SCHEDULE,
    DISABLE_PERSON,
    ENABLE_PERSON,
    GET_GRANT,
    GET_PERSON,
    GET_SCHEDULE,
    GET_TOKEN,
    HOW_TO_SIGN_IN,
    LIST_API_KEYS,
    LIST_FILE_KEYS,
    LIST_GRANTS,
    LIST_NOTICE_TARGETS,
    LIST_PEOPLE,
    LIST_PUBLIC_TOKENS,
    LIST_SCHEDULES,
    LIST_TOKENS,
    LIST_UNKNOWN_OUTCOMES,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    RETRY_NOTICE_TARGET,
    REVOKE_API_KEY,
    REVOKE_GRANT,
    REVOKE_PUBLIC_TOKEN,
    REVOKE_SIGNING_KEY,
    RUN_SCHEDULE,
    SAY_OUTCOME,
    TELL_NOTICE_TARGET_A_TEST,
    UNBIND_PERSON,
    WHO_AM_I,
)
from helmr.schema import codec_of, json_schema
from helmr.tasks import AnyTask, Task
from helmr.tokens import Verify
from helmr.wait_details import metadata_object, tag_list


class AsyncTokens(ClientPart):
    """Tokens of all sessions, and those that programs make."""

    async def create(
        self,
        *,
        timeout: Duration | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        schema: Any = None,
        raw: bool = False,
        verify: Verify | None = None,
        subject: str | None = None,
        body: str | None = None,
        initial: Any = None,
        escalation: Iterable[EscalationStep] = (),
        allowed_origins: Iterable[str] = (),
        operation_id: str | None = None,
    ) -> TokenReceipt:
        """Make a token; any task may wait on it by its id (S-40).

        `escalation` is for waits on it that have neither one nor a schema of their own: see `helmr.escalation`.

        Returns:
            The token with its callback URL and public token, which are shown here only.

        Raises:
            BadSchema, BadRequest: Schema, verification, tag or origin can't be used.
            BadEscalation, SchemaMismatch: The escalation can't be run, or its default does not fit.
        """
        timeout_s = seconds(timeout) if timeout is not None else None
        steps = escalation_json(
            escalation, codec_of(schema, what="the escalation's default"), timeout_s
        )
        body_parts = {
            "timeout": timeout_s,
            "tags": list(tag_list(tags)) or None,
            "metadata": metadata_object(metadata) or None,
            "schema": json_schema(schema),
            "raw": raw or None,
            "verify": _verification(verify),
            "subject": subject,
            "body": body,
            "initial": initial,
            "escalation": list(steps) or None,
            "allowed_origins": list(allowed_origins) or None,
        }
        return await self._ask(CREATE_TOKEN, body=given(body_parts), operation_id=operation_id)

    async def get(self, token_id: str) -> TokenInfo:
        """The token in full, with its data once it is completed.

        Raises:
            TokenNotFound: There is none.
        """
        return await self._ask(GET_TOKEN, token_id)

    def list(
        self, *, status: str | None = None, tag: str | None = None, limit: int | None = None
    ) -> AsyncIterator[TokenInfo]:
        """Every token that fits, newest first, page by page."""
        return all_pages(
            lambda cursor: self.page(status=status, tag=tag, limit=limit, cursor=cursor)
        )

    async def page(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[TokenInfo]:
        """One page of `list`."""
        query = {"status": status, "tag": tag, "limit": limit, "cursor": cursor}
        return await self._ask(LIST_TOKENS, query=query)

    async def complete(
        self,
        token_id: str,
        data: Any,
        *,
        public_access_token: str | None = None,
        operation_id: str | None = None,
    ) -> CompleteReceipt:
        """Complete a token; the first one wins (S-41).

        Raises:
            TokenNotFound: There is none.
            SchemaMismatch: The data does not fit its schema; nothing happened.
            TokenCompleted, TokenExpired, TokenCancelled: It has ended; says when and by whom.
        """
        return await self._ask(
            COMPLETE_TOKEN,
            token_id,
            body={"data": data},
            operation_id=operation_id,
            bearer=public_access_token,
        )

    async def cancel(self, token_id: str, *, operation_id: str | None = None) -> TokenInfo:
        """Cancel a token and the waits on it; cancelling a cancelled one changes nothing."""
        return await self._ask(CANCEL_TOKEN, token_id, operation_id=operation_id)


class AsyncAuth(ClientPart):
    """Public tokens: scoped secrets that a browser may hold (S-44)."""

    async def create_public_token(
        self,
        *,
        scope: Mapping[str, Any],
        max_uses: int | None = None,
        expires_in: Duration | None = None,
        allowed_origins: Iterable[str] = (),
        operation_id: str | None = None,
    ) -> PublicTokenReceipt:
        """Make a public token.

        Args:
            scope: From `auth.send_to`, `auth.read_from` or `auth.complete`, with its session.
            max_uses: Accepted sends or completions; None is unlimited.
            expires_in: 30 days if not given.
            allowed_origins: Web pages whose scripts may use it; without any, only programs may.
            operation_id: Names the call, to repeat it.

        Raises:
            BadRequest: The scope, an origin or the number of uses can't be used.
            SessionNotFound, StreamNotFound, TokenNotFound: What the scope names is not there.
        """
        body = {
            "scope": dict(scope),
            "max_uses": max_uses,
            "expires_in": seconds(expires_in) if expires_in is not None else None,
            "allowed_origins": list(allowed_origins) or None,
        }
        return await self._ask(CREATE_PUBLIC_TOKEN, body=given(body), operation_id=operation_id)

    def list(self, *, limit: int | None = None) -> AsyncIterator[PublicTokenInfo]:
        """Public tokens, newest first, with the uses they have left."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[PublicTokenInfo]:
        """One page of `list`."""
        return await self._ask(LIST_PUBLIC_TOKENS, query={"limit": limit, "cursor": cursor})

    async def revoke(
        self, public_token_id: str, *, operation_id: str | None = None
    ) -> PublicTokenInfo:
        """Revoke a public token; revoking again changes nothing.

        Raises:
            KeyNotFound: There is none.
        """
        return await self._ask(REVOKE_PUBLIC_TOKEN, public_token_id, operation_id=operation_id)


class AsyncKeys(ClientPart):
    """API keys; for an admin."""

    async def create(
        self,
        role: str | None = None,
        *,
        name: str | None = None,
        person: str | None = None,
        expires_in: Duration | None = None,
        operation_id: str | None = None,
    ) -> ApiKeyReceipt:
        """Make an API key, of a service or of a person. Its secret is shown here only.

        Args:
            role: Of a service's: admin, operator, sender, viewer or asker. A person's key may do what the person may.
            name: Who uses it.
            person: Whose it is, by id or e-mail.
            expires_in: Afterwards it opens nothing.

        Raises:
            PersonNotFound: The runtime knows no such person.
        """
        body = given({"role": role, "name": name, "person": person})
        if expires_in is not None:
            body["expires_in"] = seconds(expires_in)
        return await self._ask(CREATE_API_KEY, body=body, operation_id=operation_id)

    def list(self, *, limit: int | None = None) -> AsyncIterator[ApiKeyInfo]:
        """API keys, newest first, revoked ones too."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[ApiKeyInfo]:
        """One page of `list`."""
        return await self._ask(LIST_API_KEYS, query={"limit": limit, "cursor": cursor})

    async def revoke(self, key_id: str, *, operation_id: str | None = None) -> ApiKeyInfo:
        """Revoke an API key; it opens nothing from now on.

        Raises:
            KeyNotFound: There is none.
        """
        return await self._ask(REVOKE_API_KEY, key_id, operation_id=operation_id)

    async def public(self) -> Page[FileKeyInfo]:
        """The public keys by which session files of this runtime are verified, the newest first; for a viewer too."""
        return await self._ask(LIST_FILE_KEYS)


class AsyncPeople(ClientPart):
    """People (S-111): who calls, who there is, who may act no more."""

    async def whoami(self) -> WhoAmI:
        """Who this client is to the runtime."""
        return await self._ask(WHO_AM_I)

    async def sign_in(self) -> SignInInfo:
        """Where people sign in; all null of a runtime without an issuer. Needs no key."""
        return await self._ask(HOW_TO_SIGN_IN)

    def list(self, *, limit: int | None = None) -> AsyncIterator[PersonInfo]:
        """People by id."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[PersonInfo]:
        """One page of `list`."""
        return await self._ask(LIST_PEOPLE, query={"limit": limit, "cursor": cursor})

    async def get(self, person: str) -> PersonInfo:
        """A person, by id or e-mail.

        Raises:
            PersonNotFound: The runtime knows no such person.
        """
        return await self._ask(GET_PERSON, person)

    async def disable(
        self, person: str, *, reason: str | None = None, operation_id: str | None = None
    ) -> PersonInfo:
        """Let a person act no more, from now on; for an admin.

        Their keys and answer links end at once, their claims and assignments are given back.

        Raises:
            PersonNotFound: The runtime knows no such person.
        """
        body = given({"reason": reason})
        return await self._ask(DISABLE_PERSON, person, body=body, operation_id=operation_id)

    async def enable(self, person: str, *, operation_id: str | None = None) -> PersonInfo:
        """Let a person act again; what disabling has ended stays ended.

        Raises:
            PersonNotFound: The runtime knows no such person.
        """
        return await self._ask(ENABLE_PERSON, person, operation_id=operation_id)

    async def add_key(
        self, person: str, *, key: str, operation_id: str | None = None
    ) -> PersonInfo:
        """Register a public SSH key that signs a person's answers (S-115); for an admin.

        Args:
            person: Whose, by id or e-mail.
            key: The line of a `.pub` file.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            PersonNotFound: The runtime knows no such person.
            BadRequest: It is not a key that signs answers.
            Conflict: It is another person's, or was revoked.
        """
        return await self._ask(
            ADD_SIGNING_KEY, person, body={"key": key}, operation_id=operation_id
        )

    async def revoke_key(
        self,
        person: str,
        *,
        fingerprint: str,
        reason: str | None = None,
        operation_id: str | None = None,
    ) -> PersonInfo:
        """Revoke a key of `add_key`: it signs nothing from now on. What it has signed stays signed; for an admin.

        Raises:
            PersonNotFound: The runtime knows no such person.
            KeyNotFound: They have no key with this fingerprint, `SHA256:…`.
        """
        body = given({"fingerprint": fingerprint, "reason": reason})
        return await self._ask(REVOKE_SIGNING_KEY, person, body=body, operation_id=operation_id)

    async def unbind(self, person: str, *, operation_id: str | None = None) -> PersonInfo:
        """Forget what a person has signed in as; the next sign-in with their e-mail binds them.

        Raises:
            PersonNotFound: The runtime knows no such person.
        """
        return await self._ask(UNBIND_PERSON, person, operation_id=operation_id)


class AsyncGrants(ClientPart):
    """Standing grants: what a person has allowed for a while in one agent's session (S-107)."""

    def list(self, *, limit: int | None = None) -> AsyncIterator[GrantInfo]:
        """Grants, newest first, those that are over too."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page[GrantInfo]:
        """One page of `list`."""
        return await self._ask(LIST_GRANTS, query={"limit": limit, "cursor": cursor})

    async def get(self, grant_id: str) -> GrantInfo:
        """A grant.

        Raises:
            GrantNotFound: There is none.
        """
        return await self._ask(GET_GRANT, grant_id)

    async def create(
        self,
        session_id: str,
        *,
        matches: Mapping[str, str | Sequence[str]] | None = None,
        expires_in: Duration | None = None,
        operation_id: str | None = None,
    ) -> GrantInfo:
        """Allow an agent's calls of one tool for a while. It answers no wait.

        Args:
            session_id: The session of a call: the grant is for the same agent's session and tool.
            matches: Globs for arguments, `{"command": "git push*"}`; empty: whatever they are; None: as in this call.
            expires_in: How long it counts; 8 hours, at most 7 days.
            operation_id: Names the call, to repeat it.

        Raises:
            SessionNotFound: It names no call of an agent.
            Conflict: A person has denied the call, or the globs do not match it.
            BadRequest: The globs or the time can't be used.
        """
        body: dict[str, Any] = {"session_id": session_id}
        if matches is not None:
            body["matches"] = {
                name: one if isinstance(one, str) else [*one] for name, one in matches.items()
            }
        if expires_in is not None:
            body["expires_in"] = seconds(expires_in)
        return await self._ask(CREATE_GRANT, body=body, operation_id=operation_id)

    async def revoke(self, grant_id: str, *, operation_id: str | None = None) -> GrantInfo:
        """Revoke a grant: the agent's next call is asked about.

        Raises:
            GrantNotFound: There is none.
        """
        return await self._ask(REVOKE_GRANT, grant_id, operation_id=operation_id)


class AsyncOutcomes(ClientPart):
    """Approved calls of agents of which no one knows what became (S-108)."""

    def list(self, *, limit: int | None = None) -> AsyncIterator[GatedCallInfo]:
        """Approved calls that may have been made and are not reported, newest first."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[GatedCallInfo]:
        """One page of `list`; it may have fewer calls than asked for."""
        return await self._ask(LIST_UNKNOWN_OUTCOMES, query={"limit": limit, "cursor": cursor})

    async def say(
        self, session_id: str, *, outcome: Literal["succeeded", "failed", "not_made"]
    ) -> GatedCallInfo:
        """Say what became of an approved call, as far as you have found out; the first word counts.

        Args:
            session_id: The session of the call.
            outcome: What became of it; `not_made` if its effect is nowhere to be seen.

        Raises:
            SessionNotFound: It names no call of an agent.
            Conflict: No one has approved the call.
        """
        return await self._ask(SAY_OUTCOME, session_id, body={"outcome": outcome})


class AsyncSchedules(ClientPart):
    """What starts sessions by the clock (S-93)."""

    async def create(
        self,
        name: str,
        *,
        task: str | AnyTask,
        payload: Any = None,
        cron: str | None = None,
        every: Duration | None = None,
        zone: str = "UTC",
        missed: Missed = "latest",
        overlap: Overlap = "skip",
        operation_id: str | None = None,
    ) -> ScheduleInfo:
        """Make a schedule; its due times count from now.

        Args:
            name: Names it; a schedule that code declares bears its task's id.
            task: The task, or its id.
            payload: What each session gets.
            cron: Five fields, like `0 3 * * mon-fri`; or else `every`.
            every: At whole multiples of this duration.
            zone: Time zone of `cron`.
            missed: What becomes of due times that passed while no runtime was up: `skip`, `latest`, `all`.
            overlap: Whether a session may start while the one before is active: `skip`, `allow`.
            operation_id: Names the call, to repeat it.

        Raises:
            BadDefinition: The name can't be used.
            BadRequest: The times can't be read, or never come.
            TaskNotFound: With the tasks there are.
            SchemaMismatch: The payload does not fit.
            Conflict: There is one of that name.
        """
        if isinstance(task, Task):
            payload = task.encode_payload(payload)
        check_schedule_name(name)
        body = {
            "name": name,
            "task": task_id(task),
            "payload": payload,
            "cron": cron,
            "every": seconds(every) if every is not None else None,
            "zone": zone,
            "missed": missed,
            "overlap": overlap,
        }
        return await self._ask(CREATE_SCHEDULE, body=body, operation_id=operation_id)

    async def get(self, name: str) -> ScheduleInfo:
        """A schedule, and when it is due next.

        Raises:
            ScheduleNotFound: There is none.
        """
        return await self._ask(GET_SCHEDULE, name)

    def list(self, *, limit: int | None = None) -> AsyncIterator[ScheduleInfo]:
        """Every schedule, by name, page by page."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[ScheduleInfo]:
        """One page of `list`."""
        return await self._ask(LIST_SCHEDULES, query={"limit": limit, "cursor": cursor})

    async def pause(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Pause a schedule, over restarts too; pausing again changes nothing."""
        return await self._ask(PAUSE_SCHEDULE, name, operation_id=operation_id)

    async def resume(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Go on with a paused schedule; what was due meanwhile was not missed."""
        return await self._ask(RESUME_SCHEDULE, name, operation_id=operation_id)

    async def run(self, name: str, *, operation_id: str | None = None) -> StartReceipt:
        """Start a session as the schedule does, now; its due times stay as they are.

        Raises:
            RunActive: The session before is active, and the schedule lets none run beside it.
        """
        return await self._ask(RUN_SCHEDULE, name, operation_id=operation_id)

    async def delete(self, name: str, *, operation_id: str | None = None) -> ScheduleReceipt:
        """Delete a schedule; the sessions that it started stay.

        Raises:
            Conflict: The code declares it.
        """
        return await self._ask(DELETE_SCHEDULE, name, operation_id=operation_id)


class AsyncNotices(ClientPart):
    """Notice targets: where notices that something waits go (S-84). The runtime's `helmr.toml` declares them."""

    async def list(self) -> list[NoticeTargetInfo]:
        """Every target, and how far it is."""
        page: Page[NoticeTargetInfo] = await self._ask(LIST_NOTICE_TARGETS)
        return page.items

    async def test(self, name: str) -> NoticeTestReceipt:
        """Send a target a test notice; the receipt says whether the target took it.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._ask(TELL_NOTICE_TARGET_A_TEST, name)

    async def retry(self, name: str) -> NoticeRetryReceipt:
        """Send now the notices that a target has not taken, late ones too.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._ask(RETRY_NOTICE_TARGET, name)


def _verification(verify: Verify | None) -> dict[str, Any] | None:
    if verify is None:
        return None
    return {
        "scheme": verify.scheme,
        "secret": verify.secret,
        "tolerance_s": verify.tolerance_s,
    }
