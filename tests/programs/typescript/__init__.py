"""Builds the TypeScript client from the OpenAPI document of this version: types by openapi-typescript, then tsc."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from helmr import features
from helmr.version import version
from helmr_runtime.http import openapi

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "helmr" / "typescript"
BUILD_S = 600
"""Bound of each command; npm downloads about 50 MB the first time."""


def build(folder: Path) -> None:
    """Build the package in that folder, which keeps what npm installs.

    Raises:
        subprocess.CalledProcessError: A tool refused; its output says why.
    """
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    manifest = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    # npm has no form for a version like 1.0.0rc1 but 1.0.0-rc.1.
    manifest["version"] = version().replace("rc", "-rc.")
    (folder / "package.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    document = openapi.document(features.OPERATIONS, version=version())
    (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    for command in (
        ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
        ["npm", "run", "--silent", "types"],
        ["npm", "run", "--silent", "build"],
    ):
        subprocess.run(command, cwd=folder, check=True, timeout=BUILD_S)
