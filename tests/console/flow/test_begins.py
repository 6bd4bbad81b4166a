"""Each form page begins at its top, also where its layout comes to rest late."""

from __future__ import annotations

import pytest

from tests.console.flow.bench import Bench
from tests.console.flow.late import SIZES, begins_at_the_top, opened_late


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_a_form_that_is_laid_out_late_begins_at_its_top(
    bench: Bench, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for subject in ("Order pens", "Order ink"):
        await bench.ask("order", subject=subject)
    await bench.open(size=size)
    await bench.inbox(2)
    for page, keys in (
        ("AnswerScreen", "a"),
        ("AnswerScreen", "n"),
        ("BatchScreen", "*B"),
        ("SendScreen", "oi"),
    ):
        await bench.press(*keys[:-1])
        await opened_late(bench, monkeypatch, keys[-1])
        await bench.on(page)
        begins_at_the_top(bench)
        while type(bench.app.screen).__name__ != "InboxScreen":
            await bench.press("escape")
