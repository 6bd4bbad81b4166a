"""Every command and every option of the reference is run for real, for people and with --json.

`LINES` and `PROCESSES` hold what is typed here, `ELSEWHERE` names the tests that run what needs a Ray cluster or
minutes; lines of features come from their folders (`FeatureLines`). A command or option that stands in none of them
fails the first test.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from helmr.cli.main import invoke
from tests.cli.conftest import process, spawn
from tests.cli.lines import Line, lines_of_features
from tests.cli.option_world import TASKS, WITHIN_S, World
from tests.cli.test_terminal import screen
from tests.docs.test_cli_page import COMMANDS, SHARED
from tests.longer import long_but
from tests.notices.receivers import endpoint
from tests.stack.live import until
from tests.warm import Piped

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

ROOT = Path(__file__).parents[2]
OF_FEATURES = lines_of_features()
APPROVE = """'{"decision": "approve"}'"""


LINES = [
    Line("--version", "^helmr "),
    Line("init $FOLDER/begun-$ROUND", "tasks.py"),
    Line("doctor", "ready"),
    Line("config --data-dir $FOLDER/.helmr --config $FOLDER/own.toml", "port"),
    Line("upgrade-check tests.cli.option_tasks", "as before"),
    Line("status", "ready"),
    Line("status --all --on-behalf-of ana", "hosts"),
    Line("status --url $URL --key-file $KEY_FILE", "ready"),
    Line("context add here-$ROUND --url $URL --key-file $KEY_FILE --on-behalf-of ana", "here"),
    Line("context list", "here"),
    Line("status --at here-$ROUND", "ready"),
    Line("context remove here-$ROUND", "here"),
    Line("logs $DONE --lines 20"),
    # sessions
    Line(
        """session start ask --payload '{"subject": "Ship?"}' --external-id e-$ROUND --tag one --tag two
        --metadata '{"a": 1}' --idempotency-key start-$ROUND --wait 10s""",
        "ses_",
    ),
    Line("session list --task ask --status open --activity waiting --external-id e-$ROUND --tag one", "ses_"),
    Line("session list --parent $PARENT", "ses_"),
    Line("session list --filter activity:waiting --all", "ses_"),
    Line("session list --limit 1 --cursor $SESSIONS_CURSOR", "ses_"),
    Line("session ls", "ses_", has_form=True),
    Line("session list --limit 2 --output name", "^ses_", has_form=True),
    Line("run list --limit 2 --output csv", "^id,", has_form=True),
    Line("wait list --limit 2 --output name", "^wait_", has_form=True),
    Line("token list --limit 2 --output name", "^tok_", has_form=True),
    Line("public-token list --limit 2 --output name", "^pat_", has_form=True),
    Line("key list --limit 2 --output name", "^key_", has_form=True),
    Line("session get $ASKING", "vip"),
    Line("session tree $PARENT", "ask"),
    Line("session transcript $DONE --after 2 --limit 3", "step"),
    Line("session follow $CANCELLED --after 1", "session"),
    Line("session note $ASKING 'Look at this'", "."),
    Line("session fork $DONE --to-op 3 --reason 'what if'", "ses_"),
    Line(f"session fork $DONE --to-wait $DONE_WAIT --answer {APPROVE} --reason 'what if'", "ses_"),
    Line("session export $DONE --out $FOLDER/done.jsonl"),
    Line("session verify $FOLDER/done.jsonl --key @$PUBLIC_KEYS", "ses_"),
    Line("session verify $FOLDER/done.jsonl --allowed-signers $SIGNERS --write $FOLDER/signed", "ses_"),
    Line("session replay $RECORDED/chat_ended.jsonl helmr.examples.chat", "fits"),
    Line(
        "session what-if $RECORDED/chat_ended.jsonl --tasks helmr.examples.chat --runs all",
        "chat|succeeded",
    ),
    Line("experiment tests.cli.option_experiment", "succeeded"),
    Line("experiment tests.cli.option_experiment experiment --rows agreement", "approval"),
    Line("session close $NEW_CHAT --end-input", "closed"),
    Line("session close --all --filter id:$NEW_CHAT --end-input --batch s$ROUND --preview", "ses_"),
    Line("session close --all --filter id:$NEW_CHAT --end-input --undo-for 0s --yes", "ses_"),
    Line("session cancel $NEW_CHAT", "cancelled"),
    # runs
    Line("run list --session $FAILED --task fail --status failed", "run_.*fail"),
    Line("run list --all", "run_"),
    Line("run list --limit 1 --cursor $RUNS_CURSOR", "run_"),
    Line("run get $FAILED_RUN", "ValueError"),
    Line("run retry $NEW_FAILED_RUN", "run_"),
    Line("run retry --all --filter 'is:failed task:fail' --preview", "run_"),
    Line("run retry --all --filter id:$NEW_FAILED --undo-for 0s --yes", "run_"),
    Line("run retry --all --filter 'error:ValueError task:fail' --batch $ROUND --preview", "run_"),
    Line("run cancel $NEW_ASKING_RUN", "run_"),
    Line("run cancel --all --filter id:$NEW_ASKING --batch c$ROUND --preview", "run_"),
    Line("run cancel --all --filter id:$NEW_ASKING --undo-for 0s --yes", "run_"),
    Line("run rewind $DONE_RUN --to-op 1 --preview", "look"),
    Line("run rewind $NEW_DONE_RUN --to-op 3 --reason wrong --ask-again --keep-children --yes", "run_"),
    Line("run rewind $NEW_DONE_RUN --to-wait $DONE_WAIT --reason wrong --yes", "run_"),
    # waits
    Line(
        """wait list --status pending --kind input --task ask --stream approval --session $ASKING
        --priority high --tag vip --assignee ada""",
        "wait_",
    ),
    Line("wait list --filter 'priority:high due>1h' --profile nights --all", "wait_"),
    Line("wait list --limit 1 --cursor $WAITS_CURSOR", "wait_"),
    Line("wait get $WAIT", "Publish"),
    Line("wait claim $WAIT --expires-in 30m --on-behalf-of ana", "ana"),
    Line("wait claim $WAIT --override-claim --on-behalf-of bob", "bob"),
    Line("wait release $WAIT --on-behalf-of bob", "wait_"),
    Line("wait withdraw $NEW_WAIT", "withdrawn"),
    Line("wait list --mine", code=2, has_form=True),
    Line("wait list --can-answer", code=2, has_form=True),
    Line("next --mine --can-answer", code=2),
    Line(f"wait answer $NEW_WAIT --data {APPROVE} --override-reason 'all are ill'", code=2, has_form=True),
    Line(f"wait answer $NEW_WAIT --data {APPROVE} --deputy-for ada-human", code=4, has_form=True),
    Line("wait assign $WAIT ada", "ada"),
    Line("wait link $WAIT --person ada --expires-in 1h", "http"),
    Line("wait links $WAIT", "ada"),
    Line("wait files $WAIT", r'^id  name|"items":\[\]'),
    Line("wait files $WAIT --out $FOLDER/files"),
    Line("wait unlink $WAIT $NEW_LINK", "."),
    Line(f"wait dry-run $WAIT --data {APPROVE}", "approve"),
    Line(f"wait answer $NEW_WAIT --data {APPROVE} --undo-for 0s --batch b-$ROUND --override-claim", "fulfilled"),
    Line(f"wait answer --all --filter tag:vip --profile nights --data {APPROVE} --preview", "wait_|Publish"),
    Line(
        f"wait answer --all --filter tag:vip --seen @$NEW_SEEN --data {APPROVE} --yes", "accepted"
    ),
    Line("wait answer $NEW_WAIT decision=approve note='as agreed'", "fulfilled"),
    Line("wait answer --csv $NEW_SHEET --batch sheet-$ROUND --yes", "accepted"),
    Line(
        "wait answer --jsonl - --preview",
        "refused",
        stdin='{"correlation_id": "nobody", "data": 1}\n',
        code=3,
    ),
    Line("wait amend $NEW_DONE_WAIT --preview", "run_"),
    Line(
        """wait amend $NEW_DONE_WAIT --data '{"decision": "reject"}' --reason misread --ask-again
        --keep-children --yes""",
        "run_",
    ),
    Line(
        "wait amend --all --batch b-$ROUND decision=reject --reason 'wrong batch' --undo-for 0s --yes",
        "done|accepted",
    ),
    # input and output
    Line("input send $CHAT chat --data '\"hello\"' --correlation-id c-1 --idempotency-key send-$ROUND", "chat"),
    Line(
        "input send $CHAT chat --jsonl --batch lines-$ROUND --from-line 2",
        '"line":3',
        stdin='{"data": "one"}\n{"data": "two"}\n{"data": "three"}\n',
    ),
    Line("output read $DONE said --after 1 --limit 1", "approve"),
    Line("output follow $CANCELLED said --after 0", "asked"),
    # tokens
    Line(
        """token create --timeout 1h --initial '{"note": "x"}' --tag one --metadata '{"a": 1}'
        --schema '{"type": "object"}' --subject Release? --body '# Look' --facts '{"risk": "low"}'
        --links '{"Trace": "https://a.example/1"}' --diff '-a'""",
        "tok_",
    ),
    Line("token create --raw --verify github --verify-secret @$FOLDER/hook.secret", "tok_"),
    Line("token list --status pending --tag one", "tok_"),
    Line("token list --all", "tok_"),
    Line("token list --limit 1 --cursor $TOKENS_CURSOR", "tok_"),
    Line("token get $NEW_TOKEN", "tok_"),
    Line("token complete $NEW_TOKEN --data 1", "completed"),
    Line("token complete $NEW_TOKEN decision=yes", "completed"),
    Line("input send $CHAT chat =hello", "chat"),
    Line("token cancel $NEW_TOKEN", "cancelled"),
    Line(
        """public-token create --session $CHAT --input chat --correlation-id c-1 --max-uses 2 --expires-in 1h
        --allow-origin https://app.example.com""",
        "hlmr_pat_",
    ),
    Line("public-token create --session $DONE --output said", "hlmr_pat_"),
    Line("public-token create --token $NEW_TOKEN", "hlmr_pat_"),
    Line("public-token list --all", "pat_"),
    Line("public-token list --limit 1 --cursor $PUBLIC_TOKENS_CURSOR", "pat_"),
    Line("public-token revoke $NEW_PUBLIC_TOKEN", "."),
    # queries
    Line("query 'SELECT task FROM sessions' --limit 3", "ask"),
    Line("query 'SELECT task FROM sessions' --format csv --out $FOLDER/sessions.csv", has_form=True),
    Line("export --parquet $FOLDER/entries.parquet --view entries --after 1 --through 20"),
    Line("export --parquet $FOLDER/records.parquet --view records --since 2026-01-01 --until 2126-01-01"),
    # being told
    Line("limit list --all", '0 of 8|"at_once": ?8'),
    Line("limit list --output name", "^openai", has_form=True),
    Line("limit list --limit 1 --cursor $LIMITS_CURSOR", '0 of 5 in 1m|"begun": ?0'),
    Line("notices list", "oncall"),
    Line("notices test oncall", "oncall|told|true"),
    Line("notices retry oncall", "oncall|."),
    Line("waiting", "wait"),
    Line("waiting --filter priority:high --profile nights --count", r"^\d+$"),
    Line(
        """rule test '{"filter": "stream:approval", "answer": {"decision": "approve"}}' --since 1d
        --compare decision --programs --filter tag:vip""",
        "1|100",
    ),
    *(line for one in OF_FEATURES for line in one.run),
    # keys
    Line("key create --role viewer --name viewer-$ROUND", "hlmr_key_"),
    Line("key list --all", "viewer"),
    Line("key list --limit 1 --cursor $KEYS_CURSOR", "key_"),
    Line("key revoke $NEW_KEY", "."),
    Line("key create --person ada-$ROUND --expires 90d", "hlmr_key_"),
    # people
    Line("whoami", "local"),
    Line("inbox-link", "/sign-in/local"),
    Line("person list --all", "ada-human"),
    Line("person list --output name", "ada-human", has_form=True),
    Line("person list --limit 1 --cursor $PEOPLE_CURSOR", "ada-json"),
    Line("person show ada-$ROUND@example.com", "ada-"),
    Line("person add-key ada-$ROUND @$SIGNING_KEY", "SHA256:"),
    Line("person signers", "ssh-ed25519", has_form=True),
    Line("person revoke-key ada-$ROUND $FINGERPRINT --reason lost", "SHA256:"),
    Line(
        "person delegate ada-$ROUND bo-$ROUND --from 1d --until 14d --task review --stream approval "
        "--tag vip --reason ill", "bo-",
    ),
    Line("person delegations --all", "dlg_"),
    Line("person delegations --output name", "dlg_", has_form=True),
    Line("person delegations --limit 1 --cursor $DELEGATIONS_CURSOR", "dlg_"),
    Line("person undelegate $NEW_DELEGATION", "dlg_"),
    Line("person disable ada-$ROUND --reason left", "left"),
    Line("person enable ada-$ROUND", "ada-"),
    Line("person unbind ada-$ROUND", "ada-"),
    Line("key public", "ed25519"),
    # the ledger, of a runtime that works and of copies
    Line("backup $FOLDER/$ROUND.backup --keys $FOLDER/$ROUND.keys --data-dir $DATA_DIR", "."),
    Line("verify $FOLDER/$ROUND.backup --keys $FOLDER/$ROUND.keys", "."),
    Line("restore $FOLDER/$ROUND.backup --keys $FOLDER/$ROUND.keys --data-dir $FOLDER/$ROUND", "."),
    Line("repair --data-dir $FOLDER/$ROUND --keys $FOLDER/$ROUND.keys --without-checkpoints --drop-from 30", "."),
    Line("prune --older-than 1d --archive --dry-run --reason old", "0"),
    Line("prune --older-than 1d --no-archive", "0"),
    Line("prune --filter status:closed --batch p$ROUND --preview", has_form=True),
    Line("prune --filter status:closed --undo-for 0s --yes", has_form=True),
    Line("key rotate-master --data-dir $FOLDER/$ROUND"),
]  # fmt: skip
"""Run one after the other in this process, once as they are and once with --json."""

