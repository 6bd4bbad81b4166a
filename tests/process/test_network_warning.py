"""A runtime that other machines may reach without TLS says so when it begins."""

from __future__ import annotations

import pytest

from helmr_runtime.launchers.startup import in_clear


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_loopback_is_no_network(host: str) -> None:
    assert in_clear(host, 4356, None) is None


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("0.0.0.0", "0.0.0.0:4356"),
        ("::", "[::]:4356"),
        ("[::]", "[::]:4356"),
        ("10.1.2.3", "10.1.2.3:4356"),
        ("helmr.internal", "helmr.internal:4356"),
    ],
)
def test_other_addresses_are_named_unless_a_proxy_is_in_front(host: str, named: str) -> None:
    for external_url in (None, "http://helmr.internal"):
        said = in_clear(host, 4356, external_url)
        assert said is not None
        assert said.startswith(f"listens on {named}, which other machines may reach: keys ")
        assert "in clear" in said
    assert in_clear(host, 4356, "https://helmr.example.com") is None
