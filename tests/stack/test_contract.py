"""The contract over a real gateway and a real Ray: a driver of the runtime's cluster, a task and an actor in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.launchers import watchdog
from tests.contract import page
from tests.contract.cases import CASES
from tests.contract.driver import AGAIN, IN_WORKERS
from tests.contract.faces import operations
from tests.stack.live import LiveRuntime

pytestmark = [
    pytest.mark.transports,
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]

WAYS = ("http-async", "http-blocking", "ray-async", "ray-blocking")
WHOLE = "http-async"
"""The way that a short run goes with all cases, the others with a sample: each way costs the ledger as much again."""
IN_CLUSTER = ("ray-async", "ray-blocking", "task", "actor")


def ray_of(live: LiveRuntime) -> tuple[str, dict[str, str]]:
    """The address of a runtime's own Ray, and what a driver's environment needs to join it."""
    found = re.search(r"Ray runs on (\S+)", (live.folder / "up.log").read_text())
    record = watchdog.read_record(live.data_dir)
    assert found is not None
    assert record is not None
    token = record.mark.run_dir / "token"
    return found[1], {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray takes another address for 127.0.0.1
    }


def from_a_driver(live: LiveRuntime, module: str, folder: Path, **options: Any) -> dict[str, Any]:
    """What a program of the tests says that runs as a driver of the runtime's Ray."""
    address, joining = ray_of(live)
    answered = folder / "result.json"
    found = live.credentials
    environment = {name: text for name, text in os.environ.items() if name != "HELMR_URL"}
    done = subprocess.run(
        [sys.executable, "-m", module, answered],
        input=json.dumps({"address": address, "url": found.url, "key": found.key, **options}),
        cwd=Path(__file__).parents[2],
        env={**environment, **joining, "XDG_STATE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(answered.read_text())
    return result


@pytest.fixture(scope="session")
def seen(
    request: pytest.FixtureRequest,
    shared: LiveRuntime,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What the driver saw."""
    folder = tmp_path_factory.mktemp("driver")
    is_whole = any(item.get_closest_marker("long") for item in request.session.items)
    return from_a_driver(shared, "tests.contract.driver", folder, is_whole=is_whole)


def ways() -> list[Any]:
    """Way and case; what a short run leaves out is marked long."""
    return [
        pytest.param(
            way,
            case,
            id=f"{way}-{case.__name__}",
            marks=[pytest.mark.long] * (way != WHOLE and case not in AGAIN),
        )
        for way in WAYS
        for case in CASES
    ]


@pytest.mark.parametrize(("way", "case"), ways())
def test_the_contract(seen: dict[str, Any], way: str, case: Any) -> None:
    said = seen[way]["cases"][case.__name__]
    assert said is None, said


@pytest.mark.parametrize("case", IN_WORKERS, ids=lambda case: case.__name__)
@pytest.mark.parametrize("way", ["task", "actor"])
def test_the_contract_inside_the_cluster(seen: dict[str, Any], way: str, case: Any) -> None:
    said = seen[way]["cases"][case.__name__]
    assert said is None, said


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.long] * (way != WHOLE)) for way in WAYS]
)
def test_the_contract_leaves_nothing_out(seen: dict[str, Any], way: str) -> None:
    assert seen[way]["called"] == sorted(operations())
    is_http = way.startswith("http")
    answered = [
        one for one in operations() if is_http or not one.startswith("client.notices.")
    ]  # which a job is refused
    assert page.ticked("HTTP" if is_http else "Ray") == sorted(answered)


def test_programs_in_the_cluster_never_ask_the_gateway(
    seen: dict[str, Any], shared: LiveRuntime
) -> None:
    port = int(shared.credentials.url.rpartition(":")[2])
    for way in IN_CLUSTER:
        assert port not in seen[way]["ports"], way
    for way in ("http-async", "http-blocking"):  # so the others would have been seen
        assert port in seen[way]["ports"], way
    for way in ("ray-async", "task", "actor"):
        assert seen[way]["found_by"] == "the Ray cluster of this process"


def test_what_a_job_did_is_recorded_as_the_jobs(seen: dict[str, Any], shared: LiveRuntime) -> None:
    session = shared.client.sessions.open(seen["session_id"])
    created = session.transcript_page(limit=1).items[0]
    assert (created.principal.type, created.principal.id) == ("ray_job", seen["job_id"])


@pytest.mark.perf
def test_overhead_of_the_ray_way_beside_http(
    shared: LiveRuntime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Milliseconds (or calls a second) over both, side by side; the ratio is Ray's to HTTP's."""
    found = from_a_driver(shared, "tests.contract.overhead", tmp_path)
    http, inside = found["http"], found["ray"]
    assert http.keys() == inside.keys()
    with capsys.disabled():
        for name, value in inside.items():
            ratio = value / http[name]
            sys.stdout.write(f"\n{name}: http {http[name]:.1f}, ray {value:.1f}: {ratio:.2f}\n")