PROCESSES = {
    "up": """up option_tasks.py --in-process --host 127.0.0.1 --port 0 --data-dir $DATA_DIR --hosts 1
        --sessions-per-host 50 --linger 30s --encrypt --external-url http://links.example.com
        --trusted-proxy 10.0.0.0/8 --transport sockets --log-format json --http --ensure ask
        --external-id main --payload '{"subject": "Ensured"}' --config $FOLDER/own.toml --check refuse""",
    "dev": "dev option_tasks.py --host 127.0.0.1 --port 0 --data-dir $FOLDER/dev --config $FOLDER/own.toml",
    "down": "down --timeout 20s --data-dir $FOLDER/dev",
    "chunks": "output follow $TALKING words --chunks",
    "chunks json": "output follow $TALKING words --chunks --json",
    "watched sessions": "session list --watch",
    "watched runs": "run list --watch --json",
    "watched waits": "wait list --watch",
    "watched limits": "limit list --watch",
    "logs": "logs --follow --data-dir $DATA_DIR",
    "listen": "listen --after 0 --event wait.opened --filter priority:high --profile nights --jsonl --json",
    "check": "check option_tasks.py --json --data-dir $DATA_DIR",
    "next": """next --kind input --task ask --stream approval --session $NEW_ASKING --priority high --tag vip
        --assignee ada --filter due>1h --profile nights --undo-for 0s --override-claim --on-behalf-of ada""",
    "console": "console --read-only --ascii --theme helmr-light --undo-for 2s --profile nights",
    "console check": "console --check",
}
"""Each in a process of its own, because it goes on until it is ended, imports tasks, or wants a terminal."""

