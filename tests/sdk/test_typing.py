"""The SDK is typed end to end: `py.typed`, and what mypy makes of user code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("typing_ok.py", "typing_errors.py", "typing_truth.py")
PYRIGHT = "1.1.414"
"""Of its wheel and of what that fetches."""
PYRIGHT_SETTINGS = {
    "pythonVersion": "3.11",
    "reportUnnecessaryTypeIgnoreComment": "error",
}


def test_the_package_says_that_it_is_typed(project_root: Path):
    assert (project_root / "helmr" / "py.typed").exists()


@pytest.mark.long  # `make lint` reads the same files
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_user_code_has_the_types_and_the_type_errors_it_should(
    project_root: Path, tmp_path_factory: pytest.TempPathFactory
):
    """All files in one go: `typing_ok` without an error, the others with exactly those that they ignore."""
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml"),
        *("--cache-dir", str(tmp_path_factory.mktemp("mypy")), "--follow-imports", "silent"),
        *(str(HERE / name) for name in (*FILES, "typing_awaitables.py")),
    ]
    done = subprocess.run(
        command, cwd=project_root, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.extras
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_pyright_says_the_same(project_root: Path, tmp_path: Path):
    """In an environment of its own: nothing else here needs it."""
    python = tmp_path / "venv" / "bin" / "python"
    uv = (sys.executable, "-m", "uv")
    subprocess.run(
        [*uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True
    )
    wanted = f"pyright[nodejs]=={PYRIGHT}"
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), wanted]
    subprocess.run(install, check=True, timeout=240)
    for name in FILES:
        shutil.copy(HERE / name, tmp_path)
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(json.dumps({**PYRIGHT_SETTINGS, "include": FILES}))
    environ = {
        **os.environ,
        "PYRIGHT_PYTHON_CACHE_DIR": str(tmp_path / "cache"),
        "PYRIGHT_PYTHON_FORCE_VERSION": PYRIGHT,
    }
    command = [
        str(python),
        "-m",
        "pyright",
        "--project",
        str(settings),
        "--pythonpath",
        sys.executable,
    ]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
