"""Rights: the roles of API keys, the needs of operations, and the scopes of public tokens.

An operation declares its need and the owner of the things that it reaches (`helmr.wire.operations`); a role covers
some of the needs. Public tokens and the secrets in links and callbacks have no role: their scope is the right (S-44).
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Role of an API key."""

    ADMIN = "admin"
    OPERATOR = "operator"
    SENDER = "sender"
    VIEWER = "viewer"
    ASKER = "asker"


class Need(StrEnum):
    """Right that an operation requires of its caller."""

    NOTHING = "nothing"
    """Open to every caller that reaches the port; returns no data of a session."""
    SECRET = "secret"
    """The secret in the path is the right."""
    READ = "read"
    START = "start"
    SEND = "send"
    COMPLETE = "complete"
    ANSWER = "answer"
    """Answer a wait, claim, release and assign it, make a link for one person, leave a note."""
    STEER = "steer"
    """Cancel, close, retry, start the next run; rewind, amend, fork; test notice targets and try them again."""
    DELEGATE = "delegate"
    """Make tokens and public tokens: hand a part of one's own rights to an outside party."""
    QUERY = "query"
    ASK = "ask"
    """Ask for permission for an agent's call, and see or withdraw one's own requests (S-110)."""
    TOOLS = "tools"
    """Reach the endpoint of MCP; each tool there also has the need of its operation."""
    PAGE = "page"
    """Use the inbox in a browser, by the cookie of a signed-in person and never by a key."""
    IDENTIFY = "identify"
    """Ask who one is."""
    ADMINISTER = "administer"


class Owner(StrEnum):
    """Owner of the things that an operation reaches for a caller whose role covers its need."""

    ALL = "all"
    """Everything of the runtime."""
    OWN = "own"
    """Things that the caller made itself; the role admin reaches all."""


class ScopeType(StrEnum):
    """The one thing that a public token does (S-44)."""

    SESSION_INPUT_SEND = "session.input.send"
    SESSION_OUTPUT_READ = "session.output.read"
    TOKEN_COMPLETE = "token.complete"
    WAIT_ANSWER = "wait.answer"
    """An answer link: once, for a named person (S-74)."""


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
            Need.PAGE,
            Need.IDENTIFY,
        }
    ),
    Role.SENDER: frozenset(
        {
            Need.START,
            Need.SEND,
            Need.COMPLETE,
            Need.DELEGATE,
            Need.TOOLS,
            Need.IDENTIFY,
        }
    ),
    Role.VIEWER: frozenset({Need.READ, Need.TOOLS, Need.IDENTIFY}),
    Role.ASKER: frozenset({Need.ASK, Need.IDENTIFY}),
}
"""An operator answers waits and steers runs; a sender is an app server; a viewer only reads; an asker is an agent's
hook."""

ROLE_SUMMARIES: dict[Role, str] = {
    Role.ADMIN: "everything, also API keys and speaking for others",
    Role.OPERATOR: "read, answer, send, complete, cancel, retry, query",
    Role.SENDER: "start sessions, send input, make and complete tokens; reads nothing",
    Role.VIEWER: "read",
    Role.ASKER: "ask for leave for an agent's calls; sees only its own",
}

SCOPE_NEEDS: dict[ScopeType, Need] = {
    ScopeType.SESSION_INPUT_SEND: Need.SEND,
    ScopeType.SESSION_OUTPUT_READ: Need.READ,
    ScopeType.TOKEN_COMPLETE: Need.COMPLETE,
    ScopeType.WAIT_ANSWER: Need.ANSWER,
}
"""Need that a key's own role must cover to make a public token of that scope."""


def may(role: Role, need: Need) -> bool:
    """Return True if a key of that role covers the need."""
    return need in (Need.NOTHING, Need.SECRET) or need in ROLE_NEEDS[role]
