"""Query strings of lists and feeds. Unknown parameters are refused: a misspelt filter would match all.

A list's query is one value from the query string to the tables and to memory: a filter is a field here, and names the
column that it is compared with. The `…Wanted` beside each are the same filters as keyword arguments of the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, TypedDict

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from helmr import ids
from helmr.models.common import (
    ASSIGNEE_MAX,
    BATCH_ID_PATTERN,
    EXTERNAL_ID_MAX,
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    PERSON_MAX,
    TOKEN_TAG_MAX,
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

GATE_TIMEOUT_MAX_S = 86_400.0
"""Longest that an agent's hook may wait."""

ANSWERABLE = (WaitKind.INPUT, WaitKind.TOKEN)
"""What the inbox shows unless asked: a timer waits for no person."""


SESSION_IDS = frozenset({"session_id", "forked_from", "parent"})
"""Filters that hold the id of a session."""


class Query(BaseModel):
    """Base of query strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ListQuery(Query):
    """What every list takes."""

    limit: int = Field(default=LIST_LIMIT_DEFAULT, ge=1, le=LIST_LIMIT_MAX)
    cursor: str | None = Field(default=None, min_length=1, max_length=2_000)

    def given(self) -> dict[str, Any]:
        """Its values but those left out, as JSON types and datetimes.

        Raises:
            BadId: A filter by session holds no session's id.
        """
        found = {name: value for name, value in self if value is not None and value is not False}
        for name in SESSION_IDS & found.keys():
            ids.check_id(found[name], ids.SESSION)
        return {name: _plain(value) for name, value in found.items()}

    def filters(self) -> dict[str, Any]:
        """What of `given` must hold of an item."""
        return {
            name: value for name, value in self.given().items() if name not in ("limit", "cursor")
        }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


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
    """Of sessions that are over, none is `idle`."""
    tag: str | None = Field(default=None, min_length=1, max_length=200)
    forked_from: str | None = Field(default=None, min_length=1, max_length=64)
    parent: str | None = Field(default=None, min_length=1, max_length=64)
    run_status: RunStatus | None = None
    """Of the newest run."""


class SessionsWanted(TypedDict, total=False):
    """Filters of the sessions' list, by name.

    Attributes:
        external_id: Only the session with this id of yours.
        status: `open`, `closed` or `cancelled`.
        activity: `idle`, `queued`, `running`, `waiting` or `blocked`.
        tag: Only sessions with this tag.
        forked_from: Only forks of the session with this id.
        parent: Only children of the session with this id.
        run_status: Only sessions whose newest run has this status.
    """

    external_id: str | None
    status: str | None
    activity: str | None
    tag: str | None
    forked_from: str | None
    parent: str | None
    run_status: str | None


class RunsQuery(ListQuery):
    """Filters of the runs' list; all given ones must hold."""

    session_id: str | None = Field(default=None, min_length=1, max_length=64)
    task: str | None = Field(default=None, min_length=1, max_length=200)
    status: RunStatus | None = None


Name = Annotated[str, Field(min_length=1, max_length=PERSON_MAX)]
NAMES_MAX = 200


class WaitsQuery(ListQuery):
    """Filters of the inbox; all given ones must hold."""

    status: WaitStatus = WaitStatus.PENDING
    kind: list[WaitKind] = Field(default=list(ANSWERABLE), min_length=1, max_length=len(WaitKind))
    task: str | None = Field(default=None, min_length=1, max_length=200)
    stream: str | None = Field(default=None, min_length=1, max_length=128)
    session_id: str | None = Field(default=None, min_length=1, max_length=64)
    priority: WaitPriority | None = None
    tag: str | None = Field(default=None, min_length=1, max_length=TOKEN_TAG_MAX)
    """Of the wait or of its session."""
    assignee: str | None = Field(default=None, min_length=1, max_length=ASSIGNEE_MAX)
    batch_id: str | None = Field(default=None, pattern=BATCH_ID_PATTERN)
    resolved_since: AwareDatetime | None = None
    """Over at that time or later."""
    mine: bool = Field(
        default=False,
        description="Of the caller, who is a person: as `concerns` with their names and groups.",
    )
    can_answer: bool = Field(
        default=False,
        description="The caller, who is a person, may answer it, and has not: as `answerable_by`.",
    )
    concerns: list[Name] | None = Field(default=None, min_length=1, max_length=NAMES_MAX)
    """Assigned to one of these people and groups, or its answerers name one (S-112)."""
    answerable_by: list[Name] | None = Field(default=None, min_length=1, max_length=NAMES_MAX)
    """A person with these names and groups may answer it, and has not (S-112)."""
    voter: str | None = Field(default=None, min_length=1, max_length=PERSON_MAX)
    """This person's vote is there (S-113)."""
    answered_by: str | None = Field(default=None, min_length=1, max_length=PERSON_MAX)
    """This person's answer ended it, or their vote is there."""


class WaitsWanted(TypedDict, total=False):
    """Filters of the inbox, by name.

    Attributes:
        status: `pending`, `fulfilled`, `timed_out` or `cancelled`; pending ones unless asked.
        kind: One or more of `input`, `token`, `timer`, `session`; input and token unless asked.
        stream: On this stream.
        session_id: Of this session.
        priority: `low`, `normal` or `high`.
        tag: Of the wait or of its session.
        assignee: Exactly this one.
        batch_id: Answered as one of this batch.
        resolved_since: Over at this time, which has a zone, or later.
        mine: Assigned to the caller, who is a person, or to their groups; or its answerers name one of these.
        can_answer: The caller, who is a person, may answer it, and has not.
        concerns: As `mine`, of these people and groups.
        answerable_by: As `can_answer`, of a person with these names and groups.
        voter: This person's vote is there.
        answered_by: The answer of the person with this id ended it, or their vote is there.
    """

    status: str | None
    kind: str | Iterable[str] | None
    stream: str | None
    session_id: str | None
    priority: str | None
    tag: str | None
    assignee: str | None
    batch_id: str | None
    resolved_since: datetime | None
    mine: bool
    can_answer: bool
    concerns: Iterable[str] | None
    answerable_by: Iterable[str] | None
    voter: str | None
    answered_by: str | None


class TokensQuery(ListQuery):
    """Filters of the tokens' list; all given ones must hold."""

    status: TokenStatus | None = None
    tag: str | None = Field(default=None, min_length=1, max_length=TOKEN_TAG_MAX)


class GateQuery(Query):
    """How an agent's client asks."""

    mode: str = Field(default="interactive", pattern="^(interactive|headless|rules)$")
    timeout_s: float = Field(
        default=60.0, ge=0, le=GATE_TIMEOUT_MAX_S, description="Of its hook; answered 10 s before."
    )
    client: str = Field(default="claude-code", pattern="^(claude-code|codex)$")
    run: str | None = Field(
        default=None, min_length=1, max_length=64, description="The session in which it runs."
    )
    rules: str | None = Field(
        default=None, max_length=64, description="Mode `rules`: the hash of those that it has."
    )
