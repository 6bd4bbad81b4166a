"""What the console wants before it starts."""

from __future__ import annotations

import sys

import pytest

from helmr.client.endpoint import Endpoint
from helmr.errors import UsageError
from helmr.examples.demo import needs_terminal
from helmr_console.start import main

ENDPOINT = Endpoint(url="http://127.0.0.1:1", key=None, found_by="url")


@pytest.mark.parametrize("elsewhere", ["stdin", "stdout", "stderr"])
def test_each_stream_must_be_a_terminal(monkeypatch: pytest.MonkeyPatch, elsewhere: str) -> None:
    """Drawn into a file, the console would be a blank screen that takes keys."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("stdin", "stdout", "stderr"):
        there = name != elsewhere
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda there=there: there, raising=False)
    with pytest.raises(UsageError, match="needs a terminal"):
        main(endpoint=ENDPOINT)
    with pytest.raises(UsageError, match="needs a terminal"):
        needs_terminal({"TERM": "xterm"})
