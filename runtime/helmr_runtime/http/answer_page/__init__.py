"""The page behind an emailed link: a question, a form made from a JSON Schema, what was recorded.

It works without JavaScript, on a phone and with a screen reader, and runs nothing. Pure functions:
the routes read the token, call these, and let the ledger decide.

```
fields.py   form model → questions, filled in from JSON; submitted form → JSON; a row of a list more, or less
page.py     page → HTML and headers
texts.py    untrusted texts made safe
```
"""

from helmr_runtime.http.answer_page.fields import (
    Decoded,
    PageForm,
    asks_for_rows,
    build_form,
    decode_form,
    first_of_row,
    first_values,
    with_action,
)
from helmr_runtime.http.answer_page.page import (
    AnswerPage,
    PageState,
    page_headers,
    page_status,
    render_page,
)

__all__ = [
    "AnswerPage",
    "Decoded",
    "PageForm",
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
