"""The page in a real browser, without JavaScript: filled in by its labels, sent, refused, recorded."""

import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from helmr_runtime.http.answer_page import (
    LOCAL_SCRIPT,
    AnswerPage,
    PageState,
    decode_form,
    page_headers,
    page_status,
    render_page,
)
from helmr_runtime.security.callbacks import (
    CallbackForm,
    NonceState,
    make_nonce,
    read_callback,
    read_nonce,
)
from helmr_runtime.security.schemas import DataSchema
from tests.http.answer_page.pages import NOW, Order, call_page, page

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
KEY = b"k" * 32


class Claims:
    """One token behind one page: what the routes and the ledger do, in memory."""

    def __init__(self, shown: AnswerPage) -> None:
        assert shown.form is not None
        self.form = shown.form
        self._shown = shown
        self.answer: Any = None
        self.posts = 0

    def show(self, **changes: Any) -> AnswerPage:
        if self.answer is not None:
            return replace(self._shown, state=PageState.RECORDED, answer=self.answer, ended_at=NOW)
        nonce = make_nonce(KEY, token_id="tok_1", binding=self.form.binding, now=NOW)
        return replace(self._shown, nonce=nonce, **changes)

    def take(self, content_type: str, body: bytes) -> AnswerPage:
        self.posts += 1
        sent = read_callback(content_type=content_type, body=body, is_raw=False, token_is_raw=False)
        assert isinstance(sent, CallbackForm)
        nonce = read_nonce(KEY, sent.nonce, token_id="tok_1", binding=self.form.binding, now=NOW)
        assert nonce.state is NonceState.VALID
        decoded = decode_form(self.form, sent.values)
        problems = decoded.problems or DataSchema(self.form.model.schema).problems(decoded.value)
        if problems:
            return self.show(values=sent.values, problems=problems)
        self.answer = decoded.value
        return self.show()


@pytest.fixture
def claims(request):
    return Claims(getattr(request, "param", page()))


@pytest.fixture
def url(claims):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(claims.show(), is_post=False)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(claims.take(self.headers["Content-Type"], body), is_post=True)

        def _answer(self, shown: AnswerPage, *, is_post: bool) -> None:
            html = render_page(shown).encode()
            self.send_response(page_status(shown.state, is_post=is_post))
            for name, value in page_headers(LOCAL_SCRIPT).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(html)))
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the path is a secret."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/callbacks/x"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(params=[360, pytest.param(1200, marks=pytest.mark.long)], ids=["phone", "desktop"])
def tab(browser, request):
    size = {"width": request.param, "height": 800}
    context = browser.new_context(java_script_enabled=False, viewport=size)
    tab = context.new_page()
    tab.complaints = []
    tab.on("console", lambda message: tab.complaints.append(message.text))
    tab.on("requestfailed", lambda failed: tab.complaints.append(failed.url))
    yield tab
    context.close()
    assert [text for text in tab.complaints if "422" not in text] == []


def test_a_person_answers_by_the_labels_and_a_second_visit_shows_it(tab, url, claims):
    tab.goto(url)
    assert tab.get_by_label("Street").is_hidden()
    assert tab.get_by_label("Days").is_hidden()
    tab.get_by_role("group", name="Decision").get_by_label("approve").check()
    tab.get_by_label("Note").fill("Fine.\nShip it <b>now</b>.")
    tab.get_by_label("Amount").fill("12.5")
    tab.get_by_role("group", name="Urgent").get_by_label("No", exact=True).check()
    tab.get_by_role("group", name="Delivery address").get_by_label("Fill this in").check()
    tab.get_by_label("Street").fill("Main Street 1")
    tab.get_by_label("Zip").fill("1")
    tab.get_by_role("group", name="Payment").get_by_label("Invoice").check()
    tab.get_by_label("Days").fill("14")
    tab.get_by_role("group", name="Tags").get_by_label("old").check()
    tab.get_by_label("Reviewers").fill("ana\nbob")
    size = tab.get_by_role("group", name="Size")
    size.get_by_role("radio", name="Whole number").check()
    size.get_by_role("textbox", name="Whole number").fill("7")
    tab.get_by_label("Country").select_option(label="DE")
    tab.get_by_role("button", name="Send answer").click()

    assert tab.title().startswith("Error: ")
    summary = tab.get_by_role("alert")
    summary.get_by_role("link", name="Zip").click()
    assert tab.get_by_label("Zip").get_attribute("aria-invalid") == "true"
    assert tab.get_by_label("Note").input_value() == "Fine.\nShip it <b>now</b>."
    assert claims.posts == 1
    tab.get_by_label("Zip").fill("12345")
    tab.get_by_role("button", name="Send answer").click()

    expected = {
        "decision": "approve",
        "note": "Fine.\nShip it <b>now</b>.",
        "amount": 12.5,
        "urgent": False,
        "address": {"street": "Main Street 1", "zip": "12345"},
        "payment": {"kind": "invoice", "days": 14},
        "tags": ["old"],
        "reviewers": ["ana", "bob"],
        "size": 7,
        "country": "DE",
    }
    assert claims.answer == expected
    Order.model_validate(claims.answer)
    for _ in range(2):
        assert tab.get_by_role("status").inner_text().startswith("The answer is recorded")
        assert "Ship it <b>now</b>." in tab.locator("main").inner_text()
        assert tab.locator("form").count() == 0
        tab.goto(url)
    assert claims.posts == 2


