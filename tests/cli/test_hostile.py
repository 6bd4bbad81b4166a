"""Every command on a real terminal against a real runtime that is full of hostile text."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from urllib.parse import quote

import pytest
import typer.main

from helmr.cli.main import app
from helmr.features import FEATURES
from helmr_runtime.catalog import Registry
from helmr_runtime.security.people import read_people
from tests.cli.lines import lines_of_features
from tests.cli.test_terminal import SGR, screen
from tests.console.flow import tasks
from tests.hostile import HOSTILE, MARKUP, hidden
from tests.notices.receivers import endpoint
from tests.service.stack import Stack
from tests.service.test_notices import Told, webhook

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

OF_FEATURES = lines_of_features()

WALKED = {
    "status": ["status"],
    "session list": ["session list", "session list --filter HOSTILE", "session list -o csv"],
    "session get": ["session get SESSION", "session get CLOSED", "session get HOSTILE"],
    "session tree": ["session tree SESSION", "session tree HOSTILE"],
    "session transcript": ["session transcript SESSION", "session transcript FAILED"],
    "session follow": ["session follow CLOSED"],
    "run list": ["run list", "run list -o csv"],
    "run get": ["run get RUN", "run get FAILED_RUN", "run get ECHO_RUN"],
    "wait list": ["wait list", "wait list -o csv"],
    "wait get": ["wait get WAIT", "wait get TOKEN_WAIT", "wait get ANSWERED"],
    "rule test": ["rule test RULE", "rule test HOSTILE"],
    "output read": ["output read SESSION said", "output read SESSION SHORT"],
    "output follow": ["output follow CLOSED said"],
    "token list": ["token list"],
    "token get": ["token get TOKEN", "token get COMPLETED"],
    "query": ["query SQL", "query SQL --format csv", "query SQL --format json", "query HOSTILE"],
    "public-token list": ["public-token list"],
    "key list": ["key list"],
    # What writes says back what it was given, or what somebody else did first.
    "session start": ["session start HOSTILE"],
    "session note": ["session note SESSION HOSTILE"],
    "session close": ["session close SESSION", "session close --all --preview --filter status:open --end-input"],
    "run retry": ["run retry ECHO_RUN", "run retry --all --preview --filter run:failed"],
    "session cancel": ["session cancel FAILED"],
    "run cancel": ["run cancel FAILED_RUN"],
    "run rewind": ["run rewind RUN --to-op 1 --preview", "run rewind RUN --to-op 99 --reason HOSTILE --yes"],
    "session fork": ["session fork HOSTILE --to-op 1 --reason x", "session fork SESSION --to-op 99 --reason HOSTILE"],
    "wait amend": ["wait amend ANSWERED --preview", "wait amend ANSWERED --data HOSTILE_JSON --reason HOSTILE --yes"],
    "wait claim": ["wait claim WAIT", "wait claim ANSWERED"],
    "wait release": ["wait release WAIT", "wait release ANSWERED"],
    "wait withdraw": ["wait withdraw WAIT", "wait withdraw HOSTILE"],
    "wait assign": ["wait assign WAIT HOSTILE", "wait assign ANSWERED ada"],
    "wait link": ["wait link WAIT --person SHORT"],
    "wait links": ["wait links WAIT"],
    "wait files": ["wait files WAIT"],
    "wait unlink": ["wait unlink WAIT pat_01m89x544te4za7mrgjvxzyttd"],
    "wait answer": ["wait answer ANSWERED --data {}", "wait answer WAIT --data HOSTILE_JSON",
                    "wait answer WAIT HOSTILE_WORD", "wait answer --csv SHEET --preview"],
    "wait dry-run": ["wait dry-run FREE --data HOSTILE_JSON", "wait dry-run WAIT --data HOSTILE_JSON"],
    "input send": ["input send SESSION SHORT --data 1", "input send SESSION chat --data HOSTILE_JSON"],
    "token create": ["token create --subject HOSTILE"],
    "token complete": ["token complete COMPLETED --data 1"],
    "token cancel": ["token cancel COMPLETED"],
    "public-token create": ["public-token create --session SESSION --input chat --correlation-id HOSTILE"],
    "public-token revoke": ["public-token revoke HOSTILE"],
    "limit list": ["limit list"],
    "notices list": ["notices list"],
    "notices test": ["notices test oncall", "notices test HOSTILE"],
    "notices retry": ["notices retry oncall", "notices retry HOSTILE"],
    "key create": ["key create --role viewer --name SHORT"],
    "key revoke": ["key revoke HOSTILE"],
    "whoami": ["whoami"],
    "person list": ["person list"],
    "person show": ["person show ada", "person show SHORT"],
    "person disable": ["person disable ada --reason SHORT", "person disable SHORT --reason SHORT"],
    "person enable": ["person enable SHORT"],
    "person unbind": ["person unbind SHORT"],
    "person add-key": ["person add-key ada SHORT", "person add-key SHORT SHORT"],
    "person revoke-key": ["person revoke-key ada SHORT", "person revoke-key SHORT SHORT"],
    "person signers": ["person signers"],
    "person delegate": ["person delegate ada SHORT --until 1d", "person delegate ada ada --until SHORT"],
    "person delegations": ["person delegations"],
    "person undelegate": ["person undelegate HOSTILE"],
    **{name: [*lines] for one in OF_FEATURES for name, lines in one.walked.items()},
}  # fmt: skip
"""A command and the lines it is tried with; each also with --json."""

SILENT = {
    "status", "token create", "session note", "wait link", "wait links", "wait unlink",
    "wait files",
    "limit list", "notices list", "whoami", "person list", "person add-key", "person signers", "person delegations",
    *(name for one in OF_FEATURES for name in one.silent),
}  # fmt: skip
"""Walked too, but they say only ids and words of Helmr's own."""

