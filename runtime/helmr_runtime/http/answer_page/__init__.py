"""The page behind an emailed link: a question, a form made from a JSON Schema, what was recorded.

It works without JavaScript, on a phone and with a screen reader, and runs nothing. Pure functions:
the routes read the token, call these, and let the ledger decide.

```
fields.py   form model → questions      decode.py   submitted form → JSON
prefill.py  JSON → a filled-in form     rows.py     a row of a list more, or less
texts.py    untrusted texts made safe   page.py     page → HTML and headers
```
"""

from helmr_runtime.http.answer_page.decode import Decoded, decode_form
from helmr_runtime.http.answer_page.fields import Form, build_form
from helmr_runtime.http.answer_page.page import (
    AnswerPage,
    PageState,
    page_headers,
    page_status,
    render_page,
)
from helmr_runtime.http.answer_page.prefill import first_values
from helmr_runtime.http.answer_page.rows import asks_for_rows, first_of_row, with_action

__all__ = [
    "AnswerPage",
    "Decoded",
    "Form",
    "PageState",
    "asks_for_rows",
    "build_form",
    "decode_form",
    "first_of_row",
    "first_values",
    "page_headers",
    "page_status",
    "render_page",
    "with_action",
]
