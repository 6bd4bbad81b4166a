"""Tokens: one-shot capabilities that an outside system or a person behind a link completes.

```python
token = await tokens.create(timeout="2d", tags=["release"])
await send_mail(link=token.callback_url)  # a @step
decision = await token.wait(schema=Decision).unwrap()
```

A replay gives the same token with the same secrets, so a task that parks between `create` and its use sends the same
URL afterwards. Secrets are derived, never recorded. Results of steps are recorded, so a step must not return the URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from helmr.current import TokenCall, TokenMade, WaitCall, durable_call, require_run
from helmr.errors import SchemaMismatch
from helmr.escalation import EscalationStep, escalation_json
from helmr.evidence import Diff, Links, evidence
from helmr.models import CompleteReceipt, TokenInfo
from helmr.streams import Fulfilled, PendingWait, WaitResult, unfulfilled
from helmr.wait_details import WaitOptions, metadata_object, tag_list
from helmr.wait_options import (
    JSON,
    details,
    fitted_body,
    fitted_subject,
    require_unrestricted,
)
from helmr.wire import ids
from helmr.wire.durations import Duration, seconds
from helmr.wire.schema import codec_of, json_schema, schema_digest

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

TIMEOUT_DEFAULT: Duration = "7d"
"""S-40."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """The signature scheme and secret of a provider that posts to a token's callback URL (S-42).

    Attributes:
        scheme: `github` (X-Hub-Signature-256), `slack` (X-Slack-Signature) or `standard_webhooks`.
        secret: The secret that the provider signs with; stored encrypted.
        tolerance_s: Largest difference in seconds between the signed time and ours.
    """

    scheme: Literal["github", "slack", "standard_webhooks"]
    secret: str = field(repr=False)
    tolerance_s: int = 300


class Token:
    """A token that this run has made.

    Attributes:
        id: Its id, to wait on it from elsewhere: `tokens.wait(id)`.
        expires_at: The end of its validity.
        callback_url: The URL that completes it, by a POST or on the page that it shows. A secret.
        public_access_token: Completes it and does nothing else. A secret.

    In a fork, a token made by the origin stays the origin's: both secrets are then texts without effect.
    """

    def __init__(self, made: TokenMade) -> None:
        self.id = made.id
        self.expires_at: datetime = made.expires_at
        self.callback_url = made.callback_url
        self.public_access_token = made.public_access_token

    def __repr__(self) -> str:
        return f"Token({self.id!r})"

    @overload
    def wait(
        self,
        *,
        schema: type[T],
        timeout: Duration | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[T]: ...
    @overload
    def wait(
        self,
        *,
        schema: TypeForm[T],
        timeout: Duration | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[T]: ...
    @overload
    def wait(
        self,
        *,
        schema: Any = ...,
        timeout: Duration | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[Any]: ...
    def wait(
        self,
        *,
        schema: Any = None,
        timeout: Duration | None = None,
        **options: Unpack[WaitOptions],
    ) -> PendingWait[Any]:
        """Wait for its completion, like `tokens.wait(self.id, …)`."""
        return wait(self.id, schema=schema, timeout=timeout, **options)


@durable_call("tokens.create()")
async def create(
    *,
    timeout: Duration = TIMEOUT_DEFAULT,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    schema: Any = None,
    raw: bool = False,
    verify: Verify | None = None,
    subject: str | None = None,
    body: str | None = None,
    initial: Any = None,
    facts: Mapping[str, Any] | None = None,
    links: Links | None = None,
    diff: Diff | None = None,
    escalation: Iterable[EscalationStep] = (),
    allowed_origins: Iterable[str] = (),
) -> Token:
    """Make a token.

    Args:
        timeout: Afterwards it expires, and waits on it time out.
        tags: Tags to find it by.
        metadata: JSON that travels with it; at most 16 kB.
        schema: Any pydantic-compatible type that completions must fit.
        raw: True lets its callback URL take any body of an outside system, not only `{"data": …}`.
        verify: Require that bodies sent to its URL are signed by a provider.
        subject: One line for the person who opens the URL; beyond 200 characters it is shortened.
        body: Markdown for that person; beyond 1 MiB it is cut.
        initial: Initial value of the form behind the URL.
        facts: Evidence above the body, as of a wait; waits on the token without evidence of their own have it.
        links: As `facts`.
        diff: As `facts`.
        escalation: Escalation (`helmr.escalation`) of each wait on it that has neither one nor a schema of its own,
            counted from that wait's opening. Its default answers the wait; the token stays pending.
        allowed_origins: Web pages whose scripts may use its public token, such as `https://app.example.com`.

    Raises:
        BadSchema, BadRequest: Schema, verification, tag or origin can't be used.
        BadEscalation, SchemaMismatch: An escalation that can't be run, or whose default does not fit.
        UsageError: Evidence is too long, or no evidence.

    Durability: on disk before any later step starts.   Source: S-40, S-42, S-43.
    """
    signed = None
    if verify is not None:
        signed = {
            "scheme": verify.scheme,
            "secret": verify.secret,
            "tolerance_s": verify.tolerance_s,
        }
    timeout_s = seconds(timeout)
    call = TokenCall(
        timeout_s=timeout_s,
        tags=tag_list(tags),
        metadata=metadata_object(metadata),
        schema=json_schema(schema),
        is_raw=raw,
        verify=signed,
        subject=fitted_subject(subject),
        body=fitted_body(body),
        initial=JSON.encode(initial) if initial is not None else None,
        evidence=evidence(facts, links, diff),
        allowed_origins=tuple(allowed_origins),
        escalation=escalation_json(
            escalation, codec_of(schema, what="the escalation's default"), timeout_s
        ),
    )
    return Token(await require_run("tokens.create()").create_token(call))


@overload
def wait(
    token: Token | str,
    *,
    schema: type[T],
    timeout: Duration | None = None,
    **options: Unpack[WaitOptions],
) -> PendingWait[T]: ...
@overload
def wait(
    token: Token | str,
    *,
    schema: TypeForm[T],
    timeout: Duration | None = None,
    **options: Unpack[WaitOptions],
) -> PendingWait[T]: ...
@overload
def wait(
    token: Token | str,
    *,
    schema: Any = ...,
    timeout: Duration | None = None,
    **options: Unpack[WaitOptions],
) -> PendingWait[Any]: ...
def wait(
    token: Token | str,
    *,
    schema: Any = None,
    timeout: Duration | None = None,
    **options: Unpack[WaitOptions],
) -> PendingWait[Any]:
    """Wait for a token's completion; the token may be another session's. Several waits on one token all get it (S-40).

    Args:
        token: The token, or its id. An unknown id gives `WaitCancelled` with reason `token_not_found`.
        schema: Schema that later completions must fit, and that decodes the value (S-43). The newest wait's counts.
        timeout: Afterwards the result has `WaitTimeout`; without it the wait lasts as long as the token.
        options: Options for people: `WaitOptions`.

    Returns:
        A lazy awaitable: `await` gives a `WaitResult`, `.unwrap()` the value. An expired token times the wait out,
        a cancelled one cancels it.
    """
    token_id = ids.check_id(token.id if isinstance(token, Token) else token, ids.TOKEN)
    codec = codec_of(schema, what=f"token {token_id}")
    own = json_schema(schema)
    timeout_s = seconds(timeout) if timeout is not None else None
    require_unrestricted(options, "a wait on a token")
    call = WaitCall(
        kind="token",
        token_id=token_id,
        timeout_s=timeout_s,
        details=details(
            options,
            codec,
            schema=own,
            shown_digest=schema_digest(own) if own is not None else None,
            timeout_s=timeout_s,
        ),
    )

    async def perform() -> WaitResult[Any]:
        run = require_run("tokens.wait()")
        outcome = await run.wait(call)
        if outcome.status != "fulfilled":
            return unfulfilled(outcome)
        try:
            return Fulfilled(value=codec.decode(outcome.data))
        except SchemaMismatch as error:
            message = f"the completion of {token_id} does not fit: {error.message}"
            raise run.unreadable(outcome.op, message, error) from error

    return PendingWait("tokens.wait()", perform)


@durable_call("tokens.get()")
async def get(token_id: str) -> TokenInfo:
    """The token as it is now; a replay sees the same."""
    return TokenInfo.model_validate(await _call("get", token_id))


@durable_call("tokens.list()")
async def list(
    *, status: str | None = None, tag: str | None = None, limit: int = 50
) -> tuple[TokenInfo, ...]:
    """The newest tokens of that status and tag, at most `limit`; a replay sees the same."""
    arguments = {"status": status, "tag": tag, "limit": limit}
    found = await require_run("tokens.list()").token_call("list", None, arguments)
    return tuple(TokenInfo.model_validate(one) for one in found)


@durable_call("tokens.complete()")
async def complete(token_id: str, data: Any) -> CompleteReceipt:
    """Complete a token with JSON data (S-41).

    Raises:
        StepFailed: It was completed with other data, expired or cancelled; `.type` names the error.
    """
    return CompleteReceipt.model_validate(await _call("complete", token_id, data=data))


@durable_call("tokens.cancel()")
async def cancel(token_id: str) -> TokenInfo:
    """Cancel a token and the waits on it. Cancelling a cancelled one has no effect."""
    return TokenInfo.model_validate(await _call("cancel", token_id))


async def _call(method: str, token_id: str, **arguments: Any) -> Any:
    ids.check_id(token_id, ids.TOKEN)
    return await require_run(f"tokens.{method}()").token_call(method, token_id, arguments)
