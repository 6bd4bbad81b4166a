"""How Ray's workers are started: at once where nothing is to be prepared, by Ray's own script otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helmr_runtime.process import ray_worker
from helmr_runtime.process.ray_worker import CONTEXT, LANGUAGE, worker_arguments

WORKER = "/ray/default_worker.py"


def test_a_worker_without_an_environment_is_told_everything_but_that() -> None:
    given = [WORKER, "--worker-id=7", CONTEXT + "{}", LANGUAGE + "PYTHON", "--runtime-env-hash=0"]
    assert worker_arguments(given) == [WORKER, "--worker-id=7", "--runtime-env-hash=0"]
    assert worker_arguments([WORKER, "--worker-id=7"]) == [WORKER, "--worker-id=7"]


@pytest.mark.parametrize(
    "given",
    [
        [WORKER, CONTEXT + '{"env_vars": {"A": "b"}}', LANGUAGE + "PYTHON"],
        [WORKER, CONTEXT + "{}", LANGUAGE + "JAVA"],
        ["-s", WORKER, CONTEXT + "{}", LANGUAGE + "PYTHON"],
    ],
)
def test_ray_prepares_what_an_environment_another_language_or_an_option_of_python_asks_for(
    given: list[str],
) -> None:
    assert worker_arguments(given) is None


def run(code: str) -> str:
    """What a fresh interpreter says."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(ray_worker.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_what_is_left_for_later_is_there_for_who_asks_after_it() -> None:
    said = run(
        "import sys\n"
        "from ray_worker import LATER, leaving_for_later\n"
        "with leaving_for_later():\n"
        "    import ray, ray._private.accelerators.tpu as tpu\n"
        "print([name in sys.modules for name in LATER])\n"
        "stand_in = tpu.requests\n"
        "print(stand_in.exceptions.Timeout.__name__)\n"
        "import requests\n"
        "print(requests is not stand_in, stand_in.get is requests.get)\n"
    )
    assert said.splitlines() == ["[False, False]", "Timeout", "True True"]


def test_what_was_imported_before_stays() -> None:
    said = run(
        "import requests, sys\n"
        "from ray_worker import leaving_for_later\n"
        "with leaving_for_later():\n"
        "    print(sys.modules['requests'] is requests)\n"
        "print(sys.modules['requests'] is requests)\n"
    )
    assert said.splitlines() == ["True", "True"]
