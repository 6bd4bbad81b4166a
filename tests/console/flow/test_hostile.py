"""Nothing that a session says reaches the terminal but as text, and nothing it says acts."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name

import pytest
from textual import events

from helmr_console.feature import lists_in_use
from helmr_console.screens.base import ConsoleScreen
from tests.console.flow.bench import Bench
from tests.console.flow.walk import OF_FEATURES, PASTE, STEPS, hostile, hostile_everywhere
from tests.console.golden import strips
from tests.hostile import BIDI, HOSTILE, hidden


async def walked(bench: Bench) -> None:
    """Every line on the terminal is clean, and the console is alive."""
    await bench.rest()
    found = hidden("".join(strip.text for strip in strips(bench.app)))
    assert found == [], bench.text()
    assert bench.app.is_running
    assert bench.app.return_code in (None, 0)


def every_screen() -> set[str]:
    """Names of the console's screens, those that only others are made of left out."""
    for one in lists_in_use():
        resolve_name(one.screen)

    def leaves(kind: type[ConsoleScreen]) -> Iterator[type[ConsoleScreen]]:
        below = kind.__subclasses__()
        for one in below:
            yield from leaves(one)
        if not below or "HELP_TEXT" in vars(kind):
            yield kind

    return {kind.__name__ for kind in leaves(ConsoleScreen)} - {ConsoleScreen.__name__}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "size", [(120, 36), pytest.param((80, 24), marks=pytest.mark.long)], ids=str
)
async def test_hostile_text_walks_through_every_screen(bench: Bench, size: tuple[int, int]) -> None:
    """Each screen, each tab, each text that opens from it; a screen that is added has to be added to the walk."""
    wait, typed = await hostile_everywhere(bench)
    await bench.open(size=size, identity=HOSTILE[:60], name=HOSTILE[:40])
    inbox = await bench.inbox(3)
    await bench.until(lambda: inbox._previews)
    for step in STEPS:
        for key in step.keys:
            if key == PASTE:
                assert bench.app.focused is not None
                bench.app.post_message(events.Paste(HOSTILE))
            elif key in typed:
                await bench.press(*typed[key])
            else:
                await bench.press(key)
        await bench.sees(step.sees)
        assert type(bench.app.screen).__name__ == step.screen, step
        await walked(bench)
    # A sent batch needs its answers: test_batches.py walks through it.
    elsewhere = {"BatchSeenScreen"}.union(*(one.elsewhere for one in OF_FEATURES))
    assert {step.screen for step in STEPS} == every_screen() - elsewhere
    assert (await bench.wait(str(wait["id"])))["status"] == "pending", "no action ran"


@pytest.mark.long  # tests/cli/test_hostile.py
async def test_an_answer_full_of_it_is_sent_as_it_was_typed_and_shown_clean(bench: Bench) -> None:
    wait = await bench.ask("talk", subject="-")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("f2")
    screen.form._raw.load_text('"\\u001b[31m\\u202e"')
    await bench.press("ctrl+s")
    await walked(bench)
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    (record,) = await bench.records(str(wait["session"]["id"]), "chat")
    assert record["data"] == "\x1b[31m\u202e"


@pytest.mark.long  # the walk through every screen
async def test_clicking_everywhere_runs_nothing_a_session_says(bench: Bench) -> None:
    wait = await hostile(bench)
    await bench.open()
    await bench.inbox(1)
    await bench.until(lambda: bench.app.screen._previews)
    width, height = bench.app.size
    for y in range(2, height - 1, 2):
        for x in range(1, width - 1, 15):
            await bench.pilot.click(offset=(x, y))
    await walked(bench)
    assert (await bench.wait(str(wait["id"])))["status"] == "pending"


async def test_a_toast_is_text(bench: Bench) -> None:
    await bench.open()
    bench.app.shared.say(HOSTILE, "warning")
    await bench.pilot.pause(0.2)
    await walked(bench)


@pytest.mark.long  # tests/forms
async def test_a_paste_loses_what_no_field_can_show_and_says_so(bench: Bench) -> None:
    await bench.ask("talk", subject="-")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    assert bench.app.focused is screen.form.rows["$"].editor
    bench.app.post_message(events.Paste(f"a\x1b[31mb{BIDI}"))
    await bench.until(lambda: screen.form.cells()["$"])
    await bench.until(
        lambda: any("control characters were left out" in text for text in bench.toasts())
    )
    assert screen.form.cells()["$"] == "a[31mbgnp.exex", "once, and clean"


@pytest.mark.long
async def test_an_id_is_pasted_once(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("o")
    await bench.sees("following")
    await bench.press("X")
    screen = await bench.on("ConfirmScreen")
    await bench.until(lambda: screen.typed.has_focus)
    bench.app.post_message(events.Paste(wait["session"]["id"]))
    await bench.until(lambda: screen.typed.value)
    await bench.press("ctrl+s")
    await bench.on("SessionScreen")
    assert (await bench.wait(wait["id"]))["status"] == "cancelled"
