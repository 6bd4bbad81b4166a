"""Who did what: people first, one row for a start, the subject of what was answered."""

from __future__ import annotations

from tests.console.flow.bench import Bench


async def test_answers_of_people_do_not_drown_in_what_programs_start(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Pay order {n}?", timeout="8h") for n in range(6)]
    await bench.answer(waits[2]["id"], {"decision": "approve", "note": "as agreed"}, person="bo")
    await bench.open(size=(120, 30))
    await bench.inbox(5)
    await bench.press("3")
    screen = await bench.on("ActivityScreen")
    await bench.sees("/ is:people")
    await bench.sees("Pay order 2?  → approve")
    rows = [line for line in bench.text().splitlines() if "14:00:00" in line[:20]]
    assert len(rows) == 1
    assert "bo" in rows[0]
    assert "answered" in rows[0]
    assert "{" not in rows[0], "its subject, no JSON"
    await bench.press("escape")
    await bench.until(lambda: len(screen.list.keys) == 7)
    assert bench.text().count("started publish") == 6, "one row for a start"
    assert "run created by start" not in bench.text()
