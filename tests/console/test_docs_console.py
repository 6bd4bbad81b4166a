"""The operator's guide has the keys that the console has; HELMR_UPDATE_GOLDENS=1 writes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from helmr_console.actions import key_table

BLOCK = re.compile(r"(<!-- keys: [^\n]*-->\n)(.*?)(<!-- /keys -->)", re.DOTALL)


def test_the_key_table_is_that_of_the_action_table(project_root: Path) -> None:
    path = project_root / "docs" / "console.md"
    text = path.read_text(encoding="utf-8")
    wanted = BLOCK.sub(lambda m: f"{m[1]}\n{key_table()}\n{m[3]}", text)
    if os.environ.get("HELMR_UPDATE_GOLDENS"):
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted
