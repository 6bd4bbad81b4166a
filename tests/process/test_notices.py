"""Notices of a real runtime that is killed while every target is down (S-84)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from tests import warm
from tests.notices.receivers import Endpoint, Mailbox, endpoint, mailbox
from tests.stack.live import LiveRuntime, until
from tests.warm import Piped

pytestmark = pytest.mark.allows_blocking

WAITS_S = 90.0
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TASKS = """
from helmr import streams, task

approval = streams.input("approval", schema=str)


@task
async def ask(number: int) -> str:
    return (await approval.wait(subject=f"question {number}")).unwrap()
"""
CONFIG = """
[notices.hook]
type = "webhook"
url = "{hook}"
secret_file = "hook.secret"
events = ["wait.opened", "wait.resolved"]
private_addresses = true
longest_pause = "1s"

[notices.slack]
type = "slack"
url_file = "slack.url"
events = ["wait.opened", "wait.resolved"]
private_addresses = true
longest_pause = "1s"

[notices.mail]
type = "email"
host = "127.0.0.1"
port = {mail}
security = "none"
from = "helmr@example.com"
to = ["ada@example.com"]
events = ["wait.opened", "wait.resolved"]
private_addresses = true
longest_pause = "1s"

[notices.program]
type = "command"
command = ["{python}", "{script}"]
events = ["wait.opened", "wait.resolved"]
longest_pause = "1s"
"""
SCRIPT = """
import pathlib, sys
here = pathlib.Path(__file__).parent
if not (here / "taken").exists():
    sys.exit(3)
with (here / "taken").open("a") as file:
    file.write(sys.stdin.read())
"""


class Receivers:
    """One of each kind, all of them down."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.hook: Endpoint = held.enter_context(endpoint(is_up=False))
        self.slack: Endpoint = held.enter_context(endpoint(is_up=False))
        self.mail: Mailbox = held.enter_context(mailbox(is_up=False))
        self.taken = folder / "taken"

    def up(self) -> None:
        self.taken.touch()
        self.hook.up()
        self.slack.up()
        self.mail.up()

    def told(self) -> dict[str, list[tuple[int, str]]]:
        """By target: question and event, in the order that they came in."""
        events = [json.loads(line) for line in self.taken.read_text().splitlines()]
        subjects = [str(one["Subject"]) for one in self.mail.messages]
        lines = [body["text"].split("\n")[0] for body in self.slack.bodies]
        return {
            "hook": [_question(one) for one in self.hook.bodies],
            "program": [_question(one) for one in events],
            "mail": [_line(one) for one in subjects],
            "slack": [_line(one) for one in lines],
        }


def _question(event: dict[str, object]) -> tuple[int, str]:
    data = event["data"]
    assert isinstance(data, dict)
    return int(data["subject"].split()[-1]), str(event["type"]).removeprefix("helmr.wait.")


def _line(title: str) -> tuple[int, str]:
    word, _, subject = title.partition(": ")
    return int(subject.split()[-1]), {"Waits": "opened", "Settled": "resolved"}[word]


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[Receivers]:
    with ExitStack() as held:
        yield Receivers(tmp_path, held)


@pytest.fixture
def live(tmp_path: Path, receivers: Receivers) -> Iterator[LiveRuntime]:
    tasks = tmp_path / "code" / "asking.py"
    tasks.parent.mkdir()
    tasks.write_text(TASKS)
    (tmp_path / "hook.secret").write_text(KEY + "\n")
    slack = receivers.slack.url.replace("/in", "/services/T0/veryhidden")
    (tmp_path / "slack.url").write_text(slack)
    (tmp_path / "program.py").write_text(SCRIPT)
    config = CONFIG.format(
        hook=receivers.hook.url,
        mail=receivers.mail.port,
        python=sys.executable,
        script=tmp_path / "program.py",
    )
    (tmp_path / "helmr.toml").write_text(config)
    one = LiveRuntime(tmp_path, tasks=tasks, in_process=True)
    yield one
    one.stop()


