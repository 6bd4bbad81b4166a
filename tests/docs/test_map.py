"""ARCHITECTURE.md leads to files that there are."""

from __future__ import annotations

import re
from pathlib import Path

NAMED = re.compile(r"`([a-z_0-9/]+/[a-z_0-9]+\.py)(?::[^`]*)?`")


def test_every_module_that_the_map_names_exists(project_root: Path) -> None:
    text = (project_root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(NAMED.findall(text))
    roots = ("", "runtime/helmr_runtime", "console/helmr_console")
    assert len(named) > 30
    assert [
        one for one in named if not any((project_root / root / one).is_file() for root in roots)
    ] == []
