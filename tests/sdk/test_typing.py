"""The SDK is typed end to end: `py.typed`, and what mypy makes of user code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_the_package_says_that_it_is_typed(project_root: Path):
    assert (project_root / "helmr" / "py.typed").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_user_code_has_the_types_and_the_type_errors_it_should(
    project_root: Path, tmp_path_factory: pytest.TempPathFactory
):
    """Both files in one go: `typing_ok` without an error, `typing_errors` with exactly those it ignores."""
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml"),
        *("--cache-dir", str(tmp_path_factory.mktemp("mypy")), "--follow-imports", "silent"),
        *(str(HERE / name) for name in ("typing_ok.py", "typing_errors.py")),
    ]
    done = subprocess.run(
        command, cwd=project_root, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
