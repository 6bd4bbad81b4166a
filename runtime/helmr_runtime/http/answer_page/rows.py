"""The buttons of a list: a page with one row more, or one less. Nothing is answered by them."""

from __future__ import annotations

from helmr.forms import room
from helmr_runtime.http.answer_page.decode import cells_of
from helmr_runtime.http.answer_page.fields import Form, Question, Values

ACTION_FIELD = "do"
ADD, REMOVE = "add", "remove"


def asks_for_rows(values: Values) -> bool:
    """Whether a button of a list was pressed, and not the one that sends."""
    return ACTION_FIELD in values


def with_action(form: Form, values: Values) -> tuple[dict[str, list[str]], str]:
    """What was submitted, as the button says that was pressed, and the name of the row that is new; else as it was.

    A list that has no room for another row, or no such row, stays as it is.
    """
    done = {name: list(texts) for name, texts in values.items() if name != ACTION_FIELD}
    verb, _, rest = "".join(values.get(ACTION_FIELD, ())[:1]).partition(" ")
    number, _, name = rest.partition(" ")
    asked = next((one for one in form.walk() if _is_list(one) and one.rows_name == name), None)
    if asked is None:
        return done, ""
    rows = asked.rows
    if verb == ADD and not room(form.model, asked.field, cells_of(form, values)):
        new = max(rows, default=-1) + 1
        done[name] = [_spelt((*rows, new))]
        return done, f"{name} {new}"
    if verb == REMOVE:
        done[name] = [_spelt(tuple(one for one in rows if str(one) != number))]
    return done, ""


def first_of_row(form: Form, new: str) -> str:
    """The id of the first control of a row that is new; empty if there is none."""
    for asked in form.walk():
        for row, number in zip(asked.inner, asked.rows, strict=False):
            if new == f"{asked.rows_name} {number}":
                return _first_control(row)
    return ""


def _first_control(question: Question) -> str:
    controls = (one.id for one in question.walk() if one.control not in ("group", "const"))
    return next(controls, "")


def _is_list(question: Question) -> bool:
    return question.control == "rows"


def _spelt(rows: tuple[int, ...]) -> str:
    return ",".join(str(one) for one in rows)
