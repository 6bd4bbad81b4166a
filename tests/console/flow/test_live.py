"""A session is seen at work: words as they come, a step that counts seconds, and one row once it has ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.console.flow import tasks
from tests.console.flow.bench import Bench
from tests.console.flow.test_sessions import opened


@pytest.fixture
def speaking() -> Iterator[None]:
    tasks.silent.clear()
    yield
    tasks.silent.set()


@pytest.mark.usefixtures("speaking")
async def test_words_stand_below_the_running_step_until_it_ends(bench: Bench) -> None:
    receipt = await bench.stack.started(
        "speaker", {"subject": "good\x1b[2Jmorning"}, result_timeout_s=0
    )
    await bench.open(size=(120, 36))
    await opened(bench, receipt["session"]["id"])
    await bench.sees("speak  runs")
    await bench.until(lambda: bench.app.shared.store.streams)
    await bench.advance(1)
    await bench.sees("good␛[2Jmorning good␛[2Jmorning")
    await bench.advance(3)
    await bench.until(
        lambda: [line for line in bench.text().splitlines() if "runs" in line and "4s" in line]
    )
    tasks.silent.set()
    await bench.stack.run_until(receipt["run"]["id"], "succeeded")
    await bench.sees("speak  done good␛[2Jmorning")
    await bench.until(lambda: "good␛[2Jmorning good" not in bench.text())
    rows = [line for line in bench.text().splitlines() if " step " in line[:40]]
    assert len(rows) == 1, "start and end are one row"


@pytest.mark.long
async def test_the_pane_beside_a_steps_row_shows_what_it_came_to(bench: Bench) -> None:
    tasks.silent.set()
    receipt = await bench.stack.started("speaker", {"subject": "good morning"})
    await bench.open(size=(120, 36))
    screen = await opened(bench, receipt["session"]["id"])
    await bench.sees("speak  done good morning")
    await bench.press("g")
    for _ in range(screen.transcript.count):
        if screen.transcript.told.kind == "step.succeeded":
            break
        await bench.press("j")
    await bench.sees("step.succeeded")
    assert "step.started" not in bench.text()
    # A search finds what stands in the second entry of the row, and goes on behind it.
    await bench.press("slash", *"good", "enter")
    await bench.sees("/good 2 of 4")
    first = screen.transcript.seq
    await bench.press("n")
    await bench.until(lambda: screen.transcript.seq != first)
