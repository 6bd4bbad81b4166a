"""Forms by keys: rows that grow, what is wrong while it is typed, as last time, and what a rival answered."""

from __future__ import annotations

import pytest

from helmr_runtime.catalog import Registry
from tests.console.flow import kinds
from tests.console.flow.bench import Bench


@pytest.fixture
def registry() -> Registry:
    """A form of each kind."""
    return kinds.REGISTRY


async def test_rows_come_go_and_move_by_keys_and_nothing_of_the_others_changes(
    bench: Bench,
) -> None:
    wait = await bench.ask("fill", kind="rows")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("enter", "A", "tab", "1", "ctrl+o", "B", "tab", "2")
    await bench.sees("items 2 of 2")
    await bench.press("alt+up", "ctrl+o", "C")
    assert screen.form.result().problems == {"items.#2.qty": "needed", "remark": "needed"}
    assert screen.form.cells()["items"] == (1, 2, 0)
    await bench.press("ctrl+g")
    assert screen.form.cells()["items"] == (1, 0)
    assert "items.#2.sku" not in screen.form.cells()
    await bench.press("alt+down", "alt+down")
    await bench.sees("it is there already")
    assert screen.form.cells()["items"] == (1, 0)
    assert (await bench.wait(wait["id"]))["status"] == "pending"


@pytest.mark.long  # tests/forms/test_rows.py
async def test_a_draft_brings_rows_back_in_their_order(bench: Bench) -> None:
    await bench.ask("fill", kind="rows")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    await bench.press("enter", "A", "tab", "1", "ctrl+o", "B", "tab", "2", "ctrl+up", "escape")
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.sees("draft restored")
    assert screen.form.cells()["items"] == (1, 0)
    assert screen.form.cells()["items.#1.sku"] == "B"
    await bench.press("f2")
    await bench.sees('"sku": "B"')
    await bench.press("f2")
    assert screen.form.cells()["items"] == (0, 1)
    assert [box.number for box in screen.form.query("RowBox")] == [0, 1]
    assert screen.form.cells()["items.#0.sku"] == "B"
    await bench.press("f9")
    assert screen.form.cells()["items"] == ()
    await bench.press("f9")
    assert screen.form.cells()["items.#1.sku"] == "A"


@pytest.mark.long  # wrong rows: tests/forms/test_rows.py
async def test_a_misfit_in_a_row_lands_on_its_field_wherever_the_row_stands(bench: Bench) -> None:
    await bench.ask("fill", kind="rows")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("enter", "A", "tab", "1", "ctrl+o", "B", "tab", "2", "ctrl+up")
    screen.form.show_problems({"items.0.sku": "nobody sells it", "items.1": "odd"})
    rows = screen.form.rows
    assert rows["items.#1.sku"].has_class("wrong")
    assert not rows["items.#0.sku"].has_class("wrong")
    assert rows["items"].has_class("wrong")


@pytest.mark.long  # tests/forms/test_rows.py
async def test_a_list_without_room_says_so(bench: Bench) -> None:
    await bench.ask("fill", kind="rows")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("enter", "A", "tab", "1", "tab", "enter", "y", "ctrl+o", "n", "ctrl+o")
    await bench.sees("Row: at most 2")
    assert screen.form.cells()["items.#0.checks"] == (0, 1)


@pytest.mark.long  # what typing on can not mend: tests/console/pure/test_texts.py and test_fields.py
async def test_a_field_says_what_is_wrong_as_it_is_typed_and_nothing_once_it_is_right(
    bench: Bench,
) -> None:
    await bench.ask("fill", kind="number")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    amount = screen.form.rows["amount"]
    assert not amount.has_class("wrong")
    await bench.press("5", "x")
    assert amount.has_class("wrong")
    await bench.sees("! not a whole number")
    await bench.press("backspace")
    assert not amount.has_class("wrong")
    await bench.press("0", "1")
    await bench.sees("! at most 500")
    await bench.press("backspace", "backspace", "backspace")
    await bench.sees("… needed")
    await bench.press("tab")
    await bench.sees("! needed")


async def test_as_last_time_fills_the_form_shows_what_changed_and_sends_nothing(
    bench: Bench,
) -> None:
    first = await bench.ask("fill", kind="text", name="1")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    await bench.press("ctrl+l")
    await bench.sees("You have answered no wait like this")
    await bench.press("E", "l", "m", "tab", "B", "e", "r", "n", "ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    await bench.stack.run_until(first["run"]["id"], "succeeded")
    kept = bench.folder / "state" / "people" / "ana" / "answers"
    await bench.until(lambda: any(kept.glob("*.json")))
    second = await bench.ask("fill", kind="text", name="2")
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("O", "a", "k", "ctrl+l")
    await bench.sees("as last time: 1 changed, 1 added")
    assert screen.form.cells() == {"name": "Elm", "city": "Bern"}
    assert (await bench.wait(second["id"]))["status"] == "pending"
    await bench.press("ctrl+l")
    assert screen.form.cells() == {"name": "Oak", "city": ""}
    await bench.press("ctrl+l", "ctrl+s", "ctrl+s")
    run = await bench.stack.run_until(second["run"]["id"], "succeeded")
    assert run["result"] is True


@pytest.mark.long  # tests/review/test_outcome.py
async def test_what_a_rival_answered_is_shown_in_full_beside_a_form_half_filled(
    bench: Bench,
) -> None:
    wait = await bench.ask("fill", kind="rows")
    await bench.open(size=(120, 60))
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    await bench.press("enter", "m", "i", "n", "e")
    theirs = [{"sku": f"T{n}", "qty": n} for n in range(1, 9)]
    await bench.answer(wait["id"], {"items": theirs, "remark": "theirs"})
    await bench.sees("The wait is fulfilled by ben")
    await bench.sees("Their answer")
    await bench.sees('"sku": "T8"')
    await bench.sees("mine")


@pytest.mark.long
async def test_a_row_is_added_from_a_field_above_its_list_and_is_in_sight(bench: Bench) -> None:
    """What is out of sight would be typed into blindly."""
    await bench.ask("fill", kind="below")
    await bench.open(size=(80, 24))
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.sees("^o Add row")
    for place in (1, 2, 3):
        await bench.press("ctrl+o")
        await bench.sees(f"items {place} of {place}")
        assert screen.form.focused_row().field.label == "sku"
        await bench.until(lambda: screen.focused.region in screen.query_one("#left").region)
    await bench.press("ctrl+g", "ctrl+g", "ctrl+g")
    assert screen.form.cells()["items"] == ()


@pytest.mark.long  # tests/forms/test_rows.py
async def test_a_form_without_lists_has_no_row_to_add(bench: Bench) -> None:
    await bench.ask("fill", kind="text")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()
    assert "Add row" not in bench.text()
    await bench.press("ctrl+o")
    await bench.sees("there is no list of rows here or below")
