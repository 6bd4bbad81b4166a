"""Filters by name in the inbox, and a terminal that rings for the waits that the profile wants."""

from __future__ import annotations

import json
from typing import Any

from helmr.client.profiles import Profile, TerminalNotices
from helmr_console.bell import notification
from tests.console.flow.bench import Bench


async def test_a_filter_is_saved_by_a_key_and_picked_by_its_name(bench: Bench) -> None:
    await bench.ask(subject="Publish A?", timeout="8h")
    await bench.ask(subject="Publish zebra?", timeout="8h")
    await bench.open()
    inbox = await bench.inbox(2)
    await bench.press("slash", *"zebra", "enter", "F")
    await bench.sees("Keep this filter as")
    await bench.press("m", "i", "n", "e", "enter")
    await bench.sees("mine is built in")
    await bench.press(*["backspace"] * 4, "o", "n", "l", "y", "enter")
    await bench.on("InboxScreen")
    await bench.sees("Filter only kept")
    saved = bench.folder / "state" / "profiles" / "default.json"
    assert json.loads(saved.read_text()) == {"filters": {"only": "zebra"}}
    await bench.press("escape", "f", "o", "n", "l", "enter")
    await bench.until(lambda: len(inbox.list.keys) == 1)
    await bench.press("f", "a", "l", "l", "enter")
    await bench.until(lambda: len(inbox.list.keys) == 2)
    await bench.press("F", "o", "n", "l", "y", "enter")
    await bench.sees("Filter only forgotten")
    assert json.loads(saved.read_text()) == {"filters": {}}


async def test_mine_and_unassigned_are_there_and_may_be_typed(bench: Bench) -> None:
    mine = await bench.ask(subject="Mine?", timeout="8h")
    await bench.ask(subject="Nobody's?", timeout="8h")
    assigned = await bench.stack.http.post(
        f"/v1/waits/{mine['id']}/assign", json={"assignee": "ana"}
    )
    assert assigned.status_code == 200
    await bench.open()
    inbox = await bench.inbox(2)
    await bench.press("f", "m", "i", "n", "e", "enter")
    await bench.until(lambda: inbox.list.keys == [mine["id"]])
    await bench.press("escape", "slash", *"unassigned", "enter")
    await bench.until(lambda: len(inbox.list.keys) == 1)
    assert inbox.list.keys != [mine["id"]]


class Written:
    """What a driver was told to write."""

    def __init__(self, app: Any) -> None:
        self.parts: list[str] = []
        write = app._driver.write

        def noting(text: str) -> None:
            self.parts.append(text)
            write(text)

        app._driver.write = noting


async def test_the_terminal_tells_of_a_wait_that_the_profile_wants_and_of_no_other(
    bench: Bench,
) -> None:
    notices = TerminalNotices(bell=True, osc=9, filter="subject:Publish*")
    app = await bench.open(profile=Profile(notices=notices))
    await bench.inbox(0)
    written = Written(app)
    await bench.ask(subject="Something else?", timeout="8h")
    await bench.inbox(1)
    assert "\a" not in written.parts
    await bench.ask(subject="Publish A\x1b]0;x\a?", timeout="8h")
    await bench.until(lambda: "\a" in written.parts)
    told = [part for part in written.parts if part.startswith("\x1b]9;")]
    assert len(told) == 1
    assert told[0].startswith("\x1b]9;Helmr: Publish A")
    assert told[0].count("\x1b") == 2, "the sequence and its end; nothing of the session's"
    await bench.ask(subject="Publish B?", timeout="8h")
    await bench.until(lambda: len(app.shared.store.waits) == 3)
    assert written.parts.count("\a") == 1, "a burst rings once"


async def test_without_notices_nothing_rings(bench: Bench) -> None:
    app = await bench.open()
    await bench.inbox(0)
    written = Written(app)
    await bench.ask(subject="Publish A?", timeout="8h")
    await bench.inbox(1)
    assert "\a" not in written.parts


def test_a_notification_is_the_sequence_of_its_code_and_wrapped_for_tmux() -> None:
    assert notification(9, "Publish?", in_tmux=False) == "\x1b]9;Publish?\x1b\\"
    assert notification(777, "Publish?", in_tmux=False) == ("\x1b]777;notify;Helmr;Publish?\x1b\\")
    assert notification(9, "x", in_tmux=True) == "\x1bPtmux;\x1b\x1b]9;x\x1b\x1b\\\x1b\\"
