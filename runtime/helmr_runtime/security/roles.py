"""Roles of API keys, and the one table of what each route needs.

Routes, docs/security.md and a test read `ROUTES`; a route that is not in it does not exist. Public
tokens and callback secrets have no role: their scope is the route's `public_scope` (S-44), or the
route is theirs alone.

Invariants: S-51 (`on_behalf_of` comes only from a key that may speak for others).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from helmr.errors import RoleDenied
from helmr.models import PERSON_MAX
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopeType

ON_BEHALF_OF_HEADER = "On-Behalf-Of"
ON_BEHALF_OF_MAX = PERSON_MAX


class Role(StrEnum):
    """What an API key may do."""

    ADMIN = "admin"
    OPERATOR = "operator"
    SENDER = "sender"
    VIEWER = "viewer"


class Need(StrEnum):
    """What a route asks of its caller."""

    NOTHING = "nothing"
    """Anybody who reaches the port; answers no data of a session."""
    SECRET = "secret"
    """The secret in the path is the right."""
    READ = "read"
    START = "start"
    SEND = "send"
    COMPLETE = "complete"
    ANSWER = "answer"
    """Answer a wait, claim, release and assign it, hand it to somebody by a link, leave a note."""
    STEER = "steer"
    """Cancel, close, retry, start the next run; rewind, amend, fork; test notice targets and try them again."""
    DELEGATE = "delegate"
    """Make tokens and public tokens: hand a part of one's own rights to somebody outside."""
    QUERY = "query"
    TOOLS = "tools"
    """Reach the endpoint of MCP; each tool there needs what its operation needs."""
    ADMINISTER = "administer"


ROLE_NEEDS: dict[Role, frozenset[Need]] = {
    Role.ADMIN: frozenset(Need),
    Role.OPERATOR: frozenset(
        {
            Need.READ,
            Need.SEND,
            Need.COMPLETE,
            Need.ANSWER,
            Need.STEER,
            Need.DELEGATE,
            Need.QUERY,
            Need.TOOLS,
        }
    ),
    Role.SENDER: frozenset({Need.START, Need.SEND, Need.COMPLETE, Need.DELEGATE, Need.TOOLS}),
    Role.VIEWER: frozenset({Need.READ, Need.TOOLS}),
}
"""An operator answers and steers what runs; a sender is an app server; a viewer only looks."""

