"""The TypeScript client: built from this version's document, type-checked strictly, used on a real runtime."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs.typescript import ROOT, build
from tests.stack.live import LiveRuntime

FOLDER = Path(__file__).with_name("typescript")
PAGE = ROOT / "docs" / "typescript.md"
BLOCK = re.compile(r"^```ts\n(.*?)^```$", flags=re.M | re.S)

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is missing"),
]


@pytest.fixture(scope="module")
def package() -> Path:
    """The built package; what npm installs is kept from run to run."""
    folder = ROOT / ".bench" / "typescript"
    build(folder)
    return folder


def test_ten_calls_and_a_stream(package: Path, tmp_path: Path) -> None:
    user = package / "tests"
    shutil.copytree(FOLDER, user, dirs_exist_ok=True)
    settings = {
        "extends": "../tsconfig.json",
        "compilerOptions": {
            "rootDir": ".",
            "outDir": "out",
            "paths": {"@helmr/client": ["../dist/index.d.ts"]},
        },
        "include": ["calls.ts", "page.ts"],
    }
    (block,) = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    (user / "page.ts").write_text(block, encoding="utf-8")
    (user / "tsconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    # By its own name, as the package lets others import it.
    checked = subprocess.run(
        ["npx", "tsc", "--project", "tests"],
        cwd=package,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert checked.returncode == 0, checked.stdout

    live = LiveRuntime(tmp_path, tasks=FOLDER / "tasks.py", in_process=True)
    live.start()
    try:
        place = live.credentials
        told = subprocess.run(
            ["node", "tests/out/calls.js", place.url, place.key],
            cwd=package,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        live.stop()
    assert told.returncode == 0, told.stderr
    seen = json.loads(told.stdout)
    records = seen.pop("records")
    assert [record["data"] for record in records] == ["written", "send"]
    assert seen == {
        "subject": "Send the newsletter about otters?",
        "who": "admin",
        "note": True,
        "unfit": "schema_mismatch",
        "outcome": "fulfilled",
        "again": "wait_resolved",
        "result": "send",
        "status": "closed",
        "answeredBy": ["ada"],
        "byTheOther": True,
        "followed": 2,
        "neither": "unavailable",
        "unreachable": "unavailable",
        "unknownKey": "unauthenticated",
    }
