"""`input send --jsonl`: a report per line, and a way to go on after an interruption."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import process, spawn
from tests.client.gateway import Fault, Gateway
from tests.warm import Piped

BUSY = b'{"title":"x","status":503,"detail":"away","code":"store_unavailable"}'


def _reports(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_each_line_is_sent_in_order_and_reported(helmr, here: Gateway, nowhere: Path) -> None:
    session_id = here.session()
    (nowhere / "lines").write_text(
        '{"data": 1}\n\n{"data": {"a": 2}, "correlation_id": "c", "idempotency_key": "k"}\r\n'
        '{"data": null}'
    )
    said = helmr(
        "input", "send", session_id, "approval", "--jsonl", "--data", "@lines", "--batch", "b"
    )
    assert said.code == 0
    reports = _reports(said.out)
    assert [(one["line"], one["outcome"], one["seq"]) for one in reports] == [
        (1, "buffered", 1),
        (3, "buffered", 2),
        (4, "buffered", 3),
    ]
    bodies = [json.loads(one.body) for one in here.seen]
    assert bodies == [
        {"data": 1, "idempotency_key": "b:1"},
        {"data": {"a": 2}, "correlation_id": "c", "idempotency_key": "k"},
        {"data": None, "idempotency_key": "b:4"},
    ]
    assert said.err.splitlines() == ["batch b", "3 lines sent: 3 buffered"]


def test_a_batch_that_is_sent_again_changes_nothing(helmr, here: Gateway, nowhere: Path) -> None:
    session_id = here.session()
    (nowhere / "lines").write_text('{"data": 1}\n{"data": 2}\n')
    words = ("input", "send", session_id, "approval", "--jsonl", "--data", "@lines", "--batch", "b")
    helmr(*words)
    said = helmr(*words)
    assert [one["duplicate"] for one in _reports(said.out)] == [True, True]
    assert len(here.records[session_id, "approval"]) == 2


def test_without_a_batch_name_each_call_has_one_of_its_own(
    helmr, here: Gateway, nowhere: Path
) -> None:
    session_id = here.session()
    (nowhere / "lines").write_text('{"data": 1}\n')
    words = ("input", "send", session_id, "approval", "--jsonl", "--data", "@lines")
    helmr(*words)
    helmr(*words)
    assert len(here.records[session_id, "approval"]) == 2


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nope", "bad_json"),
        ("[1]", "bad_json"),
        ("{}", "bad_json"),
        ('{"data": 1, "date": 2}', "bad_json"),
        ('{"data": 1, "data": 2}', "bad_json"),
        ('{"data": 1, "correlation_id": 7}', "bad_json"),
        ('{"data": "bad"}', "schema_mismatch"),
    ],
)
def test_a_bad_line_is_reported_and_the_others_are_sent(
    helmr, here: Gateway, nowhere: Path, line: str, error: str
) -> None:
    session_id = here.session()
    (nowhere / "lines").write_text(f'{{"data": 1}}\n{line}\n{{"data": 3}}\n')
    said = helmr("input", "send", session_id, "approval", "--jsonl", "--data", "@lines")
    assert said.code == 2
    first, second, third = _reports(said.out)
    assert (first["line"], third["line"]) == (1, 3)
    assert (second["line"], second["error"]) == (2, error)
    assert second["message"]
    assert said.err.splitlines()[-1] == f"3 lines: 2 sent (2 buffered), 1 refused (1 {error})"


def test_what_the_next_line_would_meet_as_well_ends_it_with_how_to_go_on(
    helmr, here: Gateway, nowhere: Path
) -> None:
    session_id = here.session()
    (nowhere / "my lines").write_text("".join(f'{{"data": {n}}}\n' for n in range(5)))
    path = f"/v1/sessions/{session_id}/inputs/approval"
    for _ in range(2):
        here.fault("POST", path, Fault("none"))
    refused = b'{"title":"x","status":403,"detail":"no","code":"role_denied"}'
    here.fault("POST", path, Fault("answer", 403, body=refused))
    said = helmr(
        "input", "send", session_id, "approval", "--jsonl", "--data", "@my lines", "--batch", "b"
    )
    assert said.code == 4
    assert [one.get("error") for one in _reports(said.out)] == [None, None, "role_denied"]
    assert said.err.splitlines()[-1] == (
        f"go on with: helmr input send {session_id} approval --jsonl --data '@my lines' "
        "--batch b --from-line 3"
    )
    said = helmr(
        "input", "send", session_id, "approval", "--jsonl", "--data", "@my lines", "--batch", "b",
        "--from-line", "3",
    )  # fmt: skip
    assert said.code == 0
    assert [one["line"] for one in _reports(said.out)] == [3, 4, 5]
    assert [one["data"] for one in here.records[session_id, "approval"]] == [0, 1, 2, 3, 4]


def test_a_closed_session_ends_it_at_the_first_line(helmr, here: Gateway, nowhere: Path) -> None:
    session_id = here.session(status="closed")
    (nowhere / "lines").write_text('{"data": 1}\n{"data": 2}\n')
    said = helmr("input", "send", session_id, "approval", "--jsonl", "--data", "@lines")
    assert said.code == 5
    assert [one["error"] for one in _reports(said.out)] == ["session_terminal"]


@pytest.mark.long  # tests/client/test_trying_again.py
def test_a_reset_in_the_middle_is_tried_again_and_stores_each_once(
    helmr, here: Gateway, nowhere: Path
) -> None:
    session_id = here.session()
    path = f"/v1/sessions/{session_id}/inputs/approval"
    here.fault("POST", path, Fault("drop"), Fault("drop_after"), Fault("cut"))
    (nowhere / "lines").write_text('{"data": 1}\n{"data": 2}\n')
    said = helmr("input", "send", session_id, "approval", "--jsonl", "--data", "@lines")
    assert said.code == 0
    assert [one["data"] for one in here.records[session_id, "approval"]] == [1, 2]


def test_lines_come_from_standard_input(here: Gateway) -> None:
    session_id = here.session()
    said = process("input", "send", session_id, "approval", "--jsonl", input=b'{"data": 1}\n')
    assert said.code == 0
    assert len(_reports(said.out)) == 1


def test_one_value_comes_from_standard_input(here: Gateway) -> None:
    session_id = here.session()
    said = process("input", "send", session_id, "approval", "--data", "-", input=b"[1, 2]")
    assert said.code == 0
    assert here.records[session_id, "approval"][0]["data"] == [1, 2]


def test_ctrl_c_says_how_to_go_on_and_going_on_completes_it(here: Gateway, nowhere: Path) -> None:
    session_id = here.session()
    path = f"/v1/sessions/{session_id}/inputs/approval"
    (nowhere / "lines").write_text("".join(f'{{"data": {n}}}\n' for n in range(4)))
    here.fault("POST", path, Fault("none"), Fault("slow", pause_s=30))
    words = ["input", "send", session_id, "approval", "--jsonl", "--data", "@lines"]
    with spawn(*words) as one:
        _until(lambda: len(here.requests("POST", path)) == 2, one)
        one.send_signal(signal.SIGINT)
        out, err = one.communicate(timeout=30)
    assert one.returncode == 130
    assert [report["line"] for report in _reports(out.decode())] == [1]
    again = re.search(r"go on with: helmr (.*)", err.decode())
    assert again is not None
    said = process(*again[1].split())
    assert said.code == 0
    assert [report["line"] for report in _reports(said.out)] == [2, 3, 4]
    assert [one["data"] for one in here.records[session_id, "approval"]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "words",
    [
        ["--jsonl", "--correlation-id", "c"],
        ["--jsonl", "--idempotency-key", "k"],
        ["--data", "1", "--batch", "b"],
        ["--data", "1", "--from-line", "2"],
        [],
    ],
)
def test_options_that_do_not_go_together(helmr, here: Gateway, words: list[str]) -> None:
    said = helmr("input", "send", here.session(), "approval", *words)
    assert said.code == 2
    assert said.err.startswith("helmr: --")


def _until(holds, process: Piped) -> None:
    bound = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < bound
        assert process.poll() is None
        time.sleep(0.01)
