"""Work beside the screens."""

from __future__ import annotations

import gc
import warnings
from collections import deque
from pathlib import Path

from textual.app import App

from helmr_console.background import Background
from helmr_console.keys import KeyLine


async def test_work_that_is_replaced_before_it_began_leaves_nothing_unawaited(
    tmp_path: Path,
) -> None:
    did: list[str] = []

    async def work(name: str) -> None:
        did.append(name)

    app: App[None] = App()
    async with app.run_test() as pilot:
        errors = deque[str]()
        keys = KeyLine(app, left_out=lambda count: None)
        background = Background(app, keys, errors, tmp_path / "log", say=errors.append)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            background.start(work("first"), group="reading", exclusive=True)
            background.start(work("second"), group="reading", exclusive=True)
            await pilot.pause()
            gc.collect()
        assert did == ["second"]
        texts = [str(one.message) for one in caught]
        assert [text for text in texts if "never awaited" in text] == []
        assert not errors