@pytest.mark.long  # test_round_trip.py
@pytest.mark.parametrize("claims", [call_page()], indirect=True, ids=["call"])
def test_a_call_is_read_in_rows_changed_in_fields_and_recorded_with_what_it_did(tab, url, claims):
    tab.goto(url)
    card = tab.get_by_role("region", name="The call")
    assert "4200" in card.inner_text()
    assert "Decline: refund is not called; the agent sees the reason" in card.inner_text()
    cents = tab.get_by_label("Cents")
    assert cents.is_hidden()
    tab.get_by_text("Change what it is called with").click()
    cents.fill("lots")
    tab.get_by_role("group", name="Decision").get_by_label("approve").check()
    tab.get_by_role("button", name="Send answer").click()

    assert tab.title().startswith("Error: ")
    assert cents.is_visible()
    assert cents.input_value() == "lots"
    cents.fill("1000")
    tab.get_by_role("button", name="Send answer").click()
    assert claims.answer == {
        "decision": "approve",
        "arguments": {"customer": "ada", "amount": {"cents": 1000, "currency": "EUR"}},
    }
    assert "1000 (was 4200)" in card.inner_text()
    assert "refund is called with 1 value changed" in card.inner_text()


@pytest.mark.long  # test_round_trip.py
@pytest.mark.parametrize("claims", [call_page()], indirect=True, ids=["call"])
def test_a_call_is_declined_without_a_look_at_its_arguments(tab, url, claims):
    tab.goto(url)
    tab.get_by_role("group", name="Decision").get_by_label("decline").check()
    tab.get_by_label("Reason").fill("too much")
    tab.get_by_role("button", name="Send answer").click()
    assert claims.answer["decision"] == "decline"
    card = tab.get_by_role("region", name="The call").inner_text()
    assert "refund is not called; the agent sees: too much" in card


@pytest.mark.long
@pytest.mark.parametrize("claims", [page(), call_page()], indirect=True, ids=["order", "call"])
def test_nothing_is_wider_than_the_screen_and_targets_are_big_enough(tab, url):
    tab.goto(url)
    width = tab.viewport_size["width"]
    for element in tab.locator("main *").all():
        box = element.bounding_box()
        if box and box["width"] > 1:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    for target in tab.locator(
        "label.option, label.include, button:not(.visually-hidden), select, input.number"
    ).all():
        box = target.bounding_box()
        assert box is None or box["height"] >= 44 or not target.is_visible()


def test_it_can_be_used_with_the_keyboard_alone(tab, url, claims):
    tab.goto(url)
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert tab.get_by_label("approve").is_checked()
    tab.keyboard.press("ArrowDown")
    assert tab.get_by_label("reject").is_checked()
    tab.keyboard.press("Tab")
    tab.keyboard.type("typed")
    assert tab.get_by_label("Note").input_value() == "typed"


@pytest.mark.long  # test_page.py
def test_the_style_is_applied_under_the_policy(tab, url):
    tab.goto(url)
    box = tab.get_by_role("button", name="Send answer").bounding_box()
    assert box is not None
    assert box["height"] >= 48


@pytest.mark.long
@pytest.mark.parametrize("claims", [call_page()], indirect=True, ids=["call"])
def test_declining_a_call_takes_its_arguments_out_of_sight_and_out_of_reach(tab, url, claims):
    tab.goto(url)
    change = tab.get_by_text("Change what it is called with")
    decision = tab.get_by_role("group", name="Decision")
    assert not decision.get_by_label("approve").is_checked()
    assert not decision.get_by_label("decline").is_checked()
    change.click()
    tab.get_by_label("Cents").fill("lots")
    decision.get_by_label("decline").check()
    assert change.is_hidden()
    tab.keyboard.press("Tab")
    tab.keyboard.type("too much")  # the reason is next
    tab.get_by_role("button", name="Send answer").click()
    assert claims.answer == {"decision": "decline", "reason": "too much"}


@pytest.mark.long
def test_a_text_among_other_fields_is_one_line_that_grows(tab, url):
    tab.goto(url)
    note = tab.get_by_label("Note")
    line = note.bounding_box()["height"]
    assert line < 60
    note.fill("one\ntwo\nthree\nfour")
    assert note.bounding_box()["height"] > 2 * line
