"""How far a call walks through the sources: the modules of ours that it enters, and how often it moves between them.

A runtime in this process with a profile function on each of its threads, which counts only between the first byte of a
raw HTTP request and the head of its response. A call into another module is a move, and so is the return from it; a
coroutine that is resumed counts as called.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from helmr import embedded
from tests.programs.gauges.shape import PACKAGES, ROOT

TASKS = "tests.programs.gauges.walk_tasks"
FOLDERS = tuple(f"{(ROOT / folder / name).as_posix()}/" for name, folder in PACKAGES.items())
ROUNDS = 6
"""Of so many the shortest walk counts: what is cached late walks further, and so does what falls into the same time."""
SETTLES_S = 1.0
"""What follows a response has ended by then: a session waits, a commit is in the tables."""


@dataclass
class Walk:
    """Where one call went.

    Attributes:
        entered: How often each module of ours was entered from another.
        calls: Calls between functions of ours, in the same module too.
    """

    entered: Counter[str] = field(default_factory=Counter)
    calls: int = 0

    @property
    def moves(self) -> int:
        """Moves from one module of ours to another."""
        return self.entered.total()


class Profiler:
    """Counts on all threads that begin after it was made, while `count` runs."""

    def __init__(self) -> None:
        self._walk: Walk | None = None
        self._last: dict[int, str] = {}
        threading.setprofile(self._seen)

    @contextmanager
    def count(self) -> Iterator[Walk]:
        """A walk that grows until the block ends."""
        self._last.clear()
        walk = self._walk = Walk()
        try:
            yield walk
        finally:
            self._walk = None

    def _seen(self, frame: FrameType, event: str, argument: Any) -> None:
        walk = self._walk
        if walk is None or event not in ("call", "return"):
            return
        now = frame if event == "call" else frame.f_back
        file = now.f_code.co_filename if now is not None else ""
        if not file.startswith(FOLDERS):
            return
        walk.calls += event == "call"
        thread = threading.get_ident()
        if self._last.get(thread) != file:
            self._last[thread] = file
            walk.entered[file.removeprefix(f"{ROOT.as_posix()}/")] += 1


class Caller:
    """Raw HTTP on one connection.

    Args:
        url: Where the runtime answers.
        key: An admin's.
        profiler: Counts each call.
    """

    def __init__(self, url: str, key: str, profiler: Profiler) -> None:
        self._connection = HTTPConnection(str(urlsplit(url).netloc), timeout=10)
        self._head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._profiler = profiler

    def call(self, method: str, path: str, body: Any = None) -> tuple[Walk, Any]:
        """Make it; what was walked until the response's head, and the response.

        Raises:
            AssertionError: It was refused.
        """
        data = None if body is None else json.dumps(body)
        with self._profiler.count() as walk:
            self._connection.request(method, path, data, self._head)
            response = self._connection.getresponse()
        text = response.read()
        assert response.status < 300, text
        return walk, json.loads(text)

    def round(self) -> dict[str, Walk]:
        """Start a session, read its wait and the inbox, and answer, each when what was before it has settled."""
        start, _ = self.call("POST", "/v1/sessions", {"task": "ask", "payload": "?"})
        time.sleep(SETTLES_S)
        inbox, page = self.call("GET", "/v1/waits")
        wait_id = page["items"][0]["id"]
        read, _ = self.call("GET", f"/v1/waits/{wait_id}")
        answer, _ = self.call("POST", f"/v1/waits/{wait_id}/answer", {"data": {"ok": True}})
        time.sleep(SETTLES_S)
        return {"start": start, "inbox": inbox, "read": read, "answer": answer}


def walks() -> dict[str, Walk]:
    """The walks of a start, of the inbox's page, of a wait that is read, and of a hot wait's answer."""
    profiler = Profiler()
    with embedded.start(TASKS, in_process=True) as runtime:
        caller = Caller(runtime.url, runtime.key, profiler)
        rounds = [caller.round() for _ in range(ROUNDS)]
    return {
        name: min((one[name] for one in rounds), key=lambda walk: walk.moves) for name in rounds[0]
    }


def main() -> None:
    """Print the walks; `--modules` also the modules of each."""
    for name, walk in walks().items():
        sys.stdout.write(
            f"{name}: {len(walk.entered)} modules, {walk.moves} moves, {walk.calls} calls\n"
        )
        if "--modules" in sys.argv:
            for module, count in walk.entered.most_common():
                sys.stdout.write(f"  {count:4} {module}\n")


if __name__ == "__main__":
    main()
