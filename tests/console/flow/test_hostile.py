"""Nothing that a session says reaches the terminal but as text, and nothing it says acts."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from console.screens.base import ConsoleScreen
from console.screens.compose import ComposeScreen, Phase
from console.screens.session import TABS
from tests.console.flow.bench import Bench
from tests.console.golden import strips
from tests.hostile import BIDI, HOSTILE, hidden


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


def every_screen() -> set[str]:
    """Names of the console's screens, those that only others are made of left out."""

    def leaves(kind: type[ConsoleScreen]) -> Iterator[type[ConsoleScreen]]:
        below = kind.__subclasses__()
        for one in below:
            yield from leaves(one)
        if not below:
            yield kind

    return {kind.__name__ for kind in leaves(ConsoleScreen)}


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=str)
async def test_hostile_text_walks_through_every_screen(bench: Bench, size: tuple[int, int]) -> None:
    """Each screen, each tab, each text that opens from it; a screen that is added has to be added here."""
    been: set[str] = set()

    async def walk(*keys: str, to: str = "") -> None:
        await bench.press(*keys)
        if to:
            await bench.on(to)
        screen = bench.app.screen
        if isinstance(screen, ComposeScreen):
            await bench.until(lambda: screen.phase is not Phase.LOADING)
        await walked(bench)
        been.add(type(screen).__name__)

    wait = await hostile(bench)
    await bench.ask(subject=HOSTILE[:190], correlation=HOSTILE[:300])
    await bench.stack.started("sign", {"subject": HOSTILE[:190], "body": HOSTILE})
    failed = await bench.ask("break", subject=HOSTILE)
    await bench.stack.http.post(
        f"/v1/sessions/{wait['session']['id']}/notes",  # type: ignore[index]
        json={"text": HOSTILE},
        headers={"On-Behalf-Of": quote(HOSTILE[:100])},
    )
    await bench.open(size=size, identity=HOSTILE[:60], name=HOSTILE[:40])
    inbox = await bench.inbox(3)
    await bench.until(lambda: inbox._previews)
    await walk(to="InboxScreen")
    await walk("z")
    await walk("z", "y", to="PickScreen")
    await walk("escape", "ctrl+p", to="PickScreen")
    await walk("escape", "question_mark", to="TextScreen")
    await walk("escape", "space", "j", "space", "B", to="BatchScreen")
    await walk("space", "ctrl+s")
    await walk("escape", "escape", "escape", "g", to="InboxScreen")
    await walk("a", to="AnswerScreen")
    await walk("f3")
    await walk("f3", "space", "ctrl+s")
    await walk("escape", "escape", to="InboxScreen")
    await walk("o", to="SessionScreen")
    session = bench.app.screen
    await bench.until(lambda: session.runs)
    for key in ("f", "w", "t"):
        await walk(key)
    await walk("k", "enter", to="TextScreen")
    await walk("escape", "space", "k", "d", to="TextScreen")
    await walk("escape", "y", to="PickScreen")
    await walk("escape", to="SessionScreen")
    for tab in TABS:
        assert TABS[session.tab] == tab
        await walk()
        if tab in ("Waits", "Runs"):
            await walk("enter", to="TextScreen")
            await walk("escape", to="SessionScreen")
        await walk("right_square_bracket")
    await walk("c", to="SendScreen")
    await walk("escape", "m", to="NoteScreen")
    await walk("escape", "X", to="ConfirmScreen")
    await walk("escape", "escape", "2", to="SessionsScreen")
    await bench.until(lambda: bench.app.screen.list.keys)
    await walk()
    bench.app.open_session(failed["session"]["id"])
    await walk(to="SessionScreen")
    await bench.until(lambda: bench.app.screen.runs)
    await walk("R", to="ConfirmScreen")
    await walk("escape", "right_square_bracket", "right_square_bracket", to="SessionScreen")
    await walk("enter", to="TextScreen")
    await walk("escape", "escape", "3", to="ActivityScreen")
    await bench.until(lambda: bench.app.screen.list.keys)
    await walk()
    await walk("4", to="SystemScreen")
    assert been == every_screen()
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
