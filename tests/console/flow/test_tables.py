"""Rows as a table, texts of one line that grow, one line of facts, a review that reads as text."""

from __future__ import annotations

import re

import pytest

from helmr_console.widgets.field_row import FieldRow
from tests.console.flow.bench import Bench
from tests.console.flow.test_calls import result
from tests.console.flow.test_goldens import SIZES
from tests.console.flow.test_hurried import FILLED, opened, registry

__all__ = ["registry"]
LINES = [{"sku": f"S{number}", "qty": number} for number in range(5)]
DIFF = """## Change
```diff
--- a/lease.py
+++ b/lease.py
@@ -1,2 +1,3 @@
 def renew(lease):
-    return lease
+    lease.until = now() + HOUR
+    return lease
```
- one
- two
- three"""


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_five_rows_are_five_lines_below_their_heads(
    bench: Bench, size: tuple[int, int]
) -> None:
    await bench.ask("refund", initial={**FILLED, "lines": LINES})
    await bench.open(size=size)
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    field = screen.form.rows["lines"]
    field.editor.focus()
    await bench.press("shift+tab")
    assert field.region.height <= 9, "heads, five rows, the line that adds one, a label"
    shown = [line for line in bench.text().splitlines() if re.search(r"\d  +S\d +\d", line)]
    assert len(shown) == 5
    places = {line.index("S") for line in shown}
    head = next(line for line in bench.text().splitlines() if "qty *" in line)
    assert places == {head.index("sku")}


async def test_cells_are_typed_over_and_rows_come_go_and_move_in_a_table(bench: Bench) -> None:
    _, screen = await opened(bench, initial={**FILLED, "lines": LINES[:2]})
    await bench.press("tab", "tab", "tab", *"T7", "tab", *"42", "ctrl+o", *"N", "tab", *"9")
    await bench.press("ctrl+up")
    built = screen.form.result()
    assert built.data["lines"] == [
        {"sku": "N", "qty": 9},
        {"sku": "T7", "qty": 42},
        {"sku": "S1", "qty": 1},
    ]
    await bench.press("ctrl+g", "tab", *"x")
    await bench.sees("! not a")
    assert screen.form.cells()["lines.#0.qty"] == "x"


MANY = [{"sku": f"S{number}", "qty": number} for number in range(200)]


async def test_two_hundred_rows_are_a_table_in_which_one_row_is_made_of_fields(
    bench: Bench,
) -> None:
    _, screen = await opened(bench, initial={**FILLED, "lines": MANY})
    table = screen.form.rows["lines"]
    assert len(list(table.query(FieldRow))) == 2
    assert table.region.height == 200 + 3  # its label, the heads, the line that adds one
    await bench.press("tab", "tab", "tab", "tab", *"7", "tab", *"T1", "down", *"T2")
    assert table.live.number == 2
    await bench.press("shift+tab", *"8", "shift+tab", *"U1")
    await bench.press("pagedown", "pagedown", "tab", "x", "down")
    await bench.sees("! 22")  # what is wrong stays marked in the row that was left
    await bench.press("up", "backspace", *"9")
    built = screen.form.result()
    wanted = [dict(line) for line in MANY]
    wanted[0]["qty"], wanted[1]["sku"], wanted[1]["qty"] = 7, "U1", 8
    wanted[2]["sku"], wanted[21]["qty"] = "T2", 9
    assert built.problems == {}
    assert built.data["lines"] == wanted


@pytest.mark.long  # tests/forms/test_rows.py
async def test_rows_of_a_table_come_go_and_move_and_its_mistakes_are_led_to(bench: Bench) -> None:
    wait, screen = await opened(bench, initial={**FILLED, "lines": MANY[:60]})
    table = screen.form.rows["lines"]
    table.editor.focus()
    await bench.press("up", "tab", "ctrl+u", "ctrl+home", "up")
    table.go(30)
    await bench.press("ctrl+s")
    await bench.sees("needed")
    assert table.live.number == 59, "the row of the first mistake has the fields"
    await bench.press(*"5", "ctrl+g", "ctrl+g", "ctrl+up", "ctrl+o", *"new", "tab", *"1")
    assert [row["sku"] for row in screen.form.result().data["lines"]][-4:] == [
        "S55",
        "S57",
        "new",
        "S56",
    ]
    await bench.press("f2", "f2", "ctrl+s", "ctrl+s")
    await bench.on("InboxScreen")
    sent = await result(bench, wait)
    assert [row["sku"] for row in sent["lines"]][-2:] == ["new", "S56"]
    assert len(sent["lines"]) == 59


@pytest.mark.long
async def test_a_text_is_one_line_that_grows_with_it(bench: Bench) -> None:
    _, screen = await opened(bench, initial=FILLED)
    letter = screen.form.rows["letter"].editor
    assert letter.region.height == 1
    await bench.press("tab", "tab", "enter", *"b", "enter", *"c")
    await bench.until(lambda: letter.region.height == 3)
    assert screen.form.cells()["letter"] == "Dear Ada,\nb\nc"


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_facts_of_a_form_are_one_line_at_every_width(
    bench: Bench, size: tuple[int, int]
) -> None:
    wait = await bench.ask(subject="Publish?", timeout="41m")
    await bench.open(size=size)
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    facts = [line.plain for line in screen.facts()]
    assert len(facts) == 1
    assert facts[0].startswith("approval  publish   due 4")
    if size[0] < 100:
        await bench.press("f3")
    await bench.sees(wait["id"][:30])


@pytest.mark.long
async def test_a_diff_is_in_colours_and_on_the_wider_side_of_a_short_form(bench: Bench) -> None:
    await bench.ask(subject="Publish?", body=DIFF)
    await bench.open(size=(120, 36))
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.until(
        lambda: screen.entry.aside.region.width > screen.query_one("#left").region.width
    )
    await bench.sees("+    lease.until = now() + HOUR")


@pytest.mark.long
async def test_a_long_text_is_reviewed_as_a_text_and_as_json_behind_its_key(bench: Bench) -> None:
    letter = "Dear Ada,\n\nit left this morning."
    await opened(bench, initial={**FILLED, "letter": letter})
    await bench.press("ctrl+s")
    await bench.sees("  it left this morning.")
    assert "cents: 4200" in bench.text()
    assert "\\n" not in bench.text()
    await bench.press("f2")
    await bench.sees('"letter": "Dear Ada,\\n\\nit left')
    await bench.press("f2")
    await bench.sees("  it left this morning.")
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
