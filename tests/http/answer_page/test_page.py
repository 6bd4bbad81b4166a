"""The answer page: nothing on it runs but our script, leaks or needs a script; everything on it can be used."""

import base64
import hashlib
import re
import time
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.person.forms import Kind
from helmr.person.forms.model import FIELDS_MAX
from helmr_runtime.http.answer_page import (
    PageState,
    build_form,
    decode_form,
    first_values,
    page_headers,
    page_status,
    render_page,
)
from helmr_runtime.http.answer_page.layout import LOCAL_SCRIPT, STYLE
from helmr_runtime.http.answer_page.page import CODE_CHARS_MAX
from helmr_runtime.http.answer_page.texts import (
    clean,
    distance,
    markdown_html,
    moment,
    timed,
)
from helmr_runtime.security.schemas import DataSchema, SchemaProblem
from helmr_runtime.service.tokens import _asker
from tests.http.answer_page.pages import CALLED, NOW, Order, call_page, page

VOID = {"meta", "input", "br", "hr"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "form",
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "span", "bdi", "b", "a", "dl", "dt", "dd", "div", "time",
    "ul", "ol", "li", "label", "input", "select", "option", "textarea", "fieldset", "legend", "button",
    "details", "summary", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "blockquote",
    "em", "strong", "s", "del", "ins", "hr", "br",
}  # fmt: skip


