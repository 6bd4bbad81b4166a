"""`helmr doctor`: each thing is judged by what was found, and a runtime that is not well is said to be so."""

from __future__ import annotations

import json
import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helmr.cli import doctor
from helmr.cli.config import RuntimeForm
from helmr.cli.doctor import CheckResult, Finding
from helmr.models import Health
from helmr.models.system import NoticeTargetInfo
from tests.cli.conftest import Said
from tests.client.gateway import Gateway

OK, WARN, FAIL = CheckResult


def results(said: Said) -> dict[str, tuple[str, str]]:
    """What a run with --json said of each check: the result, and all words about it."""
    found = json.loads(said.out)
    assert found["ok"] == (said.code == 0)
    return {
        one["check"]: (one["result"], f"{one['says']} → {one['todo']}") for one in found["checks"]
    }


# --- judging


@pytest.mark.parametrize(
    ("version", "result"), [((3, 10), FAIL), ((3, 11), OK), ((3, 13), OK), ((3, 15), WARN)]
)
def test_python(version: tuple[int, int], result: CheckResult) -> None:
    assert doctor.judge_python(version).result is result


@pytest.mark.parametrize(
    ("missing", "ray", "form", "result", "words"),
    [
        ([], "2.60.0", "ray", OK, "Ray 2.60.0"),
        ([], None, "in-process", OK, "without Ray"),
        ([], None, "ray", WARN, "--in-process"),
        ([], "2.61.0", "ray", WARN, "tested with Ray 2.60"),
        (["duckdb"], None, "ray", WARN, "helmr[local]"),
    ],
)
def test_what_is_installed_is_judged_by_the_form(
    missing: list[str], ray: str | None, form: str, result: CheckResult, words: str
) -> None:
    found = doctor.judge_installed(missing, ray, RuntimeForm(form))
    assert (found.result, words in f"{found.says} {found.todo}") == (result, True)


def test_what_is_private_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    user = os.geteuid()
    assert doctor.judge_private("x", folder, folder.stat(), user).result is OK
    assert "another user" in doctor.judge_private("x", folder, folder.stat(), user + 1).says
    folder.chmod(0o750)
    found = doctor.judge_private("x", folder, folder.stat(), user)
    assert (found.result, found.todo) == (FAIL, f"chmod go= {folder}")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750  # it looks, and mends nothing


def test_disk_and_files() -> None:
    assert doctor.judge_disk(100, 1000, low=50).result is OK
    assert doctor.judge_disk(49, 1000, low=50).result is WARN
    assert doctor.judge_files(256).result is WARN
    assert doctor.judge_files(65_536).result is OK


@pytest.mark.parametrize(
    ("state", "ahead_s", "apart_s", "result"),
    [
        (0, -5.0, None, OK),
        (None, -5.0, 0.5, OK),
        (5, -5.0, None, WARN),
        (0, 0.0, -3.0, WARN),
        (0, 3600.0, None, FAIL),
    ],
)
def test_clock(
    state: int | None, ahead_s: float, apart_s: float | None, result: CheckResult
) -> None:
    assert doctor.judge_clock(state, ahead_s, apart_s).result is result


def health(**given: object) -> Health:
    return Health.model_validate({"ready": True, "version": "1", **given})


def test_runtime() -> None:
    assert [one.result for one in doctor.judge_runtime(health(), "1")] == [OK]
    assert [one.result for one in doctor.judge_runtime(health(), "2")] == [WARN]
    found = [*doctor.judge_runtime(health(ready=False, reasons=["it starts"], warnings=["x"]), "1")]
    assert [(one.result, one.says) for one in found] == [
        (FAIL, "not ready: it starts"),
        (WARN, "x"),
    ]


def test_notices() -> None:
    def target(name: str, failing_since: datetime | None) -> NoticeTargetInfo:
        return NoticeTargetInfo(
            name=name,
            type="slack",
            events=[],
            filter="",
            detail="none",
            failing_since=failing_since,
        )

    well, failing = target("a", None), target("b", datetime(2026, 1, 1, tzinfo=UTC))
    assert [*doctor.judge_notices([well])] == [Finding("notices", OK, "a")]
    [found] = doctor.judge_notices([well, failing])
    assert (found.result, found.todo) == (WARN, "helmr notices test b")


