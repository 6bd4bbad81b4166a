"""Roles: each route's need stands in one table, and nobody gives away what he lacks."""

import re
from typing import Any

import pytest

from helmr import features
from helmr.errors import RoleDenied
from helmr.wire.operation import Operation
from helmr.wire.roles import ROLE_NEEDS, Need, Role, ScopeType
from helmr_runtime.security.role_checks import (
    check_delegation,
    check_on_behalf_of,
    check_role,
)


def test_every_route_stands_once():
    places = [(route.method, route.path) for route in features.OPERATIONS]
    assert len(places) == len(set(places))
    for method, path in places:
        assert re.fullmatch(r"GET|POST|DELETE", method)
        assert path == "/" or re.fullmatch(r"(/[a-z0-9.-]+|/\{[a-z_]+\})+", path)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "route", features.OPERATIONS, ids=lambda route: f"{route.method}-{route.path}"
)
def test_a_role_may_call_what_it_covers(role: Role, route: Operation[Any]):
    if route.need in ROLE_NEEDS[role] or route.need in (Need.NOTHING, Need.SECRET):
        check_role(role, route.need)
    else:
        with pytest.raises(RoleDenied, match=role.value) as denied:
            check_role(role, route.need)
        assert "admin" in str(denied.value.hint)


def test_what_each_role_is_for():
    assert ROLE_NEEDS[Role.ADMIN] == set(Need)
    assert ROLE_NEEDS[Role.VIEWER] == {Need.READ, Need.TOOLS, Need.IDENTIFY}
    assert Need.ANSWER in ROLE_NEEDS[Role.OPERATOR]
    assert not ROLE_NEEDS[Role.SENDER] & {Need.READ, Need.ANSWER, Need.STEER, Need.QUERY}
    only_admin = set(Need) - set().union(*(ROLE_NEEDS[r] for r in Role if r is not Role.ADMIN))
    assert only_admin == {Need.ADMINISTER, Need.NOTHING, Need.SECRET}


def test_only_reading_and_nothing_is_done_by_get():
    for route in features.OPERATIONS:
        if route.method == "GET":
            others = (
                Need.NOTHING,
                Need.SECRET,
                Need.PAGE,
                Need.ASK,
                Need.IDENTIFY,
                Need.ADMINISTER,
            )
            assert route.need in (Need.READ, *others)


def test_a_public_tokens_scope_fits_one_route_each():
    scopes = [route.scope for route in features.OPERATIONS if route.scope]
    # The secret of an answer link stands in the path of its own routes.
    assert sorted(scopes) == sorted(set(ScopeType) - {ScopeType.WAIT_ANSWER})


def test_a_key_gives_away_only_what_it_may_do():
    check_delegation(Role.SENDER, ScopeType.SESSION_INPUT_SEND)
    check_delegation(Role.OPERATOR, ScopeType.SESSION_OUTPUT_READ)
    for role, scope in [
        (Role.SENDER, ScopeType.SESSION_OUTPUT_READ),
        (Role.VIEWER, ScopeType.SESSION_OUTPUT_READ),
    ]:
        with pytest.raises(RoleDenied):
            check_delegation(role, scope)


def test_only_an_admin_key_speaks_for_others():
    assert check_on_behalf_of(Role.ADMIN, " ana\x1b[31m ") == "ana[31m"
    assert check_on_behalf_of(Role.VIEWER, None) is None
    assert check_on_behalf_of(Role.VIEWER, " ") is None
    assert len(check_on_behalf_of(Role.ADMIN, "x" * 1000) or "") == 200
    for role in set(Role) - {Role.ADMIN}:
        with pytest.raises(RoleDenied):
            check_on_behalf_of(role, "ana")
