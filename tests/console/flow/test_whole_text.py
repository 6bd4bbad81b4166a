"""What is asked stands whole on the screen before it is answered, or the screen says how much of it does not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from textual import events
from textual.geometry import Size

from tests.console.flow.bench import Bench

SIZES = [(80, 24), (60, 16), (100, 34), (120, 36), (200, 50)]
LENGTHS = [0, 1, 5, 8, 9, 12, 20, 60]
WORDS = "as long as it takes to be read by one who has the time"
ANNOUNCED = re.compile(r"… (\d+) more lines?")


def body(length: int, *, is_long: bool) -> str | None:
    """So many lines, each with a number; long ones take two or three lines of a narrow screen."""
    rest = f" {' '.join([WORDS] * 3)}" if is_long else ""
    return "\n".join(f"line-{number:03}{rest}" for number in range(length)) or None


def asked(form: str, length: int, *, is_long: bool = False) -> tuple[str, dict[str, Any]]:
    """A task and its payload: a question of so many lines over one of the forms."""
    text = body(length, is_long=is_long)
    match form:
        case "command":
            given = {"command": text or "true", "description": "Do it"}
            return "call", {"tool": "Bash", "known": False, "arguments": given}
        case "edit":
            given = {"file_path": "a.py", "old_string": "x", "new_string": text or "y"}
            return "call", {"tool": "Edit", "known": False, "arguments": given}
        case "facts":
            facts = {f"line-{number:03}": number for number in range(length)}
            return "publish", {"subject": "Facts?", "body": "Go on?", "facts": facts}
        case "diff":
            diff = "\n".join(f"+line-{number:03}" for number in range(length))
            return "publish", {"subject": "Diff?", "body": "Go on?", "diff": diff}
        case _:
            return form, {"subject": f"Form {form}?", "body": text}


def is_shown_or_announced(bench: Bench, count: int, where: str) -> None:
    """Each line stands there, or no fewer are said to be left out, and no room is left empty then."""
    screen, text = bench.app.screen, bench.text()
    missing = count - len(set(re.findall(r"line-(\d{3})", text)))
    announced = [int(found) for found in ANNOUNCED.findall(text)]
    assert missing <= sum(announced), f"{where}: {missing} lines are missing from\n{text}"
    if not missing:
        return
    # Each pane that has a part of the text is full.
    aside, left = screen.fields.aside, screen.query_one("#left")
    pane = aside if aside.display and aside.size.height and aside.asked_lines else left
    room = pane.scrollable_content_region.height
    assert pane.virtual_size.height >= room, f"{where}: rows are empty in\n{text}"


async def walk(bench: Bench, asks: list[tuple[str, int, bool]], sizes: list[Any]) -> None:
    """One form after the other, each at each size."""
    for form, length, is_long in asks:
        task, payload = asked(form, length, is_long=is_long)
        await bench.ask(task, **payload)
    await bench.open(size=sizes[0])
    await bench.inbox(len(asks))
    waits = bench.screen.list.keys
    await bench.press("n")
    for at, wait_id in enumerate(waits):
        screen = await bench.form()
        assert screen.wait_id == wait_id
        form, length, _ = asks[at]
        for size in sizes:
            await bench.pilot.resize_terminal(*size)
            await bench.rest()
            is_shown_or_announced(bench, length, f"{asks[at]} at {size}")
            if size[0] < 100 and length and form != "order":
                # The decision stands below a text that is cut, and can be made.
                in_sight = re.search(r"\( \) (approve|yes)|answer \*", bench.text())
                assert in_sight or form in ("command", "edit"), bench.text()
        await bench.pilot.resize_terminal(*sizes[0])
        await bench.press("f8")


async def test_a_text_is_whole_or_announced_as_cut(bench: Bench) -> None:
    asks = [(form, length, False) for form in ("publish", "edit") for length in (5, 12, 60)]
    asks.append(("order", 12, False))
    await walk(bench, [*asks, ("command", 3, True)], SIZES[:1] + SIZES[3:4])


async def test_evidence_is_whole_or_announced_as_cut(bench: Bench) -> None:
    asks = [(form, length, False) for form in ("facts", "diff") for length in (5, 12, 40)]
    await walk(bench, asks, SIZES[:2] + SIZES[3:4])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["publish", "order", "sign", "command", "edit"])
async def test_a_text_of_any_length_at_any_size(bench: Bench, form: str) -> None:
    asks = [(form, length, is_long) for length in LENGTHS for is_long in (False, True)]
    await walk(bench, asks, SIZES)


async def test_the_rest_of_a_text_is_a_key_away_and_is_read_by_keys(bench: Bench) -> None:
    task, payload = asked("publish", 60)
    await bench.ask(task, **payload)
    await bench.open(size=(80, 24))
    await bench.inbox(1)
    await bench.press("n", "f3")
    seen = set()
    for _ in range(6):
        seen |= set(re.findall(r"line-(\d{3})", bench.text()))
        await bench.press("pagedown")
    assert len(seen) == 60
    await bench.press("f3", "1")
    assert "(•) approve" in bench.text()


async def test_a_call_says_how_much_of_it_was_never_on_the_screen(bench: Bench) -> None:
    task, payload = asked("edit", 60)
    await bench.ask(task, **payload)
    await bench.open(size=(80, 24))
    await bench.inbox(1)
    await bench.press("n")
    await bench.form()
    first = int(ANNOUNCED.findall(bench.text())[0])
    await bench.press("1")  # which leads to the decision below it
    skipped = int(ANNOUNCED.findall(bench.text())[0])
    assert 20 < skipped < first, bench.text()
    await bench.press(*["pageup"] * 6, *["pagedown"] * 6)
    assert ANNOUNCED.findall(bench.text()) == []


async def test_what_a_form_does_after_a_refresh_is_left_once_the_form_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen that came after it makes the call: Textual gives it to the one in front."""
    await bench.ask("publish", subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("n")
    screen = await bench.form()
    calls: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(screen, "post_message", calls.append)
        screen.redraw()
        screen.on_resize(events.Resize(Size(80, 24), Size(80, 24)))
    assert len(calls) >= 3
    for call in calls:
        call.callback()  # open, it draws
    await bench.press("escape")
    await bench.until(lambda: not screen.is_attached)
    for call in calls:
        call.callback()
