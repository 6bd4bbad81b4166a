"""Nothing that a session says reaches the terminal but as text, and nothing it says acts."""

from __future__ import annotations

import unicodedata

import pytest

from tests.console.flow.bench import Bench
from tests.console.golden import strips

OSC_52 = "\x1b]52;c;aGFja2Vk\x07"
OSC_0 = "\x1b]0;owned\x07"
CSI = "\x1b[2J\x1b[31mred\x1b[0m"
C1 = "\x9b31m\x9d0;owned\x9c"
BIDI = "\u202egnp.exe\u2066x\u2069"
MARKUP = "[@click=app.quit]see details[/] [bold]x[/bold] [link=http://x]y[/link]"
HOSTILE = f"{OSC_52}{OSC_0}{CSI}{C1}{BIDI}\u200b{MARKUP}\x00\x7f"


def hidden(text: str) -> list[str]:
    """Characters that a terminal could obey or a person could not see."""
    return [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


async def walked(bench: Bench) -> None:
    """Every line on the terminal is clean, and the console is alive."""
    await bench.pilot.pause()
    found = hidden("".join(strip.text for strip in strips(bench.app)))
    assert found == [], bench.text()
    assert bench.app.is_running
    assert bench.app.return_code in (None, 0)


async def hostile(bench: Bench) -> dict[str, object]:
    subject = HOSTILE.replace("\n", " ")[:190]
    return await bench.ask(
        subject=subject,
        body=f"# {HOSTILE}\n- {HOSTILE}",
        correlation=HOSTILE[:300],
        say=[HOSTILE],
        timeout="5m",
    )


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=str)
async def test_hostile_text_walks_through_every_screen(bench: Bench, size: tuple[int, int]) -> None:
    wait = await hostile(bench)
    await bench.open(size=size)
    await bench.inbox(1)
    await bench.until(lambda: bench.app.screen._previews)
    await walked(bench)
    await bench.press("z")
    await walked(bench)
    await bench.press("z", "y")
    await bench.on("PickScreen")
    await walked(bench)
    await bench.press("escape", "ctrl+p")
    await bench.on("PickScreen")
    await walked(bench)
    await bench.press("escape", "a")
    await bench.form()
    await walked(bench)
    await bench.press("f3")
    await walked(bench)
    await bench.press("f3", "space", "ctrl+s")
    await walked(bench)
    await bench.press("escape", "escape")
    await bench.on("InboxScreen")
    await bench.press("o")
    screen = await bench.on("SessionScreen")
    await bench.until(lambda: screen.runs)
    for key in ("f", "w", "t", "k", "enter", "escape", "y", "escape"):
        await bench.press(key)
        await walked(bench)
    for _ in range(4):
        await bench.press("right_square_bracket")
        await walked(bench)
    await bench.press("c")
    await bench.form()
    await walked(bench)
    await bench.press("escape")
    await bench.on("SessionScreen")
    await bench.press("escape", "2")
    await bench.on("SessionsScreen")
    await bench.until(lambda: bench.app.screen.list.keys)
    await walked(bench)
    await bench.press("3")
    await walked(bench)
    await bench.press("4")
    await walked(bench)
    assert (await bench.wait(str(wait["id"])))["status"] == "pending", "no action ran"


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
    bench.app.say(HOSTILE, "warning")
    await bench.pilot.pause(0.2)
    await walked(bench)


async def test_a_paste_loses_what_no_field_can_show_and_says_so(bench: Bench) -> None:
    from textual import events

    await bench.ask("talk", subject="-")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    editor = screen.form.rows["$"].editor
    editor.post_message(events.Paste(f"a\x1b[31mb{BIDI}"))
    await bench.until(lambda: screen.form.cells()["$"])
    assert hidden(screen.form.cells()["$"]) == []
    await bench.until(lambda: any("left out of the paste" in text for text in bench.toasts()))
