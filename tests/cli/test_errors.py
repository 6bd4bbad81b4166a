"""Each error is one clear line that says what to do, with the exit code of its class."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from helmr.cli import printing
from helmr.cli.app import ExitCode, exit_code, worst
from helmr.errors import SchemaMismatch, WaitResolved, all_codes, error_from_code
from tests.cli.conftest import process, started
from tests.client.gateway import Fault, Gateway, running

MISSING = "ses_01h455vb4pex5vsknk084sn02q"


def test_no_runtime(helmr, nowhere: Path) -> None:
    said = helmr("session", "list")
    assert (said.code, said.out) == (6, "")
    assert said.err.splitlines() == [
        "helmr: no runtime is running",
        "hint: Start one with `helmr up`, or set HELMR_URL.",
    ]


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("follow --into copy --once", "helmr up --log URL"),
        ("promote --fenced --data-dir copy", "helmr takeover"),
        ("promote --help", "helmr takeover"),
    ],
)
def test_a_command_that_is_no_more_names_what_takes_its_place(
    helmr, line: str, instead: str
) -> None:
    said = helmr(*line.split())
    assert (said.code, said.out) == (2, "")
    name, (told, hint) = line.split()[0], said.err.splitlines()
    assert told == f"helmr: there is no `helmr {name}` any more"
    assert instead in hint


def test_several_runtimes(helmr, nowhere: Path) -> None:
    folder = nowhere / "state" / "helmr" / "runtimes"
    folder.mkdir(parents=True)
    for port in (1001, 1002):
        path = folder / f"{port}.json"
        path.write_text(
            json.dumps(
                {
                    "url": f"http://127.0.0.1:{port}",
                    "key": "k",
                    "pid": os.getpid(),
                    "data_dir": f"/data/{port}",
                }
            )
        )
        path.chmod(0o600)
    said = helmr("session", "list")
    assert said.code == 2
    assert said.err.splitlines() == [
        "helmr: 2 runtimes are running: http://127.0.0.1:1001 (/data/1001), "
        "http://127.0.0.1:1002 (/data/1002)",
        "hint: Set HELMR_URL or pass --url or --data-dir.",
    ]


def test_a_runtime_that_is_gone(helmr, nowhere: Path) -> None:
    with running(Gateway()) as gateway:
        url = gateway.url
    said = helmr("session", "list", "--url", url)
    assert said.code == 6
    assert said.err.startswith(f"helmr: no runtime answers at {url} (ConnectError: ")
    assert len(said.err.splitlines()) == 2


def test_a_runtime_whose_gateway_is_away(helmr, nowhere: Path) -> None:
    with running(Gateway()) as gateway:
        url = gateway.url
    pointer = nowhere / "state" / "helmr" / "runtimes" / "1.json"
    pointer.parent.mkdir(parents=True)
    found = {"url": url, "key": "k", "pid": os.getpid(), "data_dir": "/data"}
    pointer.write_text(json.dumps(found))
    pointer.chmod(0o600)
    said = helmr("session", "list", "--url", url)
    assert said.code == 6
    hint = f"hint: Its process runs (pid {os.getpid()}): try again in a moment."
    assert said.err.splitlines()[1] == hint


def test_a_wrong_id(helmr, here: Gateway) -> None:
    said = helmr("session", "get", "run_01h455vb4pex5vsknk084sn02q")
    assert said.code == 2
    assert said.err.splitlines() == [
        "helmr: run_01h455vb4pex5vsknk084sn02q is not a ses_… id",
        "hint: Ids here look like ses_…",
    ]


def test_an_id_of_nothing(helmr, here: Gateway) -> None:
    said = helmr("session", "get", MISSING)
    assert said.code == 3
    assert said.err.splitlines() == [f"helmr: no session {MISSING}", "hint: List them."]


def test_a_wrong_key(helmr, here: Gateway, monkeypatch) -> None:
    monkeypatch.setenv("HELMR_API_KEY", "wrong")
    said = helmr("session", "list")
    assert said.code == 4
    assert said.err.startswith("helmr: no valid key came with the request\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{a:1}", "not JSON: Expecting property name"),
        ('{"a":1,"a":2}', "the key 'a' appears twice"),
        ("NaN", "NaN is not JSON"),
        ('"\\ud800"', "a string holds a lone surrogate"),
        ("[" * 100 + "]" * 100, "the JSON text is nested deeper than 64"),
        ("", "not JSON"),
    ],
)
def test_bad_json(helmr, here: Gateway, text: str, why: str) -> None:
    said = helmr("input", "send", here.session(), "approval", "--data", text)
    assert said.code == 2
    first, hint = said.err.splitlines()
    assert first.startswith(f"helmr: --data: {why}")
    assert hint.startswith("hint: Quote JSON for the shell: --data '")
    assert here.seen == []


def test_data_that_does_not_fit_names_the_paths(helmr, here: Gateway) -> None:
    said = helmr("input", "send", here.session(), "approval", "--data", '"bad"')
    assert said.code == 2
    assert said.err.splitlines() == [
        "helmr: the data does not fit approval: decision: Input should be 'approve' or 'reject'"
    ]


def test_a_path_that_the_message_says_is_not_said_again(capsys) -> None:
    errors = [{"path": "lines", "message": "Must have at least 1 item."}]
    said = SchemaMismatch("no fit: lines must have at least 1 item.", errors=errors)
    printing.error(said)
    assert capsys.readouterr().err.splitlines()[0] == f"helmr: {said.message}"
    printing.error(SchemaMismatch("no fit", errors=errors))
    assert capsys.readouterr().err.splitlines()[0] == (
        "helmr: no fit: lines: Must have at least 1 item."
    )


def test_what_the_message_leaves_out_of_the_paths_is_said_once(capsys) -> None:
    errors = [{"path": path, "message": "Is needed."} for path in ("key", "subject", "note")]
    printing.error(SchemaMismatch("the data does not fit: key is needed.", errors=errors))
    assert capsys.readouterr().err.splitlines()[0] == (
        "helmr: the data does not fit: key is needed; subject: Is needed; note: Is needed."
    )


def test_a_time_in_a_message_comes_with_how_long_ago_it_was(capsys) -> None:
    printing.error(WaitResolved("wait_1 was fulfilled at 2020-01-01T00:00:00.5Z by local"))
    said = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(
        r"helmr: wait_1 was fulfilled at 2020-01-01T00:00:00Z \(\d+d( \d+h)? ago\) by local", said
    )


def test_a_closed_session(helmr, here: Gateway) -> None:
    session_id = here.session(status="closed")
    said = helmr("input", "send", session_id, "approval", "--data", "1")
    assert said.code == 5
    assert said.err.splitlines() == [f"helmr: {session_id} is closed", "hint: Start another."]


def test_a_file_that_is_not_there(helmr, here: Gateway) -> None:
    said = helmr("session", "start", "review", "--payload", "@missing.json")
    assert said.code == 2
    assert said.err.splitlines() == ["helmr: missing.json can't be read: No such file or directory"]


def test_a_wrong_option(helmr, here: Gateway) -> None:
    said = helmr("session", "get", "--bogus")
    assert said.code == 2
    assert said.err.splitlines() == [
        "helmr: No such option: --bogus",
        "hint: `helmr session get --help` says what it takes.",
    ]


def test_an_error_with_escape_codes_in_it_is_shown_not_obeyed(helmr, here: Gateway) -> None:
    session_id = here.session()
    body = json.dumps(
        {
            "title": "x",
            "status": 409,
            "code": "conflict",
            "detail": "a\x1b]0;title\x07\nb\u202e",
            "hint": "\x1b[2J",
        }
    ).encode()
    here.fault("GET", f"/v1/sessions/{session_id}", Fault("answer", 409, body=body))
    said = helmr("session", "get", session_id)
    assert said.code == 5
    assert said.err == "helmr: a␛]0;title␇␤b⟨U+202E⟩\nhint: ␛[2J\n"


def test_an_environment_without_a_home_is_no_bug(nowhere: Path) -> None:
    said = started("session", "list", env={"HELMR_URL": "http://127.0.0.1:1", "HOME": ""})
    assert said.code == 6
    assert "Traceback" not in said.err


def test_a_key_from_a_file(helmr, here: Gateway, nowhere: Path, monkeypatch) -> None:
    monkeypatch.delenv("HELMR_API_KEY")
    (nowhere / "key").write_text("test-key\n")
    assert helmr("session", "list", "--key-file", "key").code == 0
    (nowhere / "key").write_text("two words\n")
    said = helmr("session", "list", "--key-file", "key")
    assert (said.code, said.err) == (2, "helmr: the key file key holds no key\n")


@pytest.mark.parametrize("code", sorted(all_codes()))
def test_every_error_has_an_exit_code(code: str) -> None:
    assert exit_code(error_from_code(code, "x")) in ExitCode


def test_the_worst_of_many_is_the_highest_class() -> None:
    assert worst([]) is ExitCode.OK
    assert worst([ExitCode.USAGE, ExitCode.UNAVAILABLE, ExitCode.CONFLICT]) is ExitCode.UNAVAILABLE


def test_prune_refuses_a_data_directory_that_is_not_the_runtimes_of_the_environment(
    here, helmr, tmp_path
) -> None:
    said = helmr("prune", "--older-than", "90d", "--data-dir", str(tmp_path / "old"))
    assert (said.code, said.out) == (2, "")
    assert "HELMR_URL name two runtimes" in said.err
    assert [one.path for one in here.seen if one.path == "/v1/prune"] == []


@pytest.mark.parametrize("option", ["--slots", "--desks=3"])
def test_an_option_that_is_gone_says_what_stands_for_it(helmr, option: str) -> None:
    said = helmr("up", "tasks.py", option)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"helmr: No such option: {option.partition('=')[0]}")
    assert "hint: A host holds many sessions: `--hosts N` processes" in said.err


def test_an_old_name_is_taken_with_a_warning(nowhere: Path) -> None:
    said = process("wait", "rehearse", "--help")
    assert (said.code, "dry-run" in said.out) == (0, True)
    assert said.err == "helmr: rehearse is deprecated and will go; it is called dry-run now\n"
