"""While tracing is off, which it is unless asked for, nothing of it is loaded, made or called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from helmr.errors import UsageError
from helmr_runtime import tracing
from tests.service.stack import Stack
from tests.tracing.conftest import registry

MODULES = """
import sys
import helmr_runtime.process.gateway, helmr_runtime.session.host, helmr_runtime.launchers.in_process
found = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
print(found + [name for name in sys.modules if name == "helmr_runtime.tracing.otel"])
"""


def test_nothing_that_makes_spans_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MODULES], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_an_answer_calls_nothing_that_makes_spans(tmp_path: Path) -> None:
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and ("/opentelemetry/" in name or "helmr_runtime/tracing" in name):
            called.append(f"{name}:{frame.f_code.co_name}")

    stack = Stack(tmp_path, registry=registry())
    await stack.start()
    try:
        started = await stack.started("publish", {"title": "News"})
        answer = f"/v1/waits/{started['session']['wait']['id']}/answer"
        sys.setprofile(note)
        try:
            response = await stack.http.post(answer, json={"data": "yes"})
        finally:
            sys.setprofile(None)
        assert response.status_code == 200
        await stack.run_until(started["run"]["id"], "succeeded")
    finally:
        await stack.stop()
    assert called == []


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_opentelemetrys_own_variables_turn_a_signal_off(signal: str) -> None:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    assert not tracing.is_off(signal, {})
    assert not tracing.is_off(signal, {name: "otlp"})
    assert tracing.is_off(signal, {name: "none"})
    assert tracing.is_off(signal, {"OTEL_SDK_DISABLED": "true"})


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as raised:
        tracing.check_installed()
    assert "helmr[otel]" in str(raised.value.hint)


def test_with_the_extra_there_is_nothing_to_say() -> None:
    tracing.check_installed()
