"""How far a call walks through the sources: the modules of ours that it enters, and how often it moves between them.

What is counted is what the response waits for, and nothing that only happens at the same time. A *turn* is one callback
of an event loop, or one job of the ledger's writer thread, and what that thread does until the next; whatever had it
called is its cause. From the turn that writes the response's head the causes are followed back to the one that has read
the request, over all loops and threads: the request is parsed, the session decides, its code goes on and asks for what
joins the commit, the ledger stores it, and the receipt comes back. Each of those turns counts in full, with all that it
does beside, since the next one waits for its end; the last one up to the head. Turns that follow from the same request
but that the response does not wait for, as those that tell feeds and watches of it, are not counted.

A call into another module is a move, and so is the return from it, and the first module of a turn; a coroutine that is
resumed counts as called.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from asyncio import events, selector_events
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from helmr import embedded
from helmr_runtime.ledger.log.group import WriterThread
from helmr_runtime.session import committer
from tests.programs.gauges.shape import PACKAGES, ROOT

TASKS = "tests.programs.gauges.walk_tasks"
FOLDERS = tuple(f"{(ROOT / folder / name).as_posix()}/" for name, folder in PACKAGES.items())
ROUNDS = 3
"""The last walk counts: the first rounds fill caches, and each after them is the same."""
SETTLES_S = 1.0
"""What follows a response has ended by then: a session waits, a commit is in the tables."""
HEAD = b"HTTP/1.1 "

CODE_WITHIN_S = 0.5
"""The commit of an answer waits so long for what the session's code asks for next, and not 2 ms: on a busy machine, and
with a profile function, it would be a matter of chance whether that joins it."""


@dataclass
class Walk:
    """Where one call went.

    Attributes:
        ways: Of each turn, the modules of ours that it entered, in order.
        calls: Calls between functions of ours, in the same module too.
    """

    ways: list[list[str]] = field(default_factory=list)
    calls: int = 0

    @property
    def entered(self) -> Counter[str]:
        """How often each module of ours was entered from another."""
        return Counter(module for way in self.ways for module in way)

    @property
    def moves(self) -> int:
        """Moves from one module of ours to another."""
        return self.entered.total()


@dataclass(eq=False)
class Turn:
    """What one thread does until its next turn."""

    cause: Turn | None
    entered: list[str] = field(default_factory=list)
    calls: int = 0


class Profiler:
    """Counts on all threads that begin after it was made, while `count` runs."""

    def __init__(self) -> None:
        self._is_counting = False
        self._here = threading.local()
        self._causes: dict[int, Turn] = {}
        """Of callbacks that wait for their turn, by the ids of their handles."""
        self._last: Turn | None = None
        """The turn that has written a response's head, as far as to there."""
        self._follow_callbacks()
        self._follow_writer()
        self._watch_heads()
        threading.setprofile(self._seen)

    @contextmanager
    def count(self) -> Iterator[Walk]:
        """A walk that is known when the block ends."""
        self._causes.clear()
        self._last = None
        walk = Walk()
        self._is_counting = True
        try:
            yield walk
        finally:
            self._is_counting = False
        turn = self._last
        while turn is not None:
            walk.ways.insert(0, turn.entered)
            walk.calls += turn.calls
            turn = turn.cause

    def _turn(self) -> Turn | None:
        turn: Turn | None = getattr(self._here, "turn", None)
        return turn

    def _begin(self, cause: Turn | None) -> None:
        self._here.turn = Turn(cause)

    def _follow_callbacks(self) -> None:
        handles: Any = events.Handle
        made, run = handles.__init__, handles._run

        def make(handle: events.Handle, *arguments: Any) -> None:
            made(handle, *arguments)
            if self._is_counting and (turn := self._turn()) is not None:
                self._causes[id(handle)] = turn

        def begin(handle: events.Handle) -> None:
            if self._is_counting:
                self._begin(self._causes.pop(id(handle), None))
            run(handle)

        handles.__init__, handles._run = make, begin

    def _follow_writer(self) -> None:
        writer: Any = WriterThread
        run = writer.run

        def follow(thread: WriterThread, call: Callable[..., Any], *args: Any) -> Any:
            cause = self._turn()

            def begun(*args: Any) -> Any:
                self._begin(cause)
                return call(*args)

            return run(thread, begun, *args)

        writer.run = follow

    def _watch_heads(self) -> None:
        transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
        write = transport.write

        def look(to: asyncio.Transport, data: bytes) -> None:
            turn = self._turn()
            if self._is_counting and turn is not None and bytes(data[: len(HEAD)]) == HEAD:
                self._last = Turn(turn.cause, [*turn.entered], turn.calls)
            write(to, data)

        transport.write = look

    def _seen(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self._is_counting or event not in ("call", "return"):
            return
        turn = self._turn()
        now = frame if event == "call" else frame.f_back
        file = now.f_code.co_filename if now is not None else ""
        if turn is None or not file.startswith(FOLDERS):
            return
        turn.calls += event == "call"
        module = file.removeprefix(f"{ROOT.as_posix()}/")
        if not turn.entered or turn.entered[-1] != module:
            turn.entered.append(module)


class WholeRequests(HTTPConnection):
    """Sends a request's head and body at once: else it would be a matter of chance whether one turn reads both."""

    def __init__(self, host: str) -> None:
        super().__init__(host, timeout=10)
        self._parts: list[bytes] = []

    def send(self, data: Any) -> None:
        """Keep a part."""
        self._parts.append(data.encode() if isinstance(data, str) else bytes(data))

    def send_whole(self) -> None:
        """Send what was kept."""
        whole = b"".join(self._parts)
        self._parts.clear()
        super().send(whole)


class Caller:
    """Raw HTTP on one connection.

    Args:
        url: Where the runtime answers.
        key: An admin's.
        profiler: Counts each call.
    """

    def __init__(self, url: str, key: str, profiler: Profiler) -> None:
        self._connection = WholeRequests(str(urlsplit(url).netloc))
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
            self._connection.send_whole()
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
    committer.FLUSH_AFTER_S = committer.BEGINS_AFTER_S = CODE_WITHIN_S
    with embedded.start(TASKS, in_process=True) as runtime:
        caller = Caller(runtime.url, runtime.key, profiler)
        return [caller.round() for _ in range(ROUNDS)][-1]


def main() -> None:
    """Print the walks; `--modules` also the modules of each, `--turns` the way through them."""
    for name, walk in walks().items():
        sys.stdout.write(
            f"{name}: {len(walk.entered)} modules, {walk.moves} moves, {walk.calls} calls, {len(walk.ways)} turns\n"
        )
        if "--modules" in sys.argv:
            for module, count in walk.entered.most_common():
                sys.stdout.write(f"  {count:4} {module}\n")
        if "--turns" in sys.argv:
            for way in walk.ways:
                sys.stdout.write(f"  {len(way):4} {' '.join(way)}\n")


if __name__ == "__main__":
    main()