def wait_of(live: LiveRuntime, session_id: str) -> str:
    handle = live.client.sessions.open(session_id)
    return until(lambda: handle.get().wait, within_s=WAITS_S, what="it asks").id


@pytest.mark.long  # tests/service/test_notices.py
@pytest.mark.timeout(400)
def test_targets_that_are_down_while_the_runtime_is_killed_twice_are_told_all(
    live: LiveRuntime, receivers: Receivers
) -> None:
    live.start()
    until(
        lambda: all(one.offset is not None for one in live.client.notices.list()),
        within_s=WAITS_S,
        what="notices begin",
    )
    number = 0
    for _ in range(2):
        for _ in range(3):
            session = live.client.sessions.start("ask", number).session
            number += 1
            live.client.waits.answer(wait_of(live, session.id), "yes")
        until(
            lambda: all(one.failing_since for one in live.client.notices.list()),
            within_s=WAITS_S,
            what="every target fails",
        )
        live.kill_all()
        live.start()
    receivers.up()
    wanted = {(one, event) for one in range(number) for event in ("opened", "resolved")}
    until(
        lambda: all(set(told) == wanted for told in receivers.told().values()),
        within_s=WAITS_S,
        what="every target is told all",
    )
    for name, told in receivers.told().items():
        for one in range(number):
            firsts = list(dict.fromkeys(event for asked, event in told if asked == one))
            assert firsts == ["opened", "resolved"], (name, one)
    for headers, body in receivers.hook.posts:
        Verifier(KEY).verify(body, headers)
    live.stop()
    secrets = (KEY.encode(), KEY.removeprefix("whsec_").encode(), b"veryhidden")
    for path in live.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path


def test_a_target_whose_secret_is_not_there_keeps_the_runtime_from_starting(
    live: LiveRuntime, tmp_path: Path
) -> None:
    (tmp_path / "hook.secret").unlink()
    done = warm.run("up", "asking.py", "--in-process", "--port=0", env=warm.seeded(), cwd=tmp_path)
    assert done.returncode == 2
    assert "[notices.hook] secret" in done.stderr
    assert not (tmp_path / ".helmr" / "ledger.duckdb").exists()


@pytest.mark.timeout(300)
def test_commands_say_what_waits_and_who_is_told(live: LiveRuntime, receivers: Receivers) -> None:
    receivers.up()
    live.start()
    live.client.sessions.start("ask", 7)
    until(
        lambda: helmr(live, "waiting", "--count").stdout == "1\n", within_s=WAITS_S, what="it asks"
    )
    said = helmr(live, "waiting")
    assert said.stdout.startswith("1 waits for people, the oldest since ")
    assert helmr(live, "waiting", "--count", "--filter", "priority:high").stdout == "0\n"
    words = ["listen", f"--data-dir={live.data_dir}", "--jsonl", "--after=0", "--event=wait.opened"]
    with Piped(words, env=os.environ) as listening:
        assert listening.stdout is not None
        told = json.loads(listening.stdout.readline())
        listening.kill()
    assert (told["event"], told["subject"], told["task"]) == ("wait.opened", "question 7", "ask")
    assert told["feed_offset"] > 0
    refused = helmr(live, "listen", "--event=wait.open")
    assert (refused.returncode, "is not an event" in refused.stderr) == (2, True)
    listed = json.loads(helmr(live, "notices", "list", "--json").stdout)["items"]
    assert [one["name"] for one in listed] == ["hook", "slack", "mail", "program"]
    assert helmr(live, "notices", "list").stdout.split()[:2] == ["TARGET", "TYPE"]
    assert helmr(live, "notices", "test", "hook").returncode == 0
    receivers.hook.down()
    failed = helmr(live, "notices", "test", "hook")
    assert (failed.returncode, "it can't be connected to" in failed.stdout) == (6, True)
    assert "tried now" in helmr(live, "notices", "retry", "hook").stdout
    assert helmr(live, "notices", "test", "nobody").returncode == 3


def helmr(live: LiveRuntime, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(*arguments, f"--data-dir={live.data_dir}", within_s=120)
