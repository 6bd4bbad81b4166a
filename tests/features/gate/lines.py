"""How the commands of the gate are tried."""

from __future__ import annotations

import json

from helmr.client.sync import ask
from helmr.features.gate.operations import LIST_UNKNOWN_OUTCOMES
from helmr.gate import CALL_TASK
from tests.cli.lines import FeatureLines, Line, Post
from tests.cli.option_world import WITHIN_S, World
from tests.hostile import HOSTILE, MARKUP
from tests.service.stack import Stack

RULES = """
[[gate.rule]]
name = "looks"
matches.command = "ls"
action = "allow"
"""
CALLED = {
    "session_id": "agent",
    "hook_event_name": "PreToolUse",
    "tool_use_id": "toolu_1",
    "tool_name": "Bash",
    "tool_input": {"command": "ls"},
}
"""An event of a hook."""


def asker_key(world: World) -> str:
    path = world.folder / "asker.keys"
    path.write_text(world.client.keys.create(role="asker", name="of a hook").secret)
    return str(path)


def _started(world: World) -> str:
    call = {"client": "own", "agent": world.round, "tool": "Shell", "input": {"command": "ls"}}
    return world.started(CALL_TASK, call)


def call(world: World) -> str:
    session_id = _started(world)
    world.client.sessions.open(session_id).cancel()  # `check` is given no code of the gate
    return session_id


def unknown(world: World) -> str:
    """A call that was approved, and whose client has ended without a word."""
    session_id = _started(world)
    world.client.waits.answer(world.wait_of(session_id), {"decision": "approve"})
    world.client.runs.wait(world.run_of(session_id), timeout=WITHIN_S)
    world.client.sessions.open(session_id).input("outcomes").send({"unknown": True})
    return session_id


def outcomes_cursor(world: World) -> str:
    for _ in range(2):
        unknown(world)
    return world.cursor(ask(world.client, LIST_UNKNOWN_OUTCOMES, query={"limit": 1}))


async def fill(stack: Stack, post: Post) -> dict[str, str]:
    """A call that an agent asks about, and a grant."""
    called = {
        "client": MARKUP,
        "agent": HOSTILE[:60],
        "tool": HOSTILE[:60],
        "input": {"command": HOSTILE[:60]},
    }
    session_id = (await stack.started(CALL_TASK, called))["session"]["id"]
    grant = await post("/v1/gate/grants", {"session_id": session_id})
    return {"CALL": session_id, "GRANT": grant["id"]}


_RUN = "tests/gate/test_claude_code_itself.py::start_run"
_PROXY = "tests/cli/test_gate_mcp.py::proxy"

LINES = FeatureLines(
    run=(
        Line("gate init --config $FOLDER/rules-$ROUND.toml --yes", "is written|true"),
        Line("gate install claude-code --headless --hook-key $ASKER_KEY --yes", "asks http|headless"),
        Line("gate install claude-code --project --yes", "asks http|true"),
        Line("gate install codex --project --yes", "asks http|interactive"),
        Line("gate status", "answers"),
        Line("gate uninstall codex --project --yes", "asks the gate no more|true"),
        Line("gate uninstall claude-code --project --yes", "asks the gate no more|true"),
        Line(
            """gate rules test Bash '{"command": "git push"}' --folder /shop --client claude-code
            --config $FOLDER/rules-$ROUND.toml""",
            "leaves the machine +ask +decides|ask",
        ),
        Line("gate grant create $CALL --match command=ls* --expires 2h", "grant_"),
        Line("gate grant create $CALL --any", "grant_"),
        Line("gate grant list --all", "ls*"),
        Line("gate grant list --output name", "grant_", has_form=True),
        Line("gate grant list --limit 1 --cursor $GRANTS_CURSOR", "grant_"),
        Line("gate grant show $GRANT", "grant_"),
        Line("gate grant revoke $GRANT", "grant_"),
        Line("gate outcome list --limit 1 --cursor $OUTCOMES_CURSOR", "ses_"),
        Line("gate outcome list --all", "ses_"),
        Line("gate outcome list --output name", "ses_", has_form=True),
        Line("gate outcome say $UNKNOWN failed", "failed"),
        Line("gate rules test --last 5 --config $FOLDER/rules-$ROUND.toml", "0 calls|0"),
    ),
    alone=(
        Line(
            "gate hook claude-code --mode headless --timeout 20 --url $URL --key-file $ASKER_KEY",
            '"permissionDecision": ?"allow"',
            stdin=json.dumps(CALLED),
        ),
    ),
    elsewhere={
        "gate run --folder": _RUN,
        "gate run --hook-key": _RUN,
        "gate run --wait": _RUN,
        "gate run --json": _RUN,
        "gate mcp --name": _PROXY,
        "gate mcp --server-url": _PROXY,
    },
    names={
        "ASKER_KEY": asker_key,
        "CALL": call,
        "UNKNOWN": unknown,
        "OUTCOMES_CURSOR": outcomes_cursor,
        "GRANT": lambda world: world.client.grants.create(call(world)).id,
        "GRANTS_CURSOR": lambda world: world.cursor(world.client.grants.page(limit=1)),
    },
    config=RULES,
    walked={
        "gate grant list": ("gate grant list",),
        "gate grant show": ("gate grant show GRANT", "gate grant show HOSTILE"),
        "gate grant create": (
            "gate grant create CALL --match HOSTILE_WORD",
            "gate grant create CALL --any",
        ),
        "gate grant revoke": ("gate grant revoke GRANT", "gate grant revoke HOSTILE"),
    },
    not_walked={
        "gate init": "writes a file; says only where",
        "gate install": "shows settings of this user's own: tests/cli/test_gate.py",
        "gate uninstall": "as gate install",
        "gate status": "as gate install",
        "gate hook": "JSON for a client, in which controls are escaped: tests/cli/test_gate_hook.py",
        "gate mcp": "as mcp: tests/cli/test_gate_mcp.py",
        "gate run": "says what run get says, which is walked",
        "gate outcome list": "shows through `table` what gate grant list shows",
        "gate outcome say": "as gate outcome list",
        "gate rules test": "says names of rules of this user's own file, and numbers",
    },
    fill=fill,
)  # fmt: skip