# --- looking


def test_in_an_empty_folder_nothing_fails(helmr, nowhere: Path) -> None:
    found = results(helmr("doctor", "--json"))
    assert {result for result, _ in found.values()} <= {"ok", "warn"}
    assert found["data directory"][1].startswith(f"{nowhere}/.helmr is made")
    assert found["runtime"][0] == "ok"
    assert list(nowhere.iterdir()) == []  # it makes nothing


def test_each_line_says_the_result_and_the_next_what_to_do(helmr, nowhere: Path) -> None:
    (nowhere / "helmr.toml").write_text("[runtime]\nform = 'cloud'\n")
    said = helmr("doctor")
    assert said.code == 5
    lines = said.out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("fail  helmr.toml"))
    assert "'cloud'" in lines[at]
    assert lines[at + 1].strip() == '→ `form = "in-process"`, or "ray".'


def readable(path: Path) -> None:
    """Make a file that others may read, whatever this process makes by itself."""
    path.touch()
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("check", "words", "spoil"),
    [
        ("data directory", "chmod go=", lambda folder: (folder / ".helmr").chmod(0o755)),
        ("keys", "is missing", lambda folder: (folder / ".helmr" / "ledger.duckdb").touch()),
        (
            "keys",
            "users other than its owner",
            lambda folder: readable(folder / ".helmr" / "master-keys.json"),
        ),
        (
            "helmr.toml",
            "[notices.team]",
            lambda folder: (folder / "helmr.toml").write_text("[notices.team]\ntype = 'pigeon'"),
        ),
        (
            "helmr.toml",
            "SLACK_URL",
            lambda folder: (folder / "helmr.toml").write_text(
                "[notices.team]\ntype = 'slack'\nurl_env = 'SLACK_URL'"
            ),
        ),
        (
            "helmr.toml",
            "has {x}, which is no placeholder",
            lambda folder: (folder / "helmr.toml").write_text(
                "[links]\nTrace = 'https://a.example/{x}'"
            ),
        ),
        (
            "tasks",
            "no such file",
            lambda folder: (folder / "pyproject.toml").write_text("[tool.helmr]\ntasks = ['a.py']"),
        ),
        (
            "clock",
            "later than now",
            lambda folder: os.utime(_made(folder / ".helmr" / "x"), (9e9, 9e9)),
        ),
    ],
)
def test_what_will_not_work_fails(helmr, nowhere: Path, check: str, words: str, spoil) -> None:
    (nowhere / ".helmr").mkdir(mode=0o700)
    spoil(nowhere)
    result, told = results(helmr("doctor", "--json"))[check]
    assert (result, words in told) == ("fail", True), told


@pytest.mark.parametrize(("traces", "result"), [("false", "warn"), ("true", "ok")])
def test_a_link_to_traces_that_no_one_sends_is_a_warning(
    helmr, nowhere: Path, traces: str, result: str
) -> None:
    table = "[links]\nTrace = 'https://a.example/{trace_id}'"
    (nowhere / "helmr.toml").write_text(f"{table}\n[otel]\ntraces = {traces}")
    found, told = results(helmr("doctor", "--json"))["helmr.toml"]
    assert found == result
    assert ("Trace of [links] has {trace_id}" in told) == (result == "warn")


def _made(path: Path) -> Path:
    path.touch()
    return path


def test_a_port_that_another_program_has_is_a_warning(
    helmr, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(doctor, "PORT", other.getsockname()[1])
        assert results(helmr("doctor", "--json"))["port"][0] == "warn"


def test_a_runtime_that_was_named_and_is_not_there_fails(helmr, nowhere: Path) -> None:
    found = results(helmr("doctor", "--json", "--url", "http://127.0.0.1:9"))
    assert found["runtime"][0] == "fail"


def test_a_runtime_is_asked_how_it_is(helmr, here: Gateway) -> None:
    found = results(helmr("doctor", "--json"))
    assert found["environment"][1].startswith("HELMR_URL, HELMR_API_KEY are set")
    assert "test-key" not in str(found)
    assert found["runtime"][0] in ("ok", "warn")
