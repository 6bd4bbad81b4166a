"""Handles on sessions (`helmr.ray`) on a real Ray: what their refs give, and what they raise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stack.conftest import BLOCK, RAY_PAGE
from tests.stack.live import LiveRuntime
from tests.stack.test_contract import ray_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), pytest.mark.allows_blocking]


def from_a_driver(folder: Path, joining: dict[str, str], **options: Any) -> dict[str, Any]:
    """What the driver saw."""
    unset = {"HELMR_URL", "RAY_ADDRESS"}
    environment = {name: text for name, text in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-m", "tests.stack.handles", folder / "result.json"],
        input=json.dumps(options),
        cwd=Path(__file__).parents[2],
        env={**environment, **joining, "XDG_STATE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


@pytest.fixture(scope="module")
def said(shared: LiveRuntime, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """In the cluster of a runtime."""
    folder = tmp_path_factory.mktemp("handles")
    page = folder / "docs_ray.py"
    page.write_text("\n\n".join(BLOCK.findall(RAY_PAGE.read_text(encoding="utf-8"))))
    address, joining = ray_of(shared)
    gateway = shared.pid_of("gateway")
    return from_a_driver(folder, joining, address=address, page=str(page), gateway=gateway)


@pytest.mark.long  # each refusal: test_each_refusal_is_its_own_error
def test_without_a_runtime_the_call_itself_fails(tmp_path: Path) -> None:
    seen = from_a_driver(tmp_path, {}, address=None)
    kinds = {name: one["type"] for name, one in seen.items()}
    assert kinds == {"unconnected": "RuntimeNotFound", "no_runtime": "RuntimeNotFound"}


def test_a_wait_is_answered_once_in_the_name_of_the_job_and_of_a_person(
    said: dict[str, Any],
) -> None:
    seen = said["answered"]
    assert (seen["outcome"], seen["status"]) == ("fulfilled", "succeeded")
    assert seen["principal"] == ["ray_job", said["job"], "anna"]
    assert seen["wrong"]["type"] == "SchemaMismatch"
    assert seen["late"]["type"] == "WaitResolved"
    assert seen["late"]["facts"]["resolved_by"]["id"] == said["job"]
    assert seen["elsewhere"]["type"] == "WaitNotFound"
    assert seen["seqs"] == list(range(1, len(seen["seqs"]) + 1))
    assert seen["after"] == seen["seqs"][2:]


def test_a_handle_travels_and_a_repeated_send_is_one_record(said: dict[str, Any]) -> None:
    assert said["sent"]["seqs"] == [1, 1]
    assert said["sent"]["streams"] == ["words", "words"]


def test_a_token_is_completed(said: dict[str, Any]) -> None:
    assert (said["sent"]["completed"], said["sent"]["run"]) == ("completed", "succeeded")


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("unknown", "SessionNotFound"),
        ("unknown_send", "SessionNotFound"),
        ("wrong_key", "Unauthenticated"),
        ("may_not", "RoleDenied"),
        ("no_stream", "StreamNotFound"),
        ("no_json", "SchemaMismatch"),
        ("other_version", "UsageError"),
        ("bad_id", "BadId"),
    ],
)
def test_each_refusal_is_its_own_error(said: dict[str, Any], what: str, error: str) -> None:
    assert said["refused"][what]["type"] == error


def test_a_key_has_its_own_rights(said: dict[str, Any]) -> None:
    assert said["refused"]["may_read"]


def test_the_example_of_the_page_publishes(said: dict[str, Any]) -> None:
    assert said["page"].startswith("models/")


@pytest.mark.long  # tests/stack/test_supervisor_kills.py kills processes
def test_calls_outlive_the_gateways_process(said: dict[str, Any]) -> None:
    assert said["outlived"] == {"outcome": "fulfilled", "status": "succeeded"}