LONG = {
    "up": "up option_tasks.py --in-process --port 0 --no-encrypt --check warn",
    "demo": "demo --keep --in-process",
}
"""As `PROCESSES`, run by the long test: they take a minute."""

ALONE = [line for one in OF_FEATURES for line in one.alone]
"""Those of features that read all of stdin, each in a process of its own."""

ELSEWHERE = {
    "up --address": "tests/cluster/conftest.py::up",
    "up --no-http": "tests/cluster/test_joined.py::test_a_job_fans_documents_out_and_nothing_listens",
    "up --host-memory": "tests/stack/live.py::__init__",
    "up --ray": "tests/stack/test_watching.py::watched",
    "up --log": "tests/stack/test_log_elsewhere.py::machine",
    "log move --log": "tests/stack/test_log_elsewhere.py::test_a_runtime_moves_into_a_store_and_back",
    "log move --keys": "tests/stack/test_log_elsewhere.py::test_a_runtime_moves_into_a_store_and_back",
    "log move --json": "tests/stack/test_log_elsewhere.py::test_a_runtime_moves_into_a_store_and_back",
    "takeover": "tests/stack/test_pair.py::test_an_operator_has_the_standby_take_over",
    "takeover --timeout": "tests/stack/test_pair.py::test_an_operator_has_the_standby_take_over",
    "verify --log": "tests/stack/test_log_elsewhere.py::test_an_empty_machine_goes_on_where_a_killed_one_has_answered",
    "up --otel": "tests/stack/test_watching.py::watched",
    "login --device": "tests/http/test_login.py::test_who_logs_in_answers_as_themselves_and_is_out_after_logout",
    "logout": "tests/http/test_login.py::test_who_logs_in_answers_as_themselves_and_is_out_after_logout",
    "demo --ray": "tests/demo/test_demo.py::test_it_shows_what_it_promises_and_leaves_nothing",
    "demo --console": "tests/demo/test_demo_console.py::test_five_keys_from_the_demo_to_an_answer_at_both_sizes",
    **{words: place for one in OF_FEATURES for words, place in one.elsewhere.items()},
}
"""What other tests run for real: an option, and the function in which it stands."""