NOT_WALKED = {
    "init": "writes files of Helmr's own words; says only where",
    "doctor": "says what is here, each line through `one_line`; warnings of a runtime are of Helmr's own words",
    "upgrade-check": "as doctor; of code it shows what importing it warned of",
    "up": "starts a runtime; says nothing of a session",
    "dev": "as up",
    "check": "loads code, whose text it shows: tests/process/test_check.py",
    "logs": "reads files, not the runtime: tests/cli/test_logs.py",
    "down": "ends a runtime; says nothing of a session",
    "config": "shows settings of this user's own file and command line",
    "takeover": "signals a runtime; says nothing of a session",
    "demo": "says only what its own sessions do",
    "next": "asks on a terminal: tests/cli/test_next.py",
    "login": "asks an issuer: tests/http/test_login.py",
    "logout": "as login",
    "inbox-link": "prints a link made of the runtime's own address and key",
    "console": "is the console: tests/console/flow/test_terminal.py",
    "export": "writes a file; says only how many rows and where",
    "backup": "writes a file; says only how many entries and where",
    "restore": "reads a backup; says only numbers and places: tests/toolbox/test_commands.py",
    "verify": "as restore",
    "repair": "as restore",
    "prune": "as restore",
    "log move": "as restore: tests/stack/test_log_elsewhere.py",
    "session export": "writes a file for programs: JSON, in which controls are escaped",
    "session replay": "as session verify",
    "session what-if": "as session verify",
    "experiment": "as session verify",
    "session verify": "reads a file: tests/cli/test_session_file.py",
    "key public": "says only public keys",
    "context list": "reads settings of this user's own; prints through `table`",
    "context add": "says what was typed; prints through `write_line`",
    "context remove": "as context add",
    "listen": "follows for ever; prints through `write_line` and `write_json`, as those that are walked do",
    "waiting": "says only numbers and times",
    "key rotate-master": "changes the keys of a data folder; says nothing of a session",
    **{name: why for one in OF_FEATURES for name, why in one.not_walked.items()},
}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command of a Typer app, as it is typed."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path)
        return
    for name, one in inner.items():
        yield from commands(one, (*path, name))


def test_every_command_is_walked_or_says_why_not() -> None:
    assert set(commands(typer.main.get_command(app))) == {*WALKED, *NOT_WALKED}
    assert not set(WALKED) & set(NOT_WALKED)


MARK = "=== next"
WALK = f"""
import json, sys
from pathlib import Path
from helmr.cli.main import _prepare, invoke
_prepare()
for words in json.loads(Path(sys.argv[1]).read_text()):
    sys.stdout.write("{MARK}")
    sys.stdout.flush()  # before what goes to standard error
    invoke(words)
    sys.stdout.flush()
"""
"""Command after command in one process: each start costs most of a second, and 70 of them are walked."""


