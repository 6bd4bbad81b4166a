"""Calls through `helmr gate mcp` while proxies, servers and the runtime are killed: was each effect approved?

    python -m tests.programs.gate.kills --clients 20 --calls 50 --runtime-kills 10

Each client has a proxy and a server of its own; two share a key and a folder, and make the same calls. A person answers
what is asked: approves, changes, declines. Some orders end their server or its proxy in the middle of the charge, some
clients kill their proxy while the call waits, and the runtime is killed again and again. A client that has lost its
connection calls again, as an agent does.

Judged is what the ledger says of calls, against the lines that servers have written:

- no order was charged more often than it was approved and its approval taken, so none twice on one approval;
- what was declined or never answered was not charged;
- each approval that was taken has an outcome, or its call is open and listed with an unknown one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import TextContent

from helmr.client import Client as RuntimeClient
from helmr.errors import Conflict, HelmrError
from helmr.gate import CALL_TASK
from tests.programs.gate.fates import Fate
from tests.programs.gate.runtime import gated_runtime
from tests.stack.live import ROOT, LiveRuntime, descendants, kill

RULES = """
[[gate.rule]]
name = "looks"
tool = "shop.look"
action = "allow"
"""
PROXY = """
import sys
from helmr.features.gate import mcp_proxy
mcp_proxy.HOLD_S, mcp_proxy.AWAY_S = 3.0, 3.0
from helmr.cli.main import invoke
sys.exit(invoke(sys.argv[1:]))
"""
"""The program with shorter times, so that calls are called again and a runtime that starts is away."""

LEFT = ".left"
"""Ends the name of an order whose client kills its proxy while the call waits."""

CHANGED = "changed-"
TRIES_MAX = 60
"""How often a client makes a call that waits, or could not be asked about."""

LOST_MAX = 1
"""How often a client makes a call again whose connection was lost."""

LOST = (MCPError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
AGAIN = ("Call it again", "can't ask a person", "call it again later")
LOOK_S = 0.1
STARTS_MAX = 5


@dataclass
class Tally:
    """What a run has come to."""

    calls: int = 0
    charged: int = 0
    declined: int = 0
    failed: int = 0
    given_up: int = 0
    connections_lost: int = 0
    proxies_killed: int = 0
    runtime_kills: int = 0
    questions: int = 0
    approvals: int = 0
    approvals_taken: int = 0
    effects: int = 0
    succeeded: int = 0
    unknown: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Operator:
    """The person who answers, in a thread; also kills the runtime when so many calls are done.

    Args:
        runtime: Whose questions are answered.
        tally: What is counted.
        kills_at: Counts of calls at which the runtime is killed.
        seed: Of what is decided.
    """

    def __init__(
        self, runtime: LiveRuntime, tally: Tally, kills_at: Sequence[int], seed: int
    ) -> None:
        self._runtime = runtime
        self._tally = tally
        self._kills_at = list(kills_at)
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self.seen: set[str] = set()
        """Orders that were asked about."""
        self.kept: set[str] = set()
        """Orders that are not answered yet."""
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Operator:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(LOOK_S):
            if self._kills_at and self._tally.calls >= self._kills_at[0]:
                self._kills_at.pop(0)
                self._restart()
                self._tally.runtime_kills += 1
            try:
                self._answer_all(self._runtime.client)
            except HelmrError:
                continue

    def _restart(self) -> None:
        """Kill the runtime and start it; again if a busy machine lets it not become ready in time."""
        for _ in range(STARTS_MAX - 1):
            self._runtime.kill_all()
            with contextlib.suppress(AssertionError):
                self._runtime.start()
                return
        self._runtime.kill_all()
        self._runtime.start()

    def _answer_all(self, client: RuntimeClient) -> None:
        for wait in client.waits.list(status="pending"):
            found = client.waits.get(wait.id)
            order = str(found.initial["arguments"]["order"])
            self.seen.add(order)
            if order in self.kept:
                continue
            drawn = self._random.random()
            data: dict[str, Any] = {"decision": "approve"}
            if drawn < 0.15:
                data = {"decision": "decline", "reason": "no"}
            elif drawn < 0.25:
                data["arguments"] = {"order": CHANGED + order}
            try:
                client.waits.answer(wait.id, data)
            except Conflict:
                continue


class ShopClient:
    """A client of MCP with a proxy and a server of its own.

    Args:
        folder: Where it works; two in one folder are one agent.
        parameters: How it starts the proxy.
        operator: Sees the questions.
        tally: What is counted.
    """

    def __init__(
        self, folder: Path, parameters: StdioServerParameters, operator: Operator, tally: Tally
    ) -> None:
        self._folder = folder
        self._parameters = parameters
        self._operator = operator
        self._tally = tally
        self._lost: Counter[str] = Counter()

    async def run(self, orders: Sequence[str]) -> None:
        """Charge these orders, one after the other."""
        queue = list(orders)
        while queue:
            try:
                async with Client(self._parameters) as one:
                    while queue:
                        await self._charge(one, queue[0])
                        queue.pop(0)
                        self._tally.calls += 1
            except* LOST:
                self._tally.connections_lost += 1
                self._lost[queue[0]] += 1
                if self._lost[queue[0]] > LOST_MAX:
                    queue.pop(0)
                    self._tally.calls += 1
                    self._tally.given_up += 1

    async def _charge(self, one: Client, order: str) -> None:
        for _ in range(TRIES_MAX):
            if order in self._operator.kept:
                await self._call_and_leave(one, order)
            result = await one.call_tool("charge", {"order": order})
            said = "".join(part.text for part in result.content if isinstance(part, TextContent))
            if not result.is_error:
                self._tally.charged += 1
            elif said == "no":
                self._tally.declined += 1
            elif not any(again in said for again in AGAIN):
                self._tally.failed += 1
            else:
                continue
            return
        self._tally.given_up += 1

    async def _call_and_leave(self, one: Client, order: str) -> None:
        """Kill the proxy while the call waits."""
        calling = asyncio.ensure_future(one.call_tool("charge", {"order": order}))
        while order not in self._operator.seen and not calling.done():
            await anyio.sleep(LOOK_S)
        if calling.done():  # it could not be asked about
            return
        for pid in descendants(os.getpid()):
            if _works_in(pid, self._folder) and b"mcp_proxy.HOLD_S" in _command(pid):
                kill(pid, signal.SIGKILL)
                self._tally.proxies_killed += 1
                break
        self._operator.kept.discard(order)
        await calling


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def run(folder: Path, *, clients: int, calls: int, runtime_kills: int, seed: int) -> Tally:
    """Have so many clients make so many calls each; what came of it, with what was wrong."""
    began_at = time.monotonic()
    tally = Tally()
    drawn = random.Random(seed)
    every = max(clients * calls // (runtime_kills + 1), 1)
    kills_at = [every * number for number in range(1, runtime_kills + 1)]
    effects = folder / "effects"
    with gated_runtime(folder, RULES) as runtime:
        with Operator(runtime, tally, kills_at, seed) as operator:
            asyncio.run(_clients(runtime, effects, operator, tally, drawn, clients, calls))
        judge(runtime.client, effects.read_text().split() if effects.exists() else [], tally)
    tally.seconds = round(time.monotonic() - began_at, 1)
    return tally


async def _clients(
    runtime: LiveRuntime,
    effects: Path,
    operator: Operator,
    tally: Tally,
    drawn: random.Random,
    clients: int,
    calls: int,
) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            agent = min(number, clients - 2)  # the last two are one
            folder = runtime.folder / f"agent-{agent}"
            folder.mkdir(exist_ok=True)
            key = folder / "asker.key"
            if not key.exists():
                made = runtime.client.keys.create(role="asker", name=f"agent-{agent}")
                key.write_text(made.secret)
            where = [f"--url={runtime.credentials.url}", f"--key-file={key}", "--name=shop"]
            server = ["--", sys.executable, "-m", "tests.programs.gate.effects_server"]
            parameters = StdioServerParameters(
                command=sys.executable,
                args=["-c", PROXY, "gate", "mcp", *where, *server],
                env={"PYTHONPATH": str(ROOT), "EFFECTS": str(effects)},
                cwd=folder,
            )
            orders = [f"a{agent}-{count}" for count in range(calls)]
            if number < clients - 2:
                ends = [*Fate, LEFT, *[""] * calls][:calls]
                drawn.shuffle(ends)
                orders = [order + end for order, end in zip(orders, ends, strict=True)]
                operator.kept.update(order for order in orders if order.endswith(LEFT))
            client = ShopClient(folder, parameters, operator, tally)
            group.create_task(client.run(orders))


def judge(client: RuntimeClient, effects: Sequence[str], tally: Tally) -> None:
    """Hold what was charged against what was approved."""
    charged = Counter(effects)
    approved: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for session in client.sessions.list(task=CALL_TASK):
        tally.questions += 1
        entries = list(client.sessions.open(session.id).transcript(limit=20))
        order = next(one.body["payload"] for one in entries if "payload" in one.body)["input"][
            "order"
        ]
        run_info = next(iter(client.runs.list(session_id=session.id)))
        result = run_info.result if isinstance(run_info.result, dict) else {}
        records = client.sessions.open(session.id).input("outcomes").list()
        said = {name: one.data[name] for one in records for name in one.data}
        if result.get("decision") != "approve":
            if session.status == "closed" and "outcome" in said:
                tally.wrong.append(f"{session.id}: a declined call has an outcome")
            continue
        order = (result.get("arguments") or {}).get("order", order)
        approved[order] += 1
        taken[order] += "taken" in said
        if said.get("outcome") == "succeeded":
            tally.succeeded += 1
            if not charged[order]:
                tally.wrong.append(f"{session.id}: succeeded, and {order} was not charged")
        elif "taken" in said and "outcome" not in said:
            tally.unknown += 1
            if session.status != "open":
                tally.wrong.append(f"{session.id}: taken without an outcome, and not listed")
    for order, count in charged.items():
        if not count <= taken[order] <= approved[order]:
            tally.wrong.append(
                f"{order}: charged {count} times, approved {approved[order]}, taken {taken[order]}"
            )
    tally.effects = len(effects)
    tally.approvals = approved.total()
    tally.approvals_taken = taken.total()


def main() -> int:
    """The program; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--runtime-kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helmr-kills-") as folder:
        tally = run(Path(folder), **vars(given))
    for name, value in asdict(tally).items():
        sys.stdout.write(f"{name:18} {value}\n")
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