def options_of(words: str) -> tuple[str, set[str]]:
    """The command that a line names, and the options of it that the line has."""
    parts = shlex.split(words)
    command = next(
        (name for name in COMMANDS if parts[: name.count(" ")] == name.split()[1:]), "helmr"
    )
    return command, {part.partition("=")[0] for part in parts if part.startswith("--")}


def test_every_command_and_option_is_run() -> None:
    run: dict[str, set[str]] = {}
    lines = [line.words for line in LINES]
    alone = [line.words for line in ALONE]
    for words in [*lines, *alone, *PROCESSES.values(), *LONG.values(), *ELSEWHERE]:
        command, options = options_of(words)
        run.setdefault(command, set()).update(options)
    with_json = {options_of(words)[0] for words in lines}
    missing = {
        command: sorted(
            options
            - SHARED
            - run.get(command, set())
            - ({"--json"} & options if command in with_json else set())
        )
        for command, options in COMMANDS.items()
    }
    assert {name: left for name, left in missing.items() if left or name not in run} == {}
    assert set.union(*run.values()) >= SHARED


def test_what_runs_elsewhere_stands_there() -> None:
    for words, place in ELSEWHERE.items():
        file, _, name = place.partition("::")
        source = (ROOT / file).read_text(encoding="utf-8")
        found = [
            ast.get_source_segment(source, one) or ""
            for one in ast.walk(ast.parse(source))
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == name
        ]
        assert any(words.split()[-1] in text for text in found), place


