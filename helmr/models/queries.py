"""Query strings of lists and feeds. Unknown parameters are refused: a misspelt filter would match all."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from helmr.models.limits import (
    ASSIGNEE_MAX,
    BATCH_ID_PATTERN,
    EXTERNAL_ID_MAX,
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    TOKEN_TAG_MAX,
)
from helmr.models.notices import NOTICE_TARGET_NAME, NOTICE_TARGET_NAME_MAX
from helmr.models.statuses import (
    Activity,
    RunStatus,
    SessionStatus,
    TokenStatus,
    WaitKind,
    WaitPriority,
    WaitStatus,
)

SEQ_MAX = 2**53
"""No seq or offset comes near; what is beyond no reader of JSON keeps exact."""

COPY_WAIT_MAX_S = 20.0
"""Longest that a follower's call is held open."""

ANSWERABLE = (WaitKind.INPUT, WaitKind.TOKEN)
"""What the inbox shows unless asked: a timer waits for no person."""


class Query(BaseModel):
    """Base of query strings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListQuery(Query):
    """What every list takes."""

    limit: int = Field(default=LIST_LIMIT_DEFAULT, ge=1, le=LIST_LIMIT_MAX)
    cursor: str | None = Field(default=None, min_length=1, max_length=2_000)


class AfterQuery(ListQuery):
    """A list by seq."""

    after: int | None = Field(default=None, ge=0, le=SEQ_MAX)


class OutputQuery(ListQuery):
    """An output stream, read or followed."""

    after: int | None = Field(default=None, ge=0, le=SEQ_MAX)
    chunks: bool = Field(
        default=False, description="Follow what the code emits too, which is not stored."
    )


class FollowQuery(Query):
    """A feed by offset."""

    after: int | None = Field(
        default=None, ge=0, le=SEQ_MAX, description="Feed offset; without it the feed begins now."
    )


class SessionsQuery(ListQuery):
    """Filters of the sessions' list; all given ones must hold."""

    external_id: str | None = Field(default=None, min_length=1, max_length=EXTERNAL_ID_MAX)
    task: str | None = Field(default=None, min_length=1, max_length=200)
    status: SessionStatus | None = None
    activity: Activity | None = None
    tag: str | None = Field(default=None, min_length=1, max_length=200)
    forked_from: str | None = Field(default=None, min_length=1, max_length=64)
    parent: str | None = Field(default=None, min_length=1, max_length=64)
    run_status: RunStatus | None = None
    """Of the newest run."""


class RunsQuery(ListQuery):
    """Filters of the runs' list; all given ones must hold."""

    session_id: str | None = Field(default=None, min_length=1, max_length=64)
    task: str | None = Field(default=None, min_length=1, max_length=200)
    status: RunStatus | None = None


class WaitsQuery(ListQuery):
    """Filters of the inbox; all given ones must hold."""

    status: WaitStatus = WaitStatus.PENDING
    kind: list[WaitKind] = Field(default=list(ANSWERABLE), min_length=1, max_length=len(WaitKind))
    task: str | None = Field(default=None, min_length=1, max_length=200)
    stream: str | None = Field(default=None, min_length=1, max_length=128)
    session_id: str | None = Field(default=None, min_length=1, max_length=64)
    priority: WaitPriority | None = None
    tag: str | None = Field(default=None, min_length=1, max_length=TOKEN_TAG_MAX)
    assignee: str | None = Field(default=None, min_length=1, max_length=ASSIGNEE_MAX)
    batch_id: str | None = Field(default=None, pattern=BATCH_ID_PATTERN)
    resolved_since: AwareDatetime | None = None


class TokensQuery(ListQuery):
    """Filters of the tokens' list; all given ones must hold."""

    status: TokenStatus | None = None
    tag: str | None = Field(default=None, min_length=1, max_length=TOKEN_TAG_MAX)


class CopyQuery(Query):
    """Where a follower of the ledger is."""

    after: int = Field(default=0, ge=0, le=SEQ_MAX, description="Feed offset of its last entry.")
    hash: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="That entry's hash."
    )
    nil_offset: int = Field(
        default=0, ge=0, le=SEQ_MAX, description="Of its last entry of the nil session."
    )
    nil_hash: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    wait_s: float = Field(default=0.0, ge=0, le=COPY_WAIT_MAX_S)
    follower: str | None = Field(
        default=None,
        max_length=NOTICE_TARGET_NAME_MAX,
        pattern=NOTICE_TARGET_NAME,
        description="By which `/readyz` and `/metrics` say how far it is.",
    )
