"""Links that an operator adds to waits: what a template may say, and what it becomes."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import UsageError
from helmr.evidence import checked_url
from helmr.link_templates import PLACEHOLDERS, links_of, read_links
from helmr.models import WaitInfo
from helmr.models.evidence import LINK_LABEL_MAX, LINK_URL_MAX, LINKS_MAX

WAIT = {
    "id": "wait_1",
    "kind": "input",
    "session_id": "ses_1",
    "run_id": "run_1",
    "task": "pay out/é?&#",
    "stream": "approval",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
}


def links(table: Any, **changes: Any) -> dict[str, str]:
    read = read_links(table, "helmr.toml")
    return {one.label: one.url for one in links_of(read, {**WAIT, **changes})}


def test_placeholders_are_filled_with_values_of_the_wait_percent_encoded() -> None:
    everything = "".join(f"/{{{name}}}" for name in PLACEHOLDERS)
    found = links(
        {"All": f"https://a.example/x{everything}?q=%7B{{task}}%7D", "Plain": "http://b.example"}
    )
    assert found == {
        "All": "https://a.example/x/4bf92f3577b34da6a3ce929d0e0e4736/ses_1/run_1/wait_1"
        "/pay%20out%2F%C3%A9%3F%26%23/approval?q=%7Bpay%20out%2F%C3%A9%3F%26%23%7D",
        "Plain": "http://b.example",
    }
    assert {*PLACEHOLDERS.values()} <= {*WaitInfo.model_fields}


def test_a_link_is_left_out_if_the_wait_lacks_a_value_of_it() -> None:
    table = {"T": "https://a.example/{trace_id}", "S": "https://a.example/{stream}/{session_id}"}
    assert list(links(table)) == ["T", "S"]
    assert list(links(table, stream=None)) == ["T"], "a wait on a token"
    assert list(links(table, trace_id=None)) == ["S"], "asked while no traces were sent"
    assert links(table, kind="timer") == {}, "no person answers it"


@given(st.text(), st.text())
def test_no_value_leaves_its_place(task: str, stream: str) -> None:
    url = links({"L": "https://a.example/{task}/b?s={stream}#c"}, task=task, stream=stream)["L"]
    parts = urlsplit(url)
    assert (parts.hostname, parts.fragment) == ("a.example", "c")
    if not any("\ud800" <= sign <= "\udfff" for sign in task + stream):
        assert unquote(parts.path) == f"/{task}/b"
        assert unquote(parts.query) == f"s={stream}"
    assert len(url) > LINK_URL_MAX or checked_url(url)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (["a"], "is a table from labels to URLs"),
        ({str(n): "https://a.example" for n in range(LINKS_MAX + 1)}, "at most 20 rows, not 21"),
        ({"Trace": 7}, "'Trace' of [links] is a URL, not int"),
        ({"Trace": {"url": "https://a.example"}}, "'Trace' of [links] is a URL, not dict"),
        ({"": "https://a.example"}, "can't be a label"),
        ({"a" * (LINK_LABEL_MAX + 1): "https://a.example"}, "can't be a label"),
        ({"two\nlines": "https://a.example"}, r"'two\nlines' of [links] can't be a label"),
        ({" a": "https://a.example"}, "can't be a label"),
        ({"\u202ea": "https://a.example"}, "can't be a label"),
        ({"a\x1b[2J": "https://a.example"}, "can't be a label"),
        ({"T": "https://a.example/{trace}"}, "'T' of [links] has {trace}, which is no placeholder"),
        ({"T": "https://a.example/{}"}, "has {}, which is no placeholder"),
        ({"T": "https://a.example/{task!r}"}, "has {task!r}, which is no placeholder"),
        ({"T": "https://a.example/{task.x}"}, "has {task.x}, which is no placeholder"),
        ({"T": "https://a.example/{ task }"}, "has { task }, which is no placeholder"),
        ({"T": "https://a.example/{\x1b}"}, r"has {\x1b}, which is no placeholder"),
        ({"T": "https://a.example/{task"}, "has a brace alone"),
        ({"T": "https://a.example/task}"}, "has a brace alone"),
        ({"T": "https://a.example/{{task}}"}, "has a brace alone"),
        ({"T": "https://{task}.example/"}, "has a placeholder in its host"),
        ({"T": "https://a.example:80{task}"}, "'T' of [links]"),
        ({"T": "https://[{task}]/"}, "'T' of [links]"),
        ({"T": "{task}://a.example"}, "can follow"),
        ({"T": "javascript:alert(1)"}, "can follow"),
        ({"T": "mailto:ada@example.com"}, "can follow"),
        ({"T": "{trace_id}"}, "can follow"),
        ({"T": "https://"}, "can follow"),
        ({"T": "https://ada:pw@a.example/"}, "user or password"),
        ({"T": "https://a.example/a b"}, "characters that an address can't have"),
        ({"T": "https://a.example/\n"}, "characters that an address can't have"),
        ({"T": "https://a.example/é"}, "characters that an address can't have"),
        ({"T": "https://a.example/" + "x" * LINK_URL_MAX}, "longer than 1000"),
    ],
)
def test_a_row_that_is_no_template_has_one_error_that_names_it(table: Any, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_links(table, "/etc/helmr.toml")
    error = raised.value
    assert told in error.message
    assert error.message.startswith("/etc/helmr.toml: ")
    assert "pw" not in error.message
    assert error.message.isprintable()
    if "no placeholder" in told:
        assert all(f"{{{name}}}" in (error.hint or "") for name in PLACEHOLDERS)
