"""The examples' code fits sessions that were recorded with it earlier. An edit is meant not to? `make recordings`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helmr import TaskContext, task
from helmr.examples import chat, publish_review, release
from helmr.examples.publish_review import PullRequest, approval, draft_review, post_review
from helmr.models import CheckVerdict
from helmr.testing import Harness
from helmr_runtime.core.session_file import FileReader
from helmr_runtime.ledger.memory import TEST_RING
from helmr_runtime.security.file_signatures import check_signature, public_keys
from tests.cli.conftest import Said
from tests.examples.record import FOLDER, SESSIONS

EXAMPLES = (chat.chat, publish_review.publish_review, release.release_service)


def path(name: str) -> Path:
    return FOLDER / f"{name}.jsonl"


def test_each_way_is_recorded() -> None:
    assert sorted(one.stem for one in FOLDER.glob("*.jsonl")) == sorted(SESSIONS)


@pytest.mark.parametrize("name", sorted(SESSIONS))
async def test_the_code_fits_what_was_recorded(name: str) -> None:
    with path(name).open("rb") as file:
        assert check_signature(FileReader(file).checked, [key for _, key in public_keys(TEST_RING)])
    async with Harness(*EXAMPLES) as harness:
        check = await harness.replay(path(name))
    assert check.fits, f"op {check.op}: {check.recorded}, not {check.met}; {check.message}"


@task(id="publish-review")
async def in_another_order(event: PullRequest, ctx: TaskContext) -> Any:
    """As the example, but that nobody is asked first."""
    review = await draft_review(event, notes=[])
    await post_review(event, review)
    await approval.wait()


async def test_code_that_does_not_fit_is_told_with_the_op() -> None:
    async with Harness() as harness:
        check = await harness.replay(path("publish_review_waiting"), in_another_order)
        assert (check.verdict, check.op) == (CheckVerdict.DIFFERS, 2)
        assert (check.recorded, check.met) == ("output progress", "step post_review")
        gone = await harness.replay(path("chat_ended"))
    assert gone.verdict is CheckVerdict.MISSING


CODE = """
from helmr import task
from helmr.examples.publish_review import PullRequest, draft_review, post_review, progress

@task(id="publish-review")
async def publish_review(event: PullRequest) -> None:
    print("it runs")
    review = await draft_review(event, notes=[])
    await progress.append("drafted")
    await post_review(event, review)
"""


def test_the_command_ends_with_5_if_it_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "tasks_of_today.py").write_text(CODE)
    said = replayed("publish_review_waiting", "tasks_of_today.py", folder=tmp_path)
    assert (said.code, said.err) == (5, "it runs\n")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[-5:] == [
        "verdict differs",
        "op 3",
        "recorded step send_slack_approval",
        "met step post_review",
        "place tasks_of_today.py:10",
    ]


def test_the_command_says_that_code_fits() -> None:
    said = replayed("publish_review_edited", "helmr.examples.publish_review", folder=FOLDER)
    assert (said.code, said.err) == (0, "")
    assert "fits" in said.out


def replayed(name: str, tasks: str, *, folder: Path) -> Said:
    """In a process of its own: task modules are imported."""
    done = subprocess.run(
        [sys.executable, "-m", "helmr.cli", "session", "replay", str(path(name)), tasks],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    return Said(done.returncode, done.stdout, done.stderr)