async def filled(stack: Stack) -> dict[str, str]:
    """A runtime in which everything that anybody can name or say is hostile; the ids by the names in `WALKED`."""
    http = stack.http
    http.headers["On-Behalf-Of"] = quote(HOSTILE[:100])

    async def post(path: str, body: Any) -> dict[str, Any]:
        response = await http.post(path, json=body)
        assert response.status_code < 300, response.text
        found: dict[str, Any] = response.json()
        return found

    # Tags and external ids are printable, or refused; markup is that too.
    about = {"tags": [MARKUP], "metadata": {HOSTILE: HOSTILE}}
    asked = {
        "subject": HOSTILE[:190],
        "body": f"# {HOSTILE}\n- {HOSTILE}",
        "correlation": HOSTILE[:300],
        "say": [HOSTILE],
    }
    one = await stack.started("publish", asked, external_id=MARKUP, **about)
    answered = await stack.started("publish", {**asked, "rounds": 2}, **about)
    await post(
        f"/v1/waits/{answered['session']['wait']['id']}/answer",
        {"data": {"decision": "reject", "note": HOSTILE}},
    )
    failed = await stack.started("break", {"subject": HOSTILE}, **about)
    closed = await stack.started("publish", asked)
    await post(f"/v1/sessions/{closed['session']['id']}/notes", {"text": HOSTILE})
    await post(f"/v1/sessions/{closed['session']['id']}/cancel", {})
    token = await post(
        "/v1/tokens",
        {
            "subject": HOSTILE[:190],
            "body": HOSTILE,
            "schema": {"type": "object", "properties": {HOSTILE: {"enum": [HOSTILE]}}},
            **about,
        },
    )
    done = await post("/v1/tokens", {"subject": HOSTILE[:190]})
    await post(f"/v1/tokens/{done['id']}/complete", {"data": {HOSTILE: HOSTILE}})
    echo = await stack.started("pick-up", done["id"])
    free = await post("/v1/tokens", {"subject": "-"})
    free = await stack.started("pick-up", free["id"])
    picking = await stack.started("pick-up", token["id"])
    session = one["session"]["id"]
    scope = {
        "type": "session.input.send",
        "session": session,
        "stream": "chat",
        "correlation_id": HOSTILE[:200],
    }
    await post("/v1/public-tokens", {"scope": scope})
    await post("/v1/api-keys", {"role": "viewer", "name": HOSTILE[:60]})
    of_features: dict[str, str] = {}
    for given in OF_FEATURES:
        if given.fill is not None:
            of_features |= await given.fill(stack, post)
    return {
        "SESSION": session,
        "FAILED": failed["session"]["id"],
        "CLOSED": closed["session"]["id"],
        "RUN": one["run"]["id"],
        "FAILED_RUN": failed["run"]["id"],
        "ECHO_RUN": echo["run"]["id"],
        "WAIT": one["session"]["wait"]["id"],
        "FREE": free["session"]["wait"]["id"],
        "ANSWERED": answered["session"]["wait"]["id"],
        "TOKEN_WAIT": picking["session"]["wait"]["id"],
        "TOKEN": token["id"],
        "COMPLETED": done["id"],
        "HOSTILE": HOSTILE.replace("\x00", ""),  # no argument of a process holds one
        "SQL": "SELECT * FROM entries",
        "SHORT": HOSTILE[:60],
        "RULE": r'{"filter": "", "answer": "\u001b]0;owned\u0007\u202e"}',
        "HOSTILE_WORD": f"{MARKUP}={HOSTILE[:60]}".replace("\x00", ""),
        "HOSTILE_JSON": '"\\u001b]0;owned\\u0007\\u202e"',
        **of_features,
    }


@pytest.mark.timeout(240)
async def test_no_command_lets_a_session_speak_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    built_in = [name for one in FEATURES if one.tasks for name in resolve_name(one.tasks)({})]
    registry = Registry.of_modules([tasks, *map(import_module, built_in)])
    stack = Told(tmp_path / "data", registry=registry)
    with endpoint(is_up=False) as hook:
        people = read_people({"ada": {"groups": ["finance"]}}, "helmr.toml")
        stack.with_targets(people=people, oncall=webhook(hook))
    try:
        await stack.start(sessions_per_host=4)
        names = await filled(stack)
        environ = {
            **os.environ,
            "HELMR_URL": stack.url,
            "HELMR_API_KEY": stack.key,
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }

        sheet = tmp_path / "sheet.csv"
        sheet.write_text(f"wait,{MARKUP}\n{names['WAIT']},x\n{names['FREE']},x\n")
        names["SHEET"] = str(sheet)
        lines = [line for walked in WALKED.values() for line in walked]
        walks = [*lines, *(f"{line} --json" for line in lines)]
        found = {}
        for line in [line for line in walks if line.startswith("output follow")]:
            walks.remove(line)
            words = [names.get(word, word) for word in line.split()]
            _, found[line] = await asyncio.to_thread(screen, *words, env=environ, until="]52;c")
        (tmp_path / "walks").write_text(
            json.dumps([[names.get(word, word) for word in line.split()] for line in walks])
        )
        code, text = await asyncio.to_thread(
            screen, str(tmp_path / "walks"), env=environ, program=("-c", WALK), within_s=150
        )
        assert code == 0, text
        _, *parts = text.split(MARK)
        found |= dict(zip(walks, parts, strict=True))
    finally:
        await stack.stop()
    assert {line: wrong for line, text in found.items() if (wrong := obeyed(text))} == {}
    shown = [line for line, text in found.items() if re.search(r"\]52;c|owned|@click", text)]
    assert silent(shown) == SILENT


def silent(shown: list[str]) -> set[str]:
    """Commands none of whose lines showed the hostile text: for them the walk proves nothing."""
    return {
        command for command, lines in WALKED.items() if not any(line in shown for line in lines)
    }


def obeyed(text: str) -> list[str]:
    """What of a command's output a terminal would obey, but for its own colours and line ends."""
    return hidden(re.sub(r"[\r\n]", "", SGR.sub("", text)))
