"""The page behind an emailed link: a question, a form made from a JSON Schema, the recorded answer.

It works without JavaScript, on a phone and with a screen reader. Its one script shows times in the reader's zone.
All functions are pure: the routes read the token, call these, and let the ledger decide.

```
fields.py   form model → questions, filled in from JSON; submitted form → JSON; rows of a list added or removed
page.py     page → HTML
sign_in.py  the page on which people sign in → HTML
inbox.py    the list of waits for a person → HTML
layout.py   the frame around each page, its style and headers
texts.py    untrusted texts made safe
```
"""

from helmr_runtime.http.answer_page.fields import (
    Decoded,
    PageForm,
    all_problems,
    asks_for_rows,
    build_form,
    decode_form,
    first_of_row,
    first_values,
    with_action,
)
from helmr_runtime.http.answer_page.inbox import InboxPage, InboxView, render_inbox
from helmr_runtime.http.answer_page.layout import (
    LOCAL_SCRIPT,
    SignedInBar,
    page_headers,
    render_errors,
)
from helmr_runtime.http.answer_page.page import (
    AnswerPage,
    PageState,
    page_status,
    render_page,
)
from helmr_runtime.http.answer_page.sign_in import SignInPage, render_home, render_sign_in

__all__ = [
    "LOCAL_SCRIPT",
    "AnswerPage",
    "Decoded",
    "InboxPage",
    "InboxView",
    "PageForm",
    "PageState",
    "SignInPage",
    "SignedInBar",
    "all_problems",
    "asks_for_rows",
    "build_form",
    "decode_form",
    "first_of_row",
    "first_values",
    "page_headers",
    "page_status",
    "render_errors",
    "render_home",
    "render_inbox",
    "render_page",
    "render_sign_in",
    "with_action",
]
