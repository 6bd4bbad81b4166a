"""`make typescript`: the package in `build/typescript`."""

from __future__ import annotations

from tests.programs.typescript import ROOT, build

if __name__ == "__main__":
    build(ROOT / "build" / "typescript")