ROLE_SUMMARIES: dict[Role, str] = {
    Role.ADMIN: "everything, also API keys and speaking for others",
    Role.OPERATOR: "read, answer, send, complete, cancel, retry, query",
    Role.SENDER: "start sessions, send input, make and complete tokens; reads nothing",
    Role.VIEWER: "read",
}


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the HTTP API: what it needs, and which public token may use it instead of a key."""

    method: str
    path: str
    need: Need
    public_scope: ScopeType | None = None


_SESSION = "/v1/sessions/{session_id}"
_SEND = ScopeType.SESSION_INPUT_SEND
_OUTPUT = ScopeType.SESSION_OUTPUT_READ
_COMPLETE = ScopeType.TOKEN_COMPLETE

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/sessions", Need.START),
    Route("GET", "/v1/sessions", Need.READ),
    Route("GET", _SESSION, Need.READ),
    Route("GET", f"{_SESSION}/transcript", Need.READ),
    Route("GET", f"{_SESSION}/export", Need.ADMINISTER),
    Route("GET", f"{_SESSION}/runs", Need.READ),
    Route("POST", f"{_SESSION}/runs", Need.STEER),
    Route("GET", f"{_SESSION}/events", Need.READ),
    Route("GET", "/v1/events", Need.READ),
    Route("POST", f"{_SESSION}/inputs/{{stream}}", Need.SEND, _SEND),
    Route("GET", f"{_SESSION}/inputs/{{stream}}", Need.READ),
    Route("GET", f"{_SESSION}/outputs/{{stream}}", Need.READ, _OUTPUT),
    Route("POST", f"{_SESSION}/close", Need.STEER),
    Route("POST", f"{_SESSION}/cancel", Need.STEER),
    Route("POST", f"{_SESSION}/notes", Need.ANSWER),
    Route("POST", f"{_SESSION}/fork", Need.STEER),
    Route("GET", "/v1/waits", Need.READ),
    Route("GET", "/v1/waits/{wait_id}", Need.READ),
    Route("POST", "/v1/waits/{wait_id}/answer", Need.ANSWER),
    Route("POST", "/v1/waits/{wait_id}/claim", Need.ANSWER),
    Route("POST", "/v1/waits/{wait_id}/release", Need.ANSWER),
    Route("POST", "/v1/waits/{wait_id}/assign", Need.ANSWER),
    Route("POST", "/v1/waits/{wait_id}/links", Need.ANSWER),
    Route("GET", "/v1/waits/{wait_id}/links", Need.READ),
    Route("DELETE", "/v1/waits/{wait_id}/links/{link_id}", Need.ANSWER),
    Route("GET", "/v1/links/{secret}", Need.SECRET),
    Route("POST", "/v1/links/{secret}", Need.SECRET),
    Route("POST", "/v1/waits/{wait_id}/rehearse", Need.ANSWER),
    Route("POST", "/v1/waits/{wait_id}/amend/preview", Need.READ),
    Route("POST", "/v1/waits/{wait_id}/amend", Need.STEER),
    Route("GET", "/v1/runs", Need.READ),
    Route("GET", "/v1/runs/{run_id}", Need.READ),
    Route("GET", "/v1/runs/{run_id}/journal", Need.ADMINISTER),
    Route("POST", "/v1/runs/{run_id}/cancel", Need.STEER),
    Route("POST", "/v1/runs/{run_id}/retry", Need.STEER),
    Route("POST", "/v1/runs/{run_id}/rewind/preview", Need.READ),
    Route("POST", "/v1/runs/{run_id}/rewind", Need.STEER),
    Route("POST", "/v1/schedules", Need.ADMINISTER),
    Route("GET", "/v1/schedules", Need.READ),
    Route("GET", "/v1/schedules/{schedule}", Need.READ),
    Route("POST", "/v1/schedules/{schedule}/pause", Need.STEER),
    Route("POST", "/v1/schedules/{schedule}/resume", Need.STEER),
    Route("POST", "/v1/schedules/{schedule}/run", Need.STEER),
    Route("DELETE", "/v1/schedules/{schedule}", Need.ADMINISTER),
    Route("GET", "/v1/notices", Need.READ),
    Route("POST", "/v1/notices/{target}/test", Need.STEER),
    Route("POST", "/v1/notices/{target}/retry", Need.STEER),
    Route("POST", "/v1/tokens", Need.DELEGATE),
    Route("GET", "/v1/tokens", Need.READ),
    Route("GET", "/v1/tokens/{token_id}", Need.READ),
    Route("POST", "/v1/tokens/{token_id}/complete", Need.COMPLETE, _COMPLETE),
    Route("POST", "/v1/tokens/{token_id}/cancel", Need.STEER),
    Route("GET", "/v1/callbacks/{secret}", Need.SECRET),
    Route("POST", "/v1/callbacks/{secret}", Need.SECRET),
    Route("POST", "/v1/public-tokens", Need.DELEGATE),
    Route("GET", "/v1/public-tokens", Need.READ),
    Route("DELETE", "/v1/public-tokens/{public_token_id}", Need.DELEGATE),
    Route("POST", "/v1/api-keys", Need.ADMINISTER),
    Route("GET", "/v1/api-keys", Need.ADMINISTER),
    Route("DELETE", "/v1/api-keys/{key_id}", Need.ADMINISTER),
    Route("GET", "/v1/file-keys", Need.READ),
    Route("GET", "/v1/tasks", Need.READ),
    Route("GET", "/v1/streams", Need.READ),
    Route("POST", "/v1/query", Need.QUERY),
    Route("GET", "/v1/backup", Need.ADMINISTER),
    Route("GET", "/v1/ledger/entries", Need.ADMINISTER),
    Route("POST", "/v1/prune", Need.ADMINISTER),
    Route("POST", "/mcp", Need.TOOLS),
    Route("GET", "/v1/openapi.json", Need.NOTHING),
    Route("GET", "/healthz", Need.NOTHING),
    Route("GET", "/readyz", Need.NOTHING),
    Route("GET", "/metrics", Need.READ),
)

_BY_PLACE = {(route.method, route.path): route for route in ROUTES}
_SCOPE_NEEDS = {
    _SEND: Need.SEND,
    _OUTPUT: Need.READ,
    _COMPLETE: Need.COMPLETE,
    ScopeType.WAIT_ANSWER: Need.ANSWER,
}


def route_need(method: str, path_template: str) -> Route:
    """What a route needs; HEAD is GET.

    Raises:
        KeyError: Our own mistake: a route without a line in `ROUTES`.
    """
    return _BY_PLACE["GET" if method == "HEAD" else method, path_template]


def may(role: Role, need: Need) -> bool:
    """True if a key of that role may do it."""
    return need in (Need.NOTHING, Need.SECRET) or need in ROLE_NEEDS[role]


def check_role(role: Role, need: Need) -> None:
    """Return if a key of that role may do it.

    Raises:
        RoleDenied: Names the role and the roles that would do.
    """
    if may(role, need):
        return
    enough = ", ".join(_roles_with(need))
    raise RoleDenied(
        f"a key with role {role.value} may not {need.value}",
        hint=f"Use a key with one of the roles {enough}.",
        role=role.value,
        need=need.value,
    )


def check_delegation(role: Role, scope: ScopeType) -> None:
    """Return if a key of that role may make a public token of that scope: none gives what it lacks.

    Raises:
        RoleDenied: The role does not cover what the public token would do.
    """
    check_role(role, Need.DELEGATE)
    check_role(role, _SCOPE_NEEDS[scope])


def check_maker(role: Role, asking: Principal, made_by: Principal) -> None:
    """Return if a key of that role may take back what was made by somebody.

    Raises:
        RoleDenied: It is another's, and the role is not admin.
    """
    is_own = (asking.type, asking.id) == (made_by.type, made_by.id)
    if not is_own and role is not Role.ADMIN:
        raise RoleDenied(
            f"a key with role {role.value} may revoke only public tokens that it has made",
            hint="Use the key that made it, or one with the role admin.",
            role=role.value,
        )


def check_on_behalf_of(role: Role, name: str | None) -> str | None:
    """The person that a call is made for (S-51), as recorded; None if it names nobody.

    Raises:
        RoleDenied: Only an admin key, such as the local one of CLI and console, speaks for others.
    """
    if name is None or not name.strip():
        return None
    if role is not Role.ADMIN:
        raise RoleDenied(
            f"a key with role {role.value} may not set {ON_BEHALF_OF_HEADER}", role=role.value
        )
    return person_name(name)


def person_name(name: str) -> str:
    """A person's name as it is recorded."""
    return "".join(char for char in name.strip() if char.isprintable())[:ON_BEHALF_OF_MAX]


def role_table() -> str:
    """The table of docs/security.md: every route, and which role may call it (Markdown)."""
    lines = ["| route | needs | admin | operator | sender | viewer | public token |"]
    lines.append("|---|---|---|---|---|---|---|")
    for route in ROUTES:
        roles = ("✓" if may(role, route.need) else "" for role in Role)
        scope = f"`{route.public_scope.value}`" if route.public_scope else ""
        place = f"`{route.method} {route.path}`"
        lines.append(f"| {place} | {route.need.value} | {' | '.join(roles)} | {scope} |")
    return "\n".join(lines) + "\n"


def _roles_with(need: Need) -> Iterable[str]:
    return (role.value for role in Role if may(role, need))
