"""A key's role decides which operations it may call; only an admin's speaks for others (S-51)."""

from __future__ import annotations

from functools import cache
from typing import Any

from helmr.errors import RoleDenied
from helmr.models import PERSON_MAX
from helmr.wire.operation import Operation
from helmr.wire.roles import SCOPE_NEEDS, Need, Owner, Role, ScopeType, may
from helmr_runtime.core.entries import Principal

ON_BEHALF_OF_HEADER = "On-Behalf-Of"
ON_BEHALF_OF_MAX = PERSON_MAX


@cache
def check_role(role: Role | None, need: Need) -> None:
    """Return if a key of that role may do it.

    Raises:
        RoleDenied: Names the role and the roles that would do.
    """
    if role is not None and may(role, need):
        return
    enough = ", ".join(each.value for each in Role if may(each, need))
    raise RoleDenied(
        f"a key with role {_name(role)} may not {need.value}",
        hint=f"Use a key with one of the roles {enough}.",
        role=_name(role),
        need=need.value,
    )


def check_delegation(role: Role | None, scope: ScopeType) -> None:
    """Return if a key of that role may make a public token of that scope: none gives what it lacks.

    Raises:
        RoleDenied: The role does not cover what the public token would do.
    """
    check_role(role, Need.DELEGATE)
    check_role(role, SCOPE_NEEDS[scope])


def reaches_all(row: Operation[Any], role: Role | None) -> bool:
    """True if a caller whose role covers the operation's need reaches everything by it, not only what it has made."""
    return row.owner is Owner.ALL or role is Role.ADMIN


def check_owner(role: Role | None, asking: Principal, made_by: Principal) -> None:
    """Return if the caller of an operation that reaches the caller's own things has made this one.

    Raises:
        RoleDenied: Another has made it.
    """
    if (asking.type, asking.id) != (made_by.type, made_by.id):
        raise RoleDenied(
            f"a key with role {_name(role)} may do this only to what it has made",
            hint="Use the key that made it, or one with the role admin.",
            role=_name(role),
        )


def check_on_behalf_of(role: Role, name: str | None) -> str | None:
    """The person that a call is made for (S-51), as recorded; None if it names no one.

    Raises:
        RoleDenied: Only an admin key, such as the local one of CLI and console, speaks for others.
    """
    if name is None or not name.strip():
        return None
    if role is not Role.ADMIN:
        raise RoleDenied(
            f"a key with role {_name(role)} may not set {ON_BEHALF_OF_HEADER}", role=_name(role)
        )
    return person_name(name)


def person_name(name: str) -> str:
    """A person's name as it is recorded."""
    return "".join(char for char in name.strip() if char.isprintable())[:ON_BEHALF_OF_MAX]


def _name(role: Role | None) -> str:
    return role.value if role is not None else "none"
