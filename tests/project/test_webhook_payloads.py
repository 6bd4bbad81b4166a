"""The example's input: real payloads, with their licence beside them, found as package data."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest


@pytest.mark.parametrize("action", ["opened", "ready_for_review", "synchronize"])
def test_payload_is_a_pull_request_event(action: str) -> None:
    data = files("helmr") / "examples" / "data"
    event = json.loads((data / f"pull_request.{action}.json").read_text(encoding="utf-8"))
    assert event["action"] == action
    assert event["number"] == event["pull_request"]["number"]
    assert event["repository"]["full_name"] == "Codertocat/Hello-World"
    assert "Permission is hereby granted" in (data / "LICENSE").read_text(encoding="utf-8")
