"""The moving picture of the README, drawn by the console itself; `make animation` draws it anew."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.console.animation import Frame, animated
from tests.console.flow.bench import Bench
from tests.console.flow.test_goldens import seeded
from tests.console.golden import steady

BYTES_MAX = 100_000
STEADY = 2
"""So many equal screenshots: a busy machine may still be drawing what the last key set off."""


@pytest.mark.long
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="pictures are of Python 3.11")
async def test_the_moving_picture_is_the_consoles(
    bench: Bench, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    frames: list[Frame] = []

    async def shot(seconds: float) -> None:
        for one in bench.screen.query("*"):
            if hasattr(one, "cursor_blink"):
                one.cursor_blink = False
        drawn: list[str] = []
        while len(drawn) < STEADY or len(set(drawn[-STEADY:])) > 1:
            bench.app.shared.line.clear()
            bench.screen.refresh_bars()
            await bench.pilot.pause(0.15)
            svg = bench.app.export_screenshot(title="helmr console", simplify=True)
            drawn.append(re.sub(r"terminal-\d+", "terminal-console", steady(svg)))
        frames.append(Frame(drawn[-1], seconds))

    await seeded(bench)
    await bench.open(size=(80, 24), name="prod-eu", hold_s=5.0, state_folder=Path("state"))
    inbox = await bench.inbox(6)
    await bench.until(lambda: inbox._previews)
    await shot(2.5)
    await bench.press("a")
    screen = await bench.form()
    await bench.until(lambda: screen.entries)
    await shot(1.5)
    await bench.press("space", "tab")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await shot(0.8)
    for words in ("Please ", "squash ", "before ", "merge."):
        await bench.press(*words)
        await bench.until(lambda: screen.draft_state == "draft saved")
        await shot(0.5)
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await shot(2.0)
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    await bench.inbox(5)
    await shot(3.0)

    moving = animated(frames, title="A person answers a wait in the Helmr console")
    assert len(moving) < BYTES_MAX
    path = project_root / "docs" / "images" / "console-answering.svg"
    if os.environ.get("HELMR_UPDATE_GOLDENS"):
        path.write_text(moving, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == moving, "make animation draws it anew"
