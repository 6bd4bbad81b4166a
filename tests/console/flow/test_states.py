"""What is wrong with the runtime, on System: in the words and by the names that `/readyz` has."""

from __future__ import annotations

from tests.console.flow.bench import Bench


async def test_system_shows_a_state_in_the_words_of_the_runtime_until_it_is_over(
    bench: Bench,
) -> None:
    assert bench.stack.directory is not None
    await bench.open()
    await bench.stack.directory.set_room(2, why="threads were left behind: room for 2")
    health = (await bench.stack.http.get("/readyz")).json()
    assert health["degraded"] == ["room_reduced"]
    (warning,) = health["warnings"]
    await bench.press("4")
    await bench.advance(6)
    await bench.sees("ready, with warnings")
    await bench.sees(warning)
    await bench.sees("room_reduced")
    await bench.stack.directory.set_room(2, why=None)
    await bench.advance(6)
    await bench.until(lambda: "room_reduced" not in bench.text())
