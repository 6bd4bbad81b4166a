"""What has ended has its name, its answer and who gave it: in a console just opened, and after a runtime's restart."""

from __future__ import annotations

from datetime import timedelta

from tests.console.flow.bench import Bench

APPROVE = {"decision": "approve", "note": "as agreed"}


async def test_what_ended_before_the_console_opened_has_subject_answer_and_who(
    bench: Bench,
) -> None:
    waits = [await bench.ask(subject=f"Pay order {n}?", timeout="8h") for n in range(3)]
    for wait in waits[:2]:
        await bench.answer(wait["id"], APPROVE, person="bo")
    timed = await bench.ask(subject="Nobody looks?", timeout="30s")
    bench.clock.move_to(bench.clock.now() + timedelta(seconds=31))

    async def is_over() -> bool:
        return (await bench.wait(timed["id"]))["status"] == "timed_out"

    await bench.until(is_over)
    await bench.open(size=(100, 30))
    inbox = await bench.inbox(1)
    await bench.sees("3 ended, e shows")
    await bench.sees("2 answered today")
    await bench.press("e")
    await bench.until(lambda: len(inbox.list.keys) == 4)
    for number in range(2):
        await bench.sees(f"Pay order {number}?  → approve")
    assert "waits on approval" not in bench.text(), "each has its name"
    assert [line for line in bench.text().splitlines() if "answered " in line and "bo" in line]
    assert "timed out" in bench.text()
    await bench.press("slash", *"Nobody", "enter")
    assert inbox.list.keys == [timed["id"]], "found by its subject"


async def test_what_ended_is_there_after_the_runtime_was_started_again(bench: Bench) -> None:
    wait = await bench.ask(subject="Pay order 7?", timeout="8h")
    await bench.answer(wait["id"], APPROVE, person="bo")
    await bench.restart()
    await bench.open(size=(100, 30))
    inbox = await bench.inbox(0)
    await bench.sees("1 answered today")
    await bench.press("e")
    await bench.until(lambda: inbox.list.keys == [wait["id"]])
    await bench.sees("Pay order 7?  → approve")


async def test_since_i_was_last_here(bench: Bench) -> None:
    old = await bench.ask(subject="Before I left?", timeout="8h")
    await bench.answer(old["id"], APPROVE)
    bench.clock.move_to(bench.clock.now() + timedelta(minutes=1))
    left_at = bench.clock.now()
    await bench.open(size=(120, 30))
    await bench.inbox(0)
    await bench.press("j")
    await bench.advance(1)
    bench.clock.move_to(left_at + timedelta(hours=8))
    wait = await bench.ask(subject="Pay order 7?", timeout="8h")
    await bench.answer(wait["id"], APPROVE, person="bo")
    failed = await bench.ask("break", subject="the disk is gone")
    await bench.stack.run_until(failed["run"]["id"], "failed")
    await bench.press("j")
    await bench.advance(1)
    await bench.sees("Away for 8h 00m")
    await bench.press("h")
    await bench.on("SinceScreen")
    await bench.sees("1 failed, 1 answered")
    await bench.sees("Pay order 7?  → approve")
    await bench.sees("disk is gone")
    assert "Before I left?" not in bench.text()
    await bench.press("slash", *"by:bo", "enter")
    await bench.until(lambda: bench.app.screen.list.keys == [wait["id"]])
    await bench.press("enter")
    await bench.on("SessionScreen")