@pytest.mark.parametrize("table", ["PROCESSES", "LONG"])
def test_each_process_is_started_by_a_test(table: str) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert set(re.findall(rf'{table}\["([a-z ]+)"\]', source)) == set(globals()[table])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with endpoint() as hook:
        found = World(tmp_path_factory.mktemp("world"), hook, PROCESSES["up"])
        try:
            yield found
        finally:
            found.end()


@pytest.fixture
def shell(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, as this process and those that it starts meet it."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(world.folder)
    return world


@pytest.mark.timeout(240)
@long_but(1, "kind", ["human", "json"])
def test_every_line_does_what_it_says(
    shell: World,
    kind: str,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell.begin(kind)
    wrong: list[str] = []
    for line in LINES:
        command, _ = options_of(line.words)
        has_json = kind == "json" and "--json" in COMMANDS.get(command, ()) and not line.has_form
        words = [*shell.words(line.words), *(["--json"] if has_json else [])]
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(line.stdin.encode())))
        capfdbinary.readouterr()
        code = invoke(words)
        out, err = (text.decode() for text in capfdbinary.readouterr())
        told = f"helmr {shlex.join(words)}\n  → {code}\n{out}{err}"
        if code != line.code or not re.search(line.says, out, flags=re.M) or "Traceback" in err:
            wrong.append(told)
        elif has_json and not is_json(out):
            wrong.append(f"no JSON: {told}")
    assert wrong == [], "\n\n".join(wrong)


def is_json(out: str) -> bool:
    """Whether it is JSON, a document a line."""
    try:
        return bool([json.loads(line) for line in out.splitlines()])
    except ValueError:
        return False


@contextmanager
def going(world: World, words: str) -> Iterator[Piped]:
    """A command that goes on until it is ended, at the latest when this is left."""
    with spawn(*world.words(words), stdin=subprocess.PIPE) as one:
        try:
            yield one
        finally:
            one.kill()


@pytest.mark.long  # tests/service/test_chunks.py
def test_chunks_are_shown_as_they_come(shell: World) -> None:
    """`output follow --chunks`, for people and as JSON, until the step has ended; then the record."""
    stop = shell.folder / "stop"
    stop.unlink(missing_ok=True)
    shell.name("TALKING")
    with (
        going(shell, PROCESSES["chunks"]) as people,
        going(shell, PROCESSES["chunks json"]) as program,
    ):
        assert people.stdout is not None
        assert program.stdout is not None
        first, second = people.stdout.readline().decode(), program.stdout.readline()
        stop.touch()
        rest = ""
        while "■" not in rest or "spoken" not in rest:  # in either order
            line = people.stdout.readline().decode()
            assert line, people.communicate()
            rest += line
        for one in (people, program):
            one.send_signal(signal.SIGINT)
        errors = [one.communicate(timeout=WITHIN_S)[1] for one in (people, program)]
    assert re.fullmatch(r" +·  op 1 +\"word \d+\"\n", first)
    assert "■  op 1" in rest
    assert json.loads(second)["data"].startswith("word ")
    assert errors == [b"", b""]


