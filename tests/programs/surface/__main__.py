"""`make release`: writes the surface of the version in pyproject.toml into a folder of its own, at its release."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.programs.surface.lines import SURFACES, record_of

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def main() -> None:
    """Write a file for each kind of surface."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    folder = HERE / record_of(version)
    folder.mkdir(exist_ok=True)
    for name, lines in SURFACES.items():
        (folder / f"{name}.txt").write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