class Document(HTMLParser):
    """A page as a list of (tag, attributes), checked for balance, without our script; `text` is what it says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html.replace(f"<script>{LOCAL_SCRIPT}</script>", "", 1))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice on {tag}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "textarea"):
            self.text += data

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attrs for tag, attrs in self.elements if tag in tags]


EDIT = {"file_path": "pay.sql", "old_string": "-- fee\n<b>\n", "new_string": "++ fee\n<b>\n"}
COMMAND = {"command": "git push  --force <b>", "description": "Pushes"}

STATES = [page(state) for state in PageState] + [
    page(is_stale=True),
    page(form=build_form(True), body=None),
    page(PageState.RECORDED, answer={"decision": "approve", "address": {"street": "Main"}}),
    page(PageState.RECORDED, answer=[1, {"a": 2}]),
    page(PageState.OVERTAKEN, ended_at=NOW, ended_by="ana"),
    page(
        values={"f/amount": ["x"]},
        problems=decode_form(build_form(Order.model_json_schema()), {"f/amount": ["x"]}).problems,
    ),
    call_page(),
    call_page(body="A text of its own."),
    call_page(arguments={}),
    call_page(tool="Edit", arguments=EDIT, asked_in="/srv/shop", heading="Edit pay.sql"),
    call_page(values={"f/arguments/amount/cents": ["x"]}),
    call_page(PageState.RECORDED, answer={"decision": "decline", "reason": "no"}),
    call_page(PageState.OVERTAKEN, ended_at=NOW, ended_by="ana"),
]


@pytest.mark.parametrize("shown", STATES, ids=range(len(STATES)))
def test_every_page_is_whole_and_runs_and_loads_nothing(shown):
    document = Document(render_page(shown))
    assert {tag for tag, _ in document.elements} <= TAGS
    for _, attrs in document.elements:
        assert not [
            name for name in attrs if name.startswith("on") or name in ("src", "action", "style")
        ]
    assert document.all("html") == [{"lang": "en"}]
    assert len(document.all("h1")) == 1
    assert len(document.all("title")) == 1
    ids = [attrs["id"] for _, attrs in document.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("shown", STATES, ids=range(len(STATES)))
def test_every_control_has_a_label_and_every_reference_a_target(shown):
    document = Document(render_page(shown))
    ids = {attrs["id"] for _, attrs in document.elements if "id" in attrs}
    labelled = {attrs["for"] for attrs in document.all("label") if "for" in attrs}
    assert labelled <= ids
    for attrs in document.all("input", "select", "textarea"):
        if attrs.get("type") not in ("hidden", "radio", "checkbox"):
            assert attrs["id"] in labelled
    for _, attrs in document.elements:
        for name in ("aria-describedby", "aria-labelledby"):
            assert set(attrs.get(name, "").split()) <= ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    fieldsets = [tag for tag, _ in document.elements if tag in ("fieldset", "legend")]
    assert fieldsets == ["fieldset", "legend"] * (len(fieldsets) // 2)


def test_radios_and_boxes_stand_inside_their_label():
    html = render_page(page())
    inside = len(re.findall(r"<label[^>]*><input type=\"(?:radio|checkbox)\"", html))
    assert inside == len(re.findall(r"type=\"(?:radio|checkbox)\"", html)) > 10


def test_the_page_says_who_asks_what_and_until_when():
    text = Document(render_page(page())).text
    for part in ("publish-review", "Publish the review of octo/hello#7?", "three"):
        assert part in text
    assert "26 November 2026, 15:30 UTC" in text
    assert "(in 2d)" in text


def test_an_open_page_says_who_else_is_at_it_and_what_follows_if_nobody_answers():
    escalation_steps = ("remind after 10m", "default after 8h: false; next, at 26 November 2026")
    parts: dict[str, Any] = {
        "claimed_by": "mia <b>",
        "claimed_until": NOW + timedelta(minutes=9),
        "escalation": escalation_steps,
    }
    text = " ".join(Document(render_page(page(**parts))).text.split())
    assert "If no one answersremind after 10mdefault after 8h: false; next" in text
    assert "Someone is working on itmia <b>, until 24 November 2026, 15:39 UTC" in text
    over = Document(render_page(page(PageState.RECORDED, **parts))).text
    assert "Someone is working on it" not in over
    assert "If no one answers" not in over


def test_only_an_open_page_has_a_form_and_its_nonce():
    for shown in STATES:
        html = render_page(shown)
        is_open = shown.state is PageState.OPEN
        assert ("<form" in html) == is_open
        assert ("the-nonce" in html) == is_open


def test_a_recorded_answer_is_shown_with_the_questions_words():
    shown = page(PageState.RECORDED, answer={"address": {"street": "<i>Main"}, "urgent": True})
    html = render_page(shown)
    assert "Delivery address" in html
    assert "&lt;i&gt;Main" in html
    assert "Yes" in html


def test_who_was_overtaken_learns_by_whom_and_not_what():
    shown = page(
        PageState.OVERTAKEN, ended_by="ana", ended_at=NOW, answer={"decision": "THE-ANSWER"}
    )
    html = render_page(shown)
    assert "ana" in html
    assert "THE-ANSWER" not in html


def test_an_unknown_link_learns_nothing():
    html = render_page(page(PageState.UNKNOWN))
    for part in ("publish-review", "octo", "three", "November"):
        assert part not in html


def test_problems_are_listed_first_with_links_and_repeated_at_their_field():
    schema = Order.model_json_schema()
    form = build_form(schema)
    values = {"f/note": ["typed"], "i/address": ["1"], "f/address/zip": ["12"], "v/payment": ["0"]}
    decoded = decode_form(form, values)
    html = render_page(page(form=form, values=values, problems=decoded.problems))
    document = Document(html)
    assert 'role="alert"' in html
    assert html.index('role="alert"') < html.index("<h1")
    links = [attrs["href"][1:] for attrs in document.all("a") if attrs["href"].startswith("#")]
    assert len(links) == len(decoded.problems) == len(re.findall('class="error"', html))
    assert "typed</textarea>" in html
    assert "<title>Error: " in html
    assert sum(attrs.get("aria-invalid") == "true" for _, attrs in document.elements) == len(links)


def test_a_problem_inside_what_has_no_field_is_shown_at_the_nearest():
    problems = [
        SchemaProblem(("extra", "x", 1), "Must be a whole number."),
        SchemaProblem(("nowhere",), "Is odd."),
    ]
    text = Document(render_page(page(problems=problems))).text
    assert "Extra: x.1: Must be a whole number." in text
    assert "nowhere: Is odd." in text


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"address": {"street": "a", "zip": "1"}}, ("address", "zip")),
        ({"payment": {"kind": "invoice", "days": 100}}, ("payment", "days")),
        ({"amount": 6000}, ("amount",)),
        ({"decision": "maybe"}, ("decision",)),
    ],
)
def test_the_schemas_problems_name_the_field_also_inside_what_may_be_null(changes, path):
    value = {
        "decision": "edit",
        "amount": 1,
        "urgent": True,
        "payment": {"kind": "card", "last_digits": "1"},
        "country": "AT",
    }
    schema = DataSchema(Order.model_json_schema())
    assert schema.problems(value) == []
    assert [problem.path for problem in schema.problems(value | changes)] == [path]


# --- hostile texts --------------------------------------------------------------------------------

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</textarea></form></style><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;script&gt;",
    "\x00\x1b[31m\u202eevil\u2066",
    "x" * 50_000,
    "\n\n\n",
]


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_hostile_texts_stay_texts_everywhere(evil):
    schema = {
        "type": "object",
        "title": evil,
        "required": [evil],
        "properties": {
            evil: {"title": evil, "description": evil, "type": "string", "default": evil},
            "e": {"enum": [evil, "b"], "title": evil},
            "n": {"type": "object", "title": evil, "properties": {evil: {"type": "integer"}}},
            "u": {"oneOf": [{"type": "string", "title": evil}, {"type": "boolean"}]},
            "j": {"type": "array", "items": {"type": "object", "description": evil}},
            "c": {"const": evil},
        },
    }
    form = build_form(schema)
    names = [each.name for each in form.walk()]
    shown = {
        "form": form,
        "subject": evil,
        "body": evil,
        "asked_by": evil,
        "ended_by": evil,
        "nonce": evil,
        "values": {name: [evil] for name in names},
        "problems": [
            SchemaProblem((evil,), evil),
            SchemaProblem(("n", evil), evil),
            SchemaProblem((), evil),
        ],
        "answer": {evil: evil, "n": {evil: [evil]}},
    }
    for state in PageState:
        assert_harmless(render_page(page(state, **shown)))


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_a_hostile_call_stays_a_text(evil):
    arguments = {evil: evil, "n": {evil: [evil]}, "l": [{evil: 1}]}
    answer = {"decision": "decline", "reason": evil, "arguments": {f"{evil}2": evil}}
    for state in PageState:
        assert_harmless(
            render_page(call_page(state, tool=evil, arguments=arguments, answer=answer))
        )


def assert_harmless(html: str) -> None:
    """Nothing in it acts, and nothing is hidden in it."""
    document = Document(html)
    assert {tag for tag, _ in document.elements} <= TAGS
    for tag, attrs in document.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "action")]
        if tag == "a":
            assert attrs["href"].startswith("#")
    assert "\u202e" not in document.text
    assert "\x1b" not in document.text
    assert len(html) < 2_000_000


# --- leave for a tool's call ------------------------------------------------------------------------


def test_a_call_is_shown_in_rows_in_place_of_its_json():
    text = " ".join(Document(render_page(call_page())).text.split())
    for said in (
        "Toolrefund",
        "amount.cents4200",
        "Approve: refund is called with these arguments",
        "Decline: refund is not called; the agent sees the reason",
    ):
        assert said in text
    assert "is to be called with {" not in text
    assert "Fill this in" not in text
    own = Document(render_page(call_page(body="Mind the limit."))).text
    assert "Mind the limit." in own
    assert "amount.cents" in own


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"decision": "approve", "arguments": {**CALLED, "amount": {"cents": 1, "note": "x"}}},
            [
                "amount.cents1 (was 4200)",
                "amount.currencyleft out (was EUR)",
                "amount.notex (not asked for)",
                "refund is called with 3 values changed",
            ],
        ),
        ({"decision": "approve"}, ["refund is called as it was asked for"]),
        (
            {"decision": "decline", "reason": "too much"},
            ["refund is not called; the agent sees: too much"],
        ),
    ],
)
def test_a_recorded_answer_says_what_it_did_to_the_call(answer, said):
    document = Document(render_page(call_page(PageState.RECORDED, answer=answer)))
    text = " ".join(document.text.split())
    assert [one for one in said if one not in text] == []


def test_a_command_stands_once_and_as_it_is_given():
    shown = call_page(tool="Bash", arguments=COMMAND, body=None, heading="Run this command?")
    html = render_page(shown)
    before, _, after = html.partition("<form")
    assert "<pre><code>git push  --force &lt;b&gt;\n</code></pre>" in before
    assert before.count("git push") == 1
    assert before.count("Pushes") == 1
    assert after.count("git push") == 1, "the field in which it is changed"
    changed = {"decision": "approve", "arguments": {**COMMAND, "command": "git pull"}}
    recorded = render_page(replace(shown, state=PageState.RECORDED, answer=changed))
    assert "<code>git pull\n</code>" in recorded
    assert "git pull <span" in recorded, "and what it was"
    assert "Arguments" not in recorded.partition("What was recorded")[2]


def test_a_command_that_is_too_long_for_a_page_says_how_much_is_left_out():
    shown = call_page(tool="Bash", arguments={"command": "x" * (CODE_CHARS_MAX + 7)}, body=None)
    assert "… 7 more characters are not shown" in render_page(shown)


def test_an_edit_is_a_coloured_diff_and_what_it_comes_from_is_folded_away():
    html = render_page(call_page(tool="Edit", arguments=EDIT, body=None))
    card, _, form = html.partition("<form")
    diff, _, folded = card.partition("<details>")
    assert "--- pay.sql\n+++ pay.sql\n" in diff
    assert "<del>--- fee\n</del><ins>+++ fee\n</ins> &lt;b&gt;\n" in diff
    assert "old_string" not in diff
    assert folded.count("old_string") == folded.count("new_string") == 1
    assert "open" not in next(iter(Document(html).all("details")))
    assert "Edit" in card
    assert "f/arguments/old_string" in form


def test_arguments_that_somebody_was_at_are_in_sight():
    def is_open(**changes: Any) -> bool:
        (details,) = Document(render_page(call_page(**changes))).all("details")
        return "open" in details

    fresh = call_page().values
    assert not is_open()
    assert not is_open(values={**fresh, "f/reason": ["no"]})
    assert is_open(values={**fresh, "f/arguments/amount/cents": ["1000"]})
    problem = SchemaProblem(("arguments", "amount", "cents"), "must be positive")
    assert is_open(problems=[problem])


def test_a_call_without_arguments_has_nothing_to_change():
    document = Document(render_page(call_page(arguments={})))
    assert "Change what it is called with" not in document.text
    assert "Tool" in document.text


def test_what_was_typed_comes_back_as_it_was():
    for typed in ["\nfirst line empty", "</textarea>", "a & b", "  spaces  "]:
        html = render_page(page(form=build_form({"type": "string"}), values={"f": [typed]}))
        area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)
        assert area is not None
        parser = Document(f"<p>{area[1]}</p>")
        assert parser.text == typed


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(FIELDS_MAX)}},
        {"enum": list(range(5000))},
        {"oneOf": [{"type": "object", "properties": {"a": {"type": "string"}}}] * 50},
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$ref": "https://example.com/schema"},
        {"type": "object", "required": ["x"], "properties": {"y": {"type": "string"}}},
        {"type": "array", "items": {"type": "object"}},
        {"patternProperties": {"^x": {"type": "string"}}},
        False,
    ],
    ids=range(10),
)
def test_what_is_too_much_for_a_form_is_one_box_for_json(schema):
    form = build_form(schema)
    assert form.root.control == "code"
    assert "<textarea" in render_page(page(form=form))


def test_a_schema_that_holds_itself_ends_in_a_box_for_json():
    node = {
        "type": "object",
        "properties": {"value": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
    }
    form = build_form({"$ref": "#/$defs/node", "$defs": {"node": node}})
    fields = list(form.walk())
    assert fields[-1].field.kind is Kind.JSON
    assert len(fields) < 20


def test_a_schema_that_doubles_at_each_floor_is_bounded():
    defs = {
        f"d{n}": {"properties": {side: {"$ref": f"#/$defs/d{n + 1}"} for side in "abcdefgh"}}
        for n in range(30)
    }
    form = build_form({"$ref": "#/$defs/d0", "$defs": defs})
    fields = list(form.walk())
    assert len({each.id for each in fields}) == len(fields) <= FIELDS_MAX


# --- Markdown -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "[x](&#106;avascript:alert(1))",
        "![x](https://tracker.example/pixel.png)",
        '<https://ok.example/"onmouseover=alert(1)>',
        "<iframe src=//x></iframe><form action=//x><input></form>",
        "[a]: javascript:alert(1)\n\n[a]",
        "<style>*{display:none}</style>",
        "`` ` `` <b onclick=x>",
    ],
)
def test_hostile_markdown_makes_no_element_of_its_own(text):
    document = Document(f"<div>{markdown_html(text)}</div>")
    allowed = TAGS - {"form", "input", "button", "style", "label", "select", "textarea"}
    assert {tag for tag, _ in document.elements} <= allowed
    for tag, attrs in document.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "src"]
        if tag == "a":
            assert re.match(r"(https?|mailto):", attrs["href"])


@given(st.text())
def test_any_markdown_is_whole_html(text):
    Document(f"<div>{markdown_html(text)}</div>")


def test_links_say_nothing_of_where_they_came_from():
    html = markdown_html("[x](https://example.com) <https://example.org>")
    assert html.count('rel="noopener noreferrer nofollow"') == 2


def test_headings_stay_below_the_pages_own():
    assert markdown_html("# a\n\n##### b") == "<h2>a</h2>\n<h6>b</h6>\n"


def test_deep_and_long_markdown_is_bounded():
    for text in [
        ">" * 20_000,
        "- " * 10_000,
        "[" * 20_000,
        "*a **a " * 3_000,
        "|a" * 10_000 + "\n" + "|-" * 10_000,
    ]:
        assert len(markdown_html(text)) < 1_000_000


def test_plain_texts_lose_what_can_not_be_seen_and_nothing_else():
    assert clean("a\u202eb\x00c\td", 20) == "a\ufffdb\ufffdc d"
    assert clean("👩‍👩‍👧 فارسی می‌خواهم", 40) == "👩‍👩‍👧 فارسی می‌خواهم"
    assert clean("abcdef", 3) == "ab…"
    assert clean(7, 3) == ""


def test_a_line_with_a_time_says_which_moment_that_is_and_stays_text():
    line = "person:<ada>; next, at 2026-11-24 15:30 UTC"
    html = render_page(page(escalation=[line]))
    assert '<time datetime="2026-11-24T15:30Z" data-utc>2026-11-24 15:30 UTC</time>' in html
    assert "person:&lt;ada&gt;; next, at" in html
    assert "".join(re.sub("<[^>]+>", "", timed(line))) == line.replace("<", "&lt;").replace(
        ">", "&gt;"
    )


def test_what_is_needed_is_marked_and_what_may_be_left_out_too():
    schema = {"properties": {"a": {"type": "string"}, "b": {"enum": [1, 2]}}, "required": ["b"]}
    text = " ".join(Document(render_page(page(form=build_form(schema)))).text.split())
    assert "A (optional)" in text
    assert "B *" in text
    assert "What is marked * must be answered." in text


def test_times_read_as_people_say_them():
    assert moment(NOW) == "24 November 2026, 15:30 UTC"
    assert distance(NOW + timedelta(minutes=125), NOW) == "in 2h 5m"
    assert distance(NOW - timedelta(days=3), NOW) == "3d ago"
    assert distance(NOW + timedelta(seconds=5), NOW) == "in less than a minute"
    assert distance(NOW, NOW) == "just now"


# --- headers and colours --------------------------------------------------------------------------


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else():
    policy = page_headers(LOCAL_SCRIPT)["Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", render_page(page()), re.DOTALL)
    assert scripts == [LOCAL_SCRIPT]
    script = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    styles = re.findall(r"<style>(.*?)</style>", render_page(page()), re.DOTALL)
    assert styles == [STYLE]
    digest = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; script-src 'sha256-{script}'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert "script-src" not in page_headers()["Content-Security-Policy"]
    assert not re.search(r"fetch|XMLHttp|innerHTML|eval|EventSource|storage|cookie", LOCAL_SCRIPT)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_headers_keep_the_page_to_its_reader():
    headers = page_headers()
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Robots-Tag"].startswith("noindex")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_that_no_link_answers_says_who_may_and_has_no_form():
    who = "by 2 people: group <finance> or ada, but not by eve"
    shown = call_page(
        PageState.SIGN_IN, answered_by=who, answers_as="ada <b>", have=1, need=2, nonce=None
    )
    html = render_page(shown)
    assert "by 2 people: group &lt;finance&gt; or ada, but not by eve" in html
    assert "1 of 2 agree so far" in html
    assert "ada &lt;b&gt;</bdi></b> has to sign in" in html
    assert "<form" not in html
    assert "<title>Call refund?</title>" in html
    assert "4200" in html, "the card of the call"
    assert "Answer by" in html
    one = render_page(page(PageState.SIGN_IN, answered_by="by ada"))
    assert "agree" not in one


def test_a_page_of_a_wait_for_signed_answers_says_where_they_are_given():
    who = "by ada, signed by the person who gives it"
    html = render_page(page(PageState.OWN_KEY, answered_by=who, have=1, need=2, nonce=None))
    assert who in html
    assert "1 of 2 agree so far" in html
    assert "<code>helmr next</code>" in html
    assert "<form" not in html
    # It does not say that a page signs, beside that it can't.
    assert "your answer is signed" not in html.lower()
    assert html.count("which a page does not have") == 1


def test_the_status_of_a_page_follows_its_state():
    assert page_status(PageState.UNKNOWN, is_post=False) == 404
    assert {page_status(s, is_post=False) for s in PageState if s is not PageState.UNKNOWN} == {200}
    posts = {state: page_status(state, is_post=True) for state in PageState}
    assert posts == {
        PageState.OPEN: 422,
        PageState.SIGNED: 403,
        PageState.SIGN_IN: 403,
        PageState.OTHERS: 403,
        PageState.OWN_KEY: 403,
        PageState.RECORDED: 200,
        PageState.OVERTAKEN: 409,
        PageState.EXPIRED: 410,
        PageState.CANCELLED: 409,
        PageState.UNKNOWN: 404,
    }


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


PALETTES = [
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part)) for part in STYLE.split("@media")[:2]
]
TEXT_ON = [
    *[("ink", on) for on in ("paper", "card", "chosen", "code", "done-paper", "problem-paper")],
    *[("quiet", on) for on in ("paper", "card", "code", "chosen", "done-paper")],
    *[("problem", on) for on in ("card", "problem-paper")],
    ("accent", "card"),
    ("on-accent", "accent"),
    ("done", "done-paper"),
]


@pytest.mark.parametrize("palette", PALETTES, ids=["light", "dark"])
def test_texts_can_be_read_on_their_ground(palette):
    ratios = {(text, on): _contrast(palette[text], palette[on]) for text, on in TEXT_ON}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}
    # WCAG 1.4.11: the edges of controls.
    assert _contrast(palette["edge"], palette["card"]) >= 3
    assert _contrast(palette["accent"], palette["card"]) >= 3


def test_a_description_and_what_follows_it_are_sentences_of_their_own() -> None:
    def hint(schema: dict[str, object]) -> str:
        return build_form(schema).root.hint

    schema = {"description": "EUR that came", "type": "integer", "minimum": 0, "maximum": 5000}
    assert hint(schema) == "EUR that came. From 0 to 5000."
    assert hint({**schema, "description": "How much?"}).startswith("How much? ")
    assert hint({"description": "as it stands"}) == "as it stands"


def test_the_key_of_this_machine_asks_for_nobody() -> None:
    assert _asker({"type": "api_key", "name": "local"}) == ""
    assert _asker({"type": "api_key", "name": "local", "on_behalf_of": "ana"}) == "ana"
    assert _asker({"type": "api_key", "name": "billing"}) == "billing"


def test_a_secret_is_hidden_while_typed_and_never_shown_again() -> None:
    form = build_form({"properties": {"key": {"type": "string", "format": "password"}}})
    shown: dict[str, Any] = {
        "form": form,
        "values": {"f/key": ["s3cret"]},
        "answer": {"key": "s3cret"},
    }
    html = render_page(page(PageState.OPEN, **shown))
    assert 'type="password" value=""' in html
    assert "s3cret" not in html
    assert "s3cret" not in render_page(page(PageState.RECORDED, **shown))


def test_of_a_body_that_is_too_long_to_be_drawn_all_is_there_as_text():
    body = "# Diff\n\n" + "<b>+ line</b>\n" * 70_000  # 980 kB
    began = time.perf_counter()
    html = render_page(page(form=build_form(True), body=body))
    assert time.perf_counter() - began < 5
    document = Document(html)
    assert "Only the beginning is shown above. All of it as text (980 kB)" in document.text
    assert document.text.count("+ line") > 70_000, "the beginning and all of it"
    assert {tag for tag, _ in document.elements} <= TAGS
    assert ("b", {}) not in document.elements
    assert "Only the beginning" not in render_page(page(form=build_form(True), body="x" * 65_536))


def test_no_decision_is_chosen_beforehand() -> None:
    schema = {
        "type": "object",
        "properties": {"decision": {"enum": ["approve", "reject"]}, "sure": {"type": "boolean"}},
        "required": ["decision", "sure"],
    }
    form = build_form(schema, initial={"decision": "approve", "sure": True})
    html = render_page(page(form=form, values=first_values(form)))
    assert html.count(" checked") == 1, "what is not a decision is kept"
    assert "Suggested: approve." in html
    assert " checked" not in render_page(call_page())
    assert "Suggested" not in render_page(call_page())
    left = decode_form(form, first_values(form))
    assert [(one.path, one.message) for one in left.problems] == [
        (("decision",), "Please choose one.")
    ]


def test_a_declined_call_is_sent_without_arguments_whatever_stands_in_their_fields() -> None:
    form = call_page().form
    assert form is not None
    values = {
        **first_values(form),
        "f/decision": ['"decline"'],
        "f/arguments/amount/cents": ["lots"],
        "f/reason": ["too much"],
    }
    decoded = decode_form(form, values)
    assert decoded.problems == ()
    assert decoded.value == {"decision": "decline", "reason": "too much"}


def test_for_whom_a_link_is_stands_on_its_page() -> None:
    assert "You answer as <b><bdi>ada &lt;b&gt;</bdi></b>" in render_page(
        page(answers_as="ada <b>")
    )
    assert "You answer as" not in render_page(page())


def test_a_second_answer_is_said_not_to_be_recorded() -> None:
    shown = page(PageState.RECORDED, answer={"decision": "reject"}, ended_at=NOW, is_second=True)
    text = " ".join(Document(render_page(shown)).text.split())
    assert "Your first answer stands: reject This one was not recorded." in text
    assert "You can close this page" not in text
    long = replace(shown, form=build_form({"type": "string"}), answer="x" * 100)
    assert "Your first answer stands" in Document(render_page(long)).text


def test_what_is_answered_for_people_stands_beside_its_time() -> None:
    text = " ".join(Document(render_page(page(then="reject <b>"))).text.split())
    assert "(in 2d) ; without an answer it is reject <b> then" in text.replace(
        "(in 2d);", "(in 2d) ;"
    )
    assert "without an answer" not in render_page(page())


def test_errors_of_two_rows_do_not_read_alike() -> None:
    item = {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": item}}}
    form = build_form(schema, values={"r/items": ["0,1"]})
    values = {"r/items": ["0,1"], "f/items/#0/sku": [""], "f/items/#1/sku": [""]}
    decoded = decode_form(form, values)
    shown = render_page(page(form=form, values=values, problems=decoded.problems))
    links = re.findall(r'<a href="#q\d+">([^<]*)</a>', shown)
    assert links == ["Items 1, Sku: Please fill this in.", "Items 2, Sku: Please fill this in."]


def test_what_scrolls_sideways_is_reached_by_keys() -> None:
    html = markdown_html("```\nx\n```\n\n| a |\n|---|\n| b |\n")
    assert '<pre tabindex="0">' in html
    assert '<table tabindex="0">' in html
    assert '<pre tabindex="0">' in render_page(page(form=build_form({"type": "object"})))


def test_a_diff_says_which_lines_come_and_go_and_ends_in_no_markup_of_its_own() -> None:
    html = markdown_html("```diff\n--- a\n+++ a\n-old <b>\n+new\n same\n```\n\n```sh\n-x\n```")
    assert "<del>-old &lt;b&gt;\n</del><ins>+new\n</ins> same\n" in html
    assert html.count("<del>") == html.count("<ins>") == 1
    assert "\n-x\n" in f"\n{html.rpartition('<code>')[2]}"
