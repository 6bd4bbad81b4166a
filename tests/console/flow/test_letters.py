"""Letters typed while a choice has the focus: they are looked for in it, and none of them is a command."""

from __future__ import annotations

import string
from typing import Any

import pytest

from helmr_runtime.catalog import Registry
from tests.console.flow import kinds
from tests.console.flow.bench import Bench


@pytest.fixture
def registry() -> Registry:
    return kinds.REGISTRY


async def opened(bench: Bench, kind: str, key: str = "n") -> tuple[dict[str, Any], Any]:
    """A form of this kind, one by one."""
    wait = await bench.ask("fill", kind=kind)
    await bench.open()
    await bench.inbox(1)
    await bench.press(key)
    return wait, await (bench.form() if key == "n" else bench.on("DelegateScreen"))


async def test_a_word_typed_on_a_closed_list_opens_it_and_finds(bench: Bench) -> None:
    wait, screen = await opened(bench, "letters")
    await bench.press(*"dec", "enter")
    assert screen.form.rows["month"].cell == 11
    assert await bench.form() is screen
    assert (await bench.wait(wait["id"]))["assignee"] is None


async def test_no_character_on_a_closed_list_is_a_command(bench: Bench) -> None:
    wait, screen = await opened(bench, "letters")
    picked = screen.form.rows["month"].editor
    await bench.until(lambda: screen.claim.state.own is not None)
    for character in string.ascii_letters + string.digits + "./?_":
        await bench.press(character)
        assert bench.app.screen is screen, character
        assert picked.expanded, character
        await bench.press("escape")
        assert not picked.expanded, character
    now = await bench.wait(wait["id"])
    assert now["assignee"] is None
    assert now["claim"]["on_behalf_of"] == "ana"
    assert bench.app.shared.snoozed.until(wait["id"]) is None


async def test_letters_that_go_on_with_a_name_are_of_the_choice(bench: Bench) -> None:
    """Of `approve` and `escalate`, s, c and u are keys of the page, too."""
    _, screen = await opened(bench, "letters")
    await bench.press("tab", *"escalate")
    assert screen.form.rows["decision"].cell == 2
    assert bench.app.screen is screen
    await bench.press(*"approve")
    assert screen.form.rows["decision"].cell == 0


async def test_a_name_that_no_one_has_is_asked_about(bench: Bench) -> None:
    wait, page = await opened(bench, "text", key="d")
    await bench.press(*"ec")
    for _ in range(3):  # as often as it is pressed, or held down
        await bench.until(bench.may_send)
        await bench.press("enter")
        await bench.sees("No one here has the name ec.")
        assert bench.app.screen is page
    assert (await bench.wait(wait["id"]))["assignee"] is None
    await bench.press("ctrl+s")
    await bench.inbox(1)
    assert (await bench.wait(wait["id"]))["assignee"] == "ec"


async def test_the_name_that_was_meant_is_said(bench: Bench) -> None:
    wait, _ = await opened(bench, "text", key="d")
    await bench.press(*"anna")
    await bench.until(bench.may_send)
    await bench.press("enter")
    await bench.sees("Did you mean ana?")
    await bench.press("left", "backspace")
    await bench.until(bench.may_send)
    await bench.press("enter")
    await bench.inbox(1)
    assert (await bench.wait(wait["id"]))["assignee"] == "ana"
