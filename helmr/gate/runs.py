"""A headless run of Claude Code as a session: it parks while a call waits for a person, and outlives crashes.

A step runs the client until it ends. A call without a decision is deferred: the client ends, a child session asks about
the call, and this session parks. When the child ends, the client is resumed and gets the decision from the gateway.

The client's session has one name from the start, so after a crash the step resumes it and never starts a second one.
The client, and the person who reads, must find out which call was cut off. A client that outlived its process is waited
for: two clients of one session never run at a time.

The runtime's user runs the program: `[gate] runs = true` in `helmr.toml` turns the task on.

Invariants: S-103, S-105, S-108.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from typing import Any

from helmr import sessions, streams
from helmr.client.profiles import state_folder
from helmr.context import TaskContext
from helmr.errors import UsageError
from helmr.gate import RESTRICTED, RESTRICTION, RUN_TASK, GatedCall, call_metadata
from helmr.gate.claude_code import CLIENT, Mode, hooks_block
from helmr.gate.tasks import gate_call
from helmr.steps import step
from helmr.tasks import task

PROGRAM = "claude"
RUN_VARIABLE = "HELMR_GATE_RUN"
"""Environment variable that names the session in which the client runs: its hooks defer at once."""

GO_ON = "You were interrupted. Find out what was done already, and go on."
"""The prompt of a client that is resumed after a crash."""

restricted = streams.input(RESTRICTED, schema=dict[str, Any])
"""Restrictions of each deferred call, by the rule that asks."""

DEFERRED = "tool_deferred"
OUTPUT_CHARS_MAX = 10_000
"""Output kept of a client that failed."""


@dataclass(frozen=True, slots=True)
class GateRun:
    """A run of an agent, and the runtime that its hooks ask.

    Attributes:
        prompt: The agent's task.
        folder: Working folder.
        url: URL of the runtime.
        key_file: File with the hooks' key.
        options: More of the client's command line.
    """

    prompt: str
    folder: str
    url: str
    key_file: str
    options: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GateRunResult:
    """Result of a run: the client's last words and session, its cost, and how many calls people were asked about."""

    result: str
    client_session: str
    cost_usd: float
    turns: int
    asked: int


@task(id=RUN_TASK, mcp=False)
async def gate_run(run: GateRun, ctx: TaskContext) -> GateRunResult:
    """Run Claude Code to its end, through every call that waits for a person."""
    name = str(ctx.uuid())
    ended = await run_client(run, name, ctx.session.id, 0)
    cost_usd, turns, asked = 0.0, 0, 0
    while True:
        cost_usd += ended["cost_usd"]
        turns += ended["turns"]
        if ended["call"] is None:
            return GateRunResult(ended["result"], name, cost_usd, turns, asked)
        call = GatedCall(CLIENT, name, **ended["call"], folder=run.folder)
        payload = call.to_json()
        if ctx.patched("restricted-calls"):
            said = [one for one in await restricted.peek() if one["call_id"] == call.call_id]
            payload |= {RESTRICTION: said[-1][RESTRICTION]} if said else {}
        child = await sessions.start(
            gate_call, payload, tags=[call.tag], metadata=call_metadata(call)
        )
        await child.result()
        asked += 1
        ended = await run_client(run, name, ctx.session.id, asked)


@step(compare=False)
async def run_client(run: GateRun, name: str, session_id: str, resumed: int) -> dict[str, Any]:
    """Run the client until it ends or defers a call; what it said.

    Raises:
        RuntimeError: It failed; holds what it wrote.
    """
    with await asyncio.to_thread(_locked, name, resumed) as lock:
        if lock.is_cut_off:
            words = [PROGRAM, "-p", GO_ON, "--resume", name]
        elif resumed:
            words = [PROGRAM, "-p", "--resume", name]
        else:
            words = [PROGRAM, "-p", run.prompt, "--session-id", name]
        process = await asyncio.create_subprocess_exec(
            *words,
            *("--output-format", "json", "--settings", json.dumps({"hooks": _hooks(run)})),
            *run.options,
            cwd=run.folder,
            env={**os.environ, RUN_VARIABLE: session_id},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(lock.descriptor,),
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()
        return _said(out, err, process.returncode)


@dataclass(frozen=True, slots=True)
class ClientLock:
    """Held by this process and the client that it has started, until both are gone.

    Attributes:
        descriptor: Descriptor of the locked file; the client inherits it.
        is_cut_off: True if a crash cut off an earlier start.
    """

    descriptor: int
    is_cut_off: bool

    def __enter__(self) -> ClientLock:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)


def _locked(name: str, resumed: int) -> ClientLock:
    """Wait until no client of that session runs, and note that one is being started."""
    folder = state_folder(os.environ).parent / "gate"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(folder / f"{name}.lock", flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    begun = folder / f"{name}.{resumed}"
    is_cut_off = begun.exists()
    begun.touch()
    return ClientLock(descriptor, is_cut_off)


def _hooks(run: GateRun) -> dict[str, Any]:
    program = f"{shlex.quote(sys.executable)} -m helmr.cli"
    return hooks_block(Mode.HEADLESS, run.url, run.key_file, program=program)


def _said(out: bytes, err: bytes, code: int | None) -> dict[str, Any]:
    try:
        found = json.loads(out)
    except ValueError:
        found = None
    if code or not isinstance(found, dict) or found.get("is_error"):
        said = (out + err).decode(errors="replace")[-OUTPUT_CHARS_MAX:]
        raise RuntimeError(f"{PROGRAM} ended with {code}: {said}")
    deferred = found.get("deferred_tool_use") if found.get("stop_reason") == DEFERRED else None
    call = None
    if deferred is not None:
        call = {
            "tool": deferred["name"],
            "input": deferred["input"],
            "call_id": deferred["id"],
        }
    return {
        "call": call,
        "result": str(found.get("result") or ""),
        "cost_usd": float(found.get("total_cost_usd") or 0.0),
        "turns": int(found.get("num_turns") or 0),
    }


def read_command(words: list[str]) -> tuple[str, list[str]]:
    """The prompt of `claude -p PROMPT …`, and its other options.

    Raises:
        UsageError: It is no such command.
    """
    at = next((at for at, word in enumerate(words) if word in ("-p", "--print")), None)
    if words[:1] != [PROGRAM] or at is None or at + 1 >= len(words) or words[at + 1][:1] == "-":
        raise UsageError(
            "only a headless run of Claude Code can be run so",
            hint="Write `helmr gate run -- claude -p PROMPT`, with other options behind it.",
        )
    return words[at + 1], [*words[1:at], *words[at + 2 :]]
