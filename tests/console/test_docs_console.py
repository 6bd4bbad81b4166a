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


def test_every_test_and_picture_that_the_review_names_exists(project_root: Path) -> None:
    text = (project_root / "docs" / "console-review.md").read_text(encoding="utf-8")
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (project_root / "tests").rglob("test_*.py")
    )
    names = set(re.findall(r"`(test_[a-z0-9_]+)`", text))
    assert names
    assert {name for name in names if f"def {name}(" not in sources} == set()
    for picture in re.findall(r"\((images/[^)]+)\)", text):
        assert (project_root / "docs" / picture).exists(), picture
    assert len(re.findall(r"^\| \d+ \|", text, re.MULTILINE)) == 40
