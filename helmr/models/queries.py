"""Query strings of lists and feeds. Unknown parameters are errors, since a misspelt filter would match everything.

One value carries a list's query from the query string to the tables and to memory. A filter is a field here, named
after its column. The `…Wanted` beside each are the same filters as keyword arguments of the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, TypedDict

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

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
from helmr.wire import ids

SEQ_MAX = 2**53
"""Largest seq and offset, far beyond real ones; JSON readers lose precision above it."""

GATE_TIMEOUT_MAX_S = 86_400.0
"""Longest wait of an agent's hook, in seconds."""

ANSWERABLE = (WaitKind.INPUT, WaitKind.TOKEN)
"""Kinds that the inbox shows by default: no person answers a timer."""


SESSION_IDS = frozenset({"session_id", "forked_from", "parent"})
"""Filters whose value is the id of a session."""


class Query(BaseModel):
    """Base of query strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ListQuery(Query):
    """Base of the lists' query strings."""

    limit: int = Field(default=LIST_LIMIT_DEFAULT, ge=1, le=LIST_LIMIT_MAX)
    cursor: str | None = Field(default=None, min_length=1, max_length=2_000)

    def given(self) -> dict[str, Any]:
        """Return its given values, as JSON types and datetimes.

        Raises:
            BadId: A filter by session holds an invalid id.
        """
        found = {name: value for name, value in self if value is not None and value is not False}
        for name in SESSION_IDS & found.keys():
            ids.check_id(found[name], ids.SESSION)
        return {name: _plain(value) for name, value in found.items()}

    def filters(self) -> dict[str, Any]:
        """Return the values of `given` that an item must match."""
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
    """Activity of the session; one that is over never counts as `idle`."""
    tag: str | None = Field(default=None, min_length=1, max_length=200)
    forked_from: str | None = Field(default=None, min_length=1, max_length=64)
    parent: str | None = Field(default=None, min_length=1, max_length=64)
    run_status: RunStatus | None = None
    """Status of the newest run."""


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
    """A tag of the wait or of its session."""
    assignee: str | None = Field(default=None, min_length=1, max_length=ASSIGNEE_MAX)
    batch_id: str | None = Field(default=None, pattern=BATCH_ID_PATTERN)
    resolved_since: AwareDatetime | None = None
    """Ended at that time or later."""
    mine: bool = Field(
        default=False,
        description="Of the caller, who is a person: as `concerns` with their names and groups.",
    )
    can_answer: bool = Field(
        default=False,
        description="The caller, who is a person, may answer it, and has not: as `answerable_by`.",
    )
    concerns: list[Name] | None = Field(default=None, min_length=1, max_length=NAMES_MAX)
    """Its assignee or answerers include one of these people and groups (S-112)."""
    answerable_by: list[Name] | None = Field(default=None, min_length=1, max_length=NAMES_MAX)
    """A person with these names and groups may answer it, and has not (S-112)."""
    voter: str | None = Field(default=None, min_length=1, max_length=PERSON_MAX)
    """This person has voted (S-113)."""
    answered_by: str | None = Field(default=None, min_length=1, max_length=PERSON_MAX)
    """This person's answer ended it, or they have voted."""


class WaitsWanted(TypedDict, total=False):
    """Filters of the inbox, by name.

    Attributes:
        status: `pending`, `fulfilled`, `timed_out` or `cancelled`; default pending.
        kind: One or more of `input`, `token`, `timer`, `session`; default input and token.
        stream: Only waits on this stream.
        session_id: Only waits of this session.
        priority: `low`, `normal` or `high`.
        tag: A tag of the wait or of its session.
        assignee: Exactly this assignee.
        batch_id: Answered in this batch.
        resolved_since: Ended at this time, which has a zone, or later.
        mine: Assigned to the caller, a person, or their groups, or with one of these as answerer.
        can_answer: The caller, a person, may answer it, and has not.
        concerns: Like `mine`, for these people and groups.
        answerable_by: Like `can_answer`, for a person with these names and groups.
        voter: This person has voted.
        answered_by: The answer of the person with this id ended it, or they have voted.
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
    """Query string of an agent's client."""

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
