"""How many commits a gated call costs: records that the ledger appends to its log, each of them synced or sent.

On a runtime in one process, an agent asks the gate about a call that no rule and no grant decides
(`POST /v1/gate/calls`, with `hold_s=0`), a person answers the wait, and the agent asks again and takes the decision.
For each of these calls: the commits until its response, which its caller waits for, and those until a second after it.
The first question of an agent also makes the session of its calls; the second call's figures are those of an agent
that is known. Commits are calls of `CommitLog.append`; several commands may share one, so a busy machine may count one
less.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from helmr import embedded
from helmr_runtime.ledger.log.commit_log import CommitLog
from helmr_runtime.ledger.tables.appends import Appends

TASKS = "helmr.gate.tasks"
SETTLES_S = 1.0
"""What follows a response has been committed by then."""
CALL = {"client": "gauge", "agent": "one", "tool": "Deploy", "hold_s": 0}


@dataclass
class Commits:
    """The entries' kinds of each commit of a call: until its response, and behind it."""

    before: list[list[str]] = field(default_factory=list)
    after: list[list[str]] = field(default_factory=list)


class Counting:
    """Counts what any ledger of this process commits, while `commits` runs."""

    def __init__(self) -> None:
        self._found: list[list[str]] | None = None

    @contextmanager
    def installed(self) -> Iterator[Counting]:
        """Listen to the log for the time of the block."""
        append = CommitLog.append

        def counted(log: CommitLog, appends: Appends, *args: Any, **more: Any) -> Any:
            if self._found is not None:
                self._found.append([one.kind.value for one in appends.entries])
            return append(log, appends, *args, **more)

        CommitLog.append = counted  # type: ignore[method-assign, assignment]
        try:
            yield self
        finally:
            CommitLog.append = append  # type: ignore[method-assign]

    def begin(self) -> list[list[str]]:
        """The list that commits are added to from now on."""
        self._found = []
        return self._found


class GatedCaller:
    """An agent and a person on one connection."""

    def __init__(self, url: str, key: str, counting: Counting) -> None:
        self._connection = HTTPConnection(str(urlsplit(url).netloc), timeout=30)
        self._head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._counting = counting

    def _say(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, self._head)
        response = self._connection.getresponse()
        text = response.read()
        assert response.status < 300, text
        return json.loads(text)

    def counted(self, method: str, path: str, body: Any) -> tuple[Commits, Any]:
        """Make a call; its commits, and its reply."""
        found = self._counting.begin()
        reply = self._say(method, path, body)
        before = len(found)
        time.sleep(SETTLES_S)
        return Commits(found[:before], found[before:]), reply

    def round(self, number: int) -> dict[str, Commits]:
        """Ask about a call, answer, take the decision."""
        call = {**CALL, "input": {"number": number}}
        asked, pending = self.counted("POST", "/v1/gate/calls", call)
        assert pending["verdict"] == "pending"
        wait = self._say("GET", "/v1/waits?status=pending")["items"][0]
        answer = {"data": {"decision": "approve"}}
        answered, _ = self.counted("POST", f"/v1/waits/{wait['id']}/answer", answer)
        taken, receipt = self.counted("POST", "/v1/gate/calls", call)
        assert receipt["verdict"] == "allow"
        return {"ask": asked, "answer": answered, "take the decision": taken}


def rounds() -> list[dict[str, Commits]]:
    """The first call of an agent, and its second."""
    with (
        Counting().installed() as counting,
        embedded.start(TASKS, in_process=True) as runtime,
    ):
        time.sleep(SETTLES_S)
        caller = GatedCaller(runtime.url, runtime.key, counting)
        return [caller.round(number) for number in range(2)]


def main() -> None:
    """Print the counts; `--entries` also the kinds of each commit."""
    for title, found in zip(("an agent's first call", "its second"), rounds(), strict=True):
        whole = sum(len(one.before) + len(one.after) for one in found.values())
        sys.stdout.write(f"{title}: {whole} commits\n")
        for name, one in found.items():
            sys.stdout.write(
                f"  {name}: {len(one.before)} until its response, {len(one.after)} behind it\n"
            )
            if "--entries" in sys.argv:
                for kinds in [*one.before, *one.after]:
                    sys.stdout.write(f"    {' '.join(kinds) or 'no entry'}\n")


if __name__ == "__main__":
    main()