@pytest.mark.long  # test_logs.py; what listens: tests/client/test_following.py
def test_what_goes_on_until_it_is_ended(shell: World) -> None:
    shell.name("NEW_WAIT")
    with (
        going(shell, PROCESSES["listen"]) as listening,
        going(shell, PROCESSES["logs"]) as logs,
    ):
        assert listening.stdout is not None
        assert logs.stdout is not None
        told, logged = listening.stdout.readline(), logs.stdout.readline()
        for one in (listening, logs):
            one.send_signal(signal.SIGINT)
        codes = [one.wait(WITHIN_S) for one in (listening, logs)]
    assert json.loads(told)["event"] == "wait.opened"
    assert logged
    assert codes == [130, 130]


@pytest.mark.long  # test_lists.py
def test_lists_are_watched(shell: World) -> None:
    shell.name("NEW_WAIT")
    with (
        going(shell, PROCESSES["watched sessions"]) as sessions,
        going(shell, PROCESSES["watched runs"]) as runs,
        going(shell, PROCESSES["watched waits"]) as waits,
        going(shell, PROCESSES["watched limits"]) as limits,
    ):
        watched = (sessions, runs, waits, limits)
        told = [one.stdout.readline() for one in watched if one.stdout is not None]
    assert re.match(rb"new +ses_", told[0])
    assert json.loads(told[1])["change"] == "new"
    assert re.match(rb"new +wait_", told[2])
    assert re.match(rb"new +openai +0 of 8", told[3])


@pytest.mark.long  # tests/features/mcp/test_restart.py, test_gate_hook.py
@pytest.mark.parametrize("line", ALONE, ids=lambda one: options_of(one.words)[0])
def test_lines_in_processes_of_their_own(shell: World, line: Line) -> None:
    said = process(*shell.words(line.words), input=line.stdin.encode())
    assert said.code == line.code, said
    assert re.search(line.says, said.out, flags=re.M), said


@pytest.mark.long  # tests/process/test_check.py
def test_check_in_a_process_of_its_own(shell: World) -> None:
    shell.name("NEW_ASKING")
    checked = process(*shell.words(PROCESSES["check"]))
    assert checked.code == 0, checked
    assert {one["verdict"] for one in json.loads(checked.out)["items"]} == {"fits"}


def test_next_asks_on_a_terminal(shell: World) -> None:
    code, text = screen(*shell.words(PROCESSES["next"]), until="approve", types="")
    assert (code, "Publish?" in text) == (130, True)


@pytest.mark.long  # tests/console/flow/test_terminal.py
def test_the_console_opens(shell: World) -> None:
    shell.name("NEW_ASKING")
    code, text = screen(*shell.words(PROCESSES["console check"]))
    assert (code, "gateway" in text) == (0, True)
    code, text = screen(*shell.words(PROCESSES["console"]), until="Publish?")
    assert "read-only" in text


@pytest.mark.long  # tests/process/test_in_process.py
def test_dev_runs_until_down_ends_it(shell: World) -> None:
    with going(shell, PROCESSES["dev"]) as dev:
        credentials = shell.folder / "dev" / "credentials.json"
        until(credentials.exists, within_s=WITHIN_S, what="dev is ready")
        os.environ.pop("HELMR_URL")
        said = process(*shell.words(PROCESSES["down"]))
        assert (said.code, dev.wait(WITHIN_S)) == (0, 0), said.err


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_demo_leaves_a_folder_on_which_up_goes_on(tmp_path: Path) -> None:
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "helmr.cli"]
    demo = subprocess.run(
        [*command, *LONG["demo"].split()],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert demo.returncode == 0, demo.stderr
    kept = Path(re.findall(r"\S+/data\b", demo.stdout)[-1])
    shutil.rmtree(kept.parent)
    shutil.copy(TASKS, tmp_path)
    with subprocess.Popen([*command, *LONG["up"].split()], env=environ, cwd=tmp_path) as up:
        until(
            (tmp_path / ".helmr" / "credentials.json").exists, within_s=WITHIN_S, what="up is ready"
        )
        up.send_signal(signal.SIGTERM)
        assert up.wait(WITHIN_S) == 0
