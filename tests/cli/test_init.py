"""`helmr init`: what it writes is a task that runs, with a test that passes; what is there stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helmr.cli import count, printing
from helmr.cli.init import FILES
from helmr.client import Client
from tests.cli.conftest import spawn
from tests.stack.live import until

WITHIN_S = 30.0


def test_it_writes_a_task_a_test_and_settings_and_says_what_comes_next(
    helmr, nowhere: Path
) -> None:
    said = helmr("init", "news/room")
    assert said.code == 0
    assert {one.name for one in (nowhere / "news" / "room").iterdir()} == set(FILES)
    assert said.out.splitlines()[0].startswith("Wrote tasks.py, test_tasks.py, helmr.toml")
    assert "First: cd news/room" in said.out
    assert "helmr dev tasks.py" in said.out


def test_json_says_what_was_written(helmr, nowhere: Path) -> None:
    assert json.loads(helmr("init", "--json").out) == {
        "folder": str(nowhere),
        "written": [*FILES],
    }


@pytest.mark.parametrize("name", ["tasks.py", "test_tasks.py", "helmr.toml"])
def test_it_writes_nothing_where_one_of_them_is(helmr, nowhere: Path, name: str) -> None:
    (nowhere / name).write_text("mine")
    said = helmr("init")
    assert said.code == 5
    assert name in said.err.splitlines()[0]
    assert [(one.name, one.read_text()) for one in nowhere.iterdir()] == [(name, "mine")]


def test_a_link_that_leads_nowhere_is_not_written_through(helmr, nowhere: Path) -> None:
    (nowhere / "helmr.toml").symlink_to(nowhere / "elsewhere")
    assert helmr("init").code == 5
    assert [one.name for one in nowhere.iterdir()] == ["helmr.toml"]


def test_a_gitignore_stays_as_it_is(helmr, nowhere: Path) -> None:
    (nowhere / ".gitignore").write_text("mine\n")
    said = helmr("init")
    assert (said.code, (nowhere / ".gitignore").read_text()) == (0, "mine\n")
    assert ".helmr/" in said.err


def test_a_folder_that_can_t_be_made_is_reported(helmr, nowhere: Path) -> None:
    (nowhere / "file").write_text("")
    said = helmr("init", "file/folder")
    assert said.code in (2, 5)
    assert said.err.startswith("helmr: ")


def test_the_written_test_passes(helmr, nowhere: Path) -> None:
    helmr("init")
    done = subprocess.run(
        [sys.executable, "-W", "error", "test_tasks.py"],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "both hold\n", "")


@pytest.mark.allows_blocking
def test_the_written_task_runs_in_the_form_that_helmr_toml_names(helmr, nowhere: Path) -> None:
    helmr("init")
    written = nowhere / "helmr.toml"
    written.write_text(
        written.read_text().replace("# [runtime]", "[runtime]").replace("# form", "form")
    )
    with spawn("up", "tasks.py", "--port", "0", env={"PYTHONHASHSEED": "1"}) as up:
        try:
            found = nowhere / ".helmr" / "credentials.json"
            until(found.exists, within_s=WITHIN_S, what="the runtime is ready")
            with Client(data_dir=nowhere / ".helmr") as client:
                # One process: it serves HTTP itself.
                assert client.health().pid == json.loads(found.read_text())["pid"] == up.pid
                session = client.sessions.start_and_wait("announcement", "otters", timeout=WITHIN_S)
                [wait] = client.waits.page().items
                state = {"XDG_STATE_HOME": str(nowhere / "state")}
                assert count.count(state, nowhere) == 1
                client.waits.answer(wait.id, {"decision": "approve"})
                run = client.runs.page(session_id=session.id).items[0]
                ended = client.runs.wait(run.id, timeout=WITHIN_S)
            assert ended.result == {"status": "published 27 characters"}
        finally:
            up.terminate()
        assert up.wait(WITHIN_S) == 0


def test_what_was_done_is_said_whole_where_the_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(printing, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "40")
    said = f"/{'folder/' * 12}helmr.toml is written. Start the runtime: helmr up"
    printing.write_done(said)
    assert capsys.readouterr().out == f"{said}\n"
