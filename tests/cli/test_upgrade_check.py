"""`helmr upgrade-check`: each thing is judged by what was found, and an older ledger is read and left as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from helmr.cli import upgrade_check
from helmr.cli.doctor import CheckResult
from helmr.cli.upgrade_check import StoredFacts
from helmr.models import RunCheck
from helmr.version import version
from helmr_runtime.ledger.log.snapshots import mark
from tests.cli.conftest import Said
from tests.cli.test_doctor import results
from tests.client.gateway import Gateway
from tests.fixtures.earlier import Earlier

pytestmark = pytest.mark.allows_blocking

OK, WARN, FAIL = CheckResult


# --- judging


@pytest.mark.parametrize(
    ("before", "own", "result"),
    [
        (None, "0.7.0", OK),
        ("0.7.0", "0.7.0", OK),
        ("0.7.0", "0.7.2", OK),
        ("0.6.1", "0.7.0", OK),
        ("0.5.0", "0.7.0", WARN),
        ("0.9.0", "1.0.0", WARN),
        ("1.0.0rc1", "1.0.0", OK),
        ("0.7.1", "0.7.0", FAIL),
        ("1.0.0", "0.9.0", FAIL),
        ("odd", "0.7.0", WARN),
    ],
)
def test_the_step_between_two_versions(before: str | None, own: str, result: CheckResult) -> None:
    assert upgrade_check.judge_step(before, own).result is result


def test_a_ledger_is_opened_or_migrated() -> None:
    def stored(schema: int) -> StoredFacts:
        return StoredFacts(30_000, schema, 14, "0.6.0", 1)

    assert upgrade_check.judge_ledger(stored(14), 2.0).result is OK
    found = upgrade_check.judge_ledger(stored(13), 2.0)
    assert (found.result, "helmr backup" in found.todo) == (WARN, True)
    assert "30,000 entries, schema 13: the first start migrates it to 14, in about 2s" in found.says


@pytest.mark.parametrize(
    ("before", "result"), [("0.7.1", OK), ("0.6.0", WARN), ("1.7.0", WARN), (None, WARN)]
)
def test_only_a_patch_version_is_known_to_change_no_schema(
    before: str | None, result: CheckResult
) -> None:
    assert upgrade_check.judge_held(before, "0.7.0").result is result


def test_a_migration_needs_room() -> None:
    assert upgrade_check.judge_room(15, 15.0).result is OK
    assert upgrade_check.judge_room(14, 15.0).result is FAIL


def test_a_run_that_the_code_would_block_fails() -> None:
    def check(verdict: str) -> RunCheck:
        return RunCheck.model_validate(
            {
                "run_id": "run_1",
                "session_id": "ses_1",
                "task": "review",
                "status": "waiting",
                "verdict": verdict,
            }
        )

    judge = upgrade_check.judge_runs
    assert judge([]).result is OK
    assert (judge([check("fits")] * 2).result, judge([check("fits")] * 2).says) == (OK, "2 fits")
    found = judge([check("fits"), check("differs")])
    assert (found.result, found.says) == (FAIL, "1 differs, 1 fits")


# --- looking


def test_in_an_empty_folder_nothing_fails(helmr, nowhere: Path) -> None:
    found = results(helmr("upgrade-check", "--json"))
    assert {result for result, _ in found.values()} <= {"ok", "warn"}
    assert found["version"][1].startswith(f"{version()}; nothing here says")
    assert found["runs"][0] == "warn"  # no tasks are named
    assert list(nowhere.iterdir()) == []


def told(said: Said, check: str) -> list[tuple[str, str]]:
    """All that was said of a check, which may come more than once."""
    return [
        (one["result"], one["says"])
        for one in json.loads(said.out)["checks"]
        if one["check"] == check
    ]


TASKS = """
import warnings
from helmr import task

warnings.warn("helmr.before is called helmr.today now", DeprecationWarning)
warnings.warn("this is slow", RuntimeWarning)


@task
async def some_upgraded_task(payload: str) -> str:
    return payload
"""


def test_what_the_tasks_warn_of_as_deprecated_is_told(helmr, nowhere: Path) -> None:
    (nowhere / "some_upgraded_tasks.py").write_text(TASKS)
    said = helmr("upgrade-check", "some_upgraded_tasks.py", "--json")
    assert told(said, "deprecated") == [("warn", "helmr.before is called helmr.today now")]
    assert told(said, "runs") == [("ok", "none: nothing is stored here")]


def test_a_ledger_of_an_earlier_schema_is_read_and_stays_as_it_was(helmr, nowhere: Path) -> None:
    path = Earlier("ledger_0_2_0").unpack(nowhere / ".helmr")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    (nowhere / "some_earlier_tasks.py").write_text(TASKS)
    said = helmr("upgrade-check", "some_earlier_tasks.py", "--json")
    found = results(said)
    assert found["version"][1].startswith(f"from 0.1.0 to {version()}")
    assert "the first start migrates it" in found["ledger"][1]
    assert {name: found[name][0] for name in ("ledger", "room", "runs")} == {
        "ledger": "warn",
        "room": "ok",
        "runs": "warn",
    }
    refused = helmr("check", "some_earlier_tasks.py")
    assert refused.code == 2
    assert "would migrate" in refused.err
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("is_in_the_file", [True, False])
def test_commits_in_a_store_are_no_fault(helmr, nowhere: Path, is_in_the_file: bool) -> None:
    """Whether helmr.toml says so, or only the command line of `helmr up --log` did."""
    path = Earlier("ledger_0_2_0").unpack(nowhere / ".helmr")
    if is_in_the_file:
        (nowhere / "helmr.toml").write_text('[log]\nurl = "file:///mnt/log"\n')
    else:
        mark(path, "file:///mnt/log", 7)
    tasks = f"some_stored_tasks_{is_in_the_file}.py"  # imported once in a process
    (nowhere / tasks).write_text(TASKS)
    found = results(helmr("upgrade-check", tasks, "--json"))
    store = "the store that [log] names" if is_in_the_file else "file:///mnt/log"
    assert found["ledger"] == ("ok", f"commits are in {store}, and are read at the start → ")
    assert found["runs"][0] == "warn"
    assert found["runs"][1].startswith(f"not replayed: the commits are in {store}, and no runtime")
    assert "fail" not in {result for result, _ in found.values()}


def test_a_ledger_of_a_newer_version_fails(
    helmr, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Earlier("ledger_0_2_0").unpack(nowhere / ".helmr")
    monkeypatch.setattr("helmr_runtime.ledger.log.stored.SCHEMA", 1)
    said = helmr("upgrade-check", "--json")
    assert said.code == 5
    [(result, says)] = told(said, "ledger")
    assert (result, "written by Helmr 0.1.0" in says) == ("fail", True)


def test_the_runtime_that_runs_says_its_version(helmr, here: Gateway) -> None:
    here.health["version"] = "99.0.0"
    found = results(helmr("upgrade-check", "--json"))
    assert found["version"] == ("fail", f"from 99.0.0 to {version()} → Use 99.0.0 or later: an older "
                                        "version refuses the data of a newer one.")  # fmt: skip
