"""The names under which a runtime answers, by the Host header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import NotAllowed
from helmr_runtime.security.host_names import allowed_hosts, check_host

ALLOWED = allowed_hosts("10.0.0.5", ["https://Helmr.Example.com/base"], ["console.example:8443"])


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:4356", "127.0.0.1:4356", "[::1]:4356", "LOCALHOST", "helmr.example.com",
     "helmr.example.com.", "console.example", "10.0.0.5:1"],
)  # fmt: skip
def test_the_runtimes_own_names_are_taken(host):
    check_host(host, ALLOWED)


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:4356", "localhost.evil.example", "127.0.0.1.evil.example",
     "127.0.0.1:4356:1", "[::1", "[::1]x", "localhost:x", "0.0.0.0", "2130706433", "user@localhost", " "],
)  # fmt: skip
def test_a_rebound_name_is_refused(host):
    with pytest.raises(NotAllowed):
        check_host(host, ALLOWED)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "", "[::]"])
def test_a_wildcard_address_is_no_name(bind):
    assert allowed_hosts(bind, []) == {"localhost", "127.0.0.1", "[::1]"}
    assert "[fe80::1]" in allowed_hosts("fe80::1", [])


@given(st.text())
def test_any_host_is_taken_or_refused(host):
    try:
        check_host(host, ALLOWED)
    except NotAllowed:
        return
    assert host.strip().lower().rstrip("0123456789").rstrip(":").rstrip(".") in ALLOWED
