"""LangGraph with its SQLite checkpoints, in the load generator's own process: there is no server to send to.

A message resumes the graph from its interrupt; the reply is what that call returns. Its CPU is the load generator's.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypedDict
from uuid import uuid4

from tests.programs.benchmarks.systems.base import Missing, System


class State(TypedDict, total=False):
    turns: int
    turn: int
    replies: list[str]
    duration_s: float


class LangGraphOnSqlite(System):
    name: ClassVar[str] = "langgraph-sqlite"
    reasons: ClassVar[Mapping[str, str]] = {
        "g": "lives in the load generator's process",
        "h": "has no server to restart, and no list of what waits",
        "j": "has no command that sends",
    }

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._chat: Any = None
        self._busy: Any = None
        self._steps: Any = None
        self._replies: dict[str, list[asyncio.Future[str]]] = {}
        self._ended: dict[str, asyncio.Future[None]] = {}
        self._shown: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def check(cls) -> None:
        for module in ("langgraph", "langgraph.checkpoint.sqlite"):
            if find_spec(module) is None:
                raise Missing(f"{module} is missing: pip install 'helmr[bench]'")

    def roots(self) -> list[int]:
        return []

    def settings(self) -> dict[str, str]:
        return {
            "version": version("langgraph"),
            "in front": "nothing: in the load generator's process, whose CPU is its own",
            "on disk": f"SQLite {sqlite3.sqlite_version}: {self._shown}, durability sync",
        }

    async def start(self, folder: Path) -> None:
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        connection = await self._stack.enter_async_context(
            aiosqlite.connect(folder / "graph.sqlite")
        )
        saver = AsyncSqliteSaver(connection)
        await saver.setup()
        await connection.execute("PRAGMA synchronous=FULL")
        for name in ("journal_mode", "synchronous"):
            async with connection.execute(f"PRAGMA {name}") as cursor:
                row = await cursor.fetchone()
                assert row is not None
                self._shown[name] = str(row[0])
        self._chat, self._busy, self._steps = _graphs(saver)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def begin_chat(self, turns: int) -> str:
        session = str(uuid4())
        loop = asyncio.get_running_loop()
        self._replies[session] = [loop.create_future() for _ in range(turns)]
        self._ended[session] = loop.create_future()
        given = {"turns": turns, "turn": 0, "replies": []}
        await self._chat.ainvoke(given, _config(session), durability="sync")
        return session

    async def begin_busy(self, duration_s: float) -> str:
        return self._run(self._busy, {"duration_s": duration_s})

    async def begin_steps(self) -> str:
        return self._run(self._steps, {"turn": 0})

    def _run(self, graph: Any, given: State) -> str:
        session = str(uuid4())
        self._ended[session] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            await graph.ainvoke(given, _config(session), durability="sync")
            self._ended[session].set_result(None)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return session

    async def waits(self, session: str) -> None:
        """It does: the call that started it has returned."""

    async def send(self, session: str, turn: int, message: str) -> None:
        from langgraph.types import Command

        found = await self._chat.ainvoke(
            Command(resume=message), _config(session), durability="sync"
        )
        replies = self._replies[session]
        replies[turn].set_result(found["replies"][turn])
        if turn + 1 == len(replies):
            self._ended[session].set_result(None)

    async def reply(self, session: str, turn: int) -> str:
        return await self._replies[session][turn]

    async def ended(self, session: str) -> None:
        await self._ended[session]


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session}, "recursion_limit": 100_000}


def _graphs(saver: Any) -> tuple[Any, Any, Any]:
    """The chat, the busy one and the one of three steps."""
    os.environ.setdefault("LANGSMITH_TRACING", "false")
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import interrupt

    def listen(state: State) -> State:
        message = str(interrupt("message"))
        return {"turn": state["turn"] + 1, "replies": [*state["replies"], message]}

    async def work(state: State) -> State:
        await asyncio.sleep(state["duration_s"])
        return {}

    chat: Any = StateGraph(State)
    chat.add_node("listen", listen)
    chat.add_edge(START, "listen")
    chat.add_conditional_edges(
        "listen", lambda state: END if state["turn"] >= state["turns"] else "listen"
    )
    busy: Any = StateGraph(State)
    busy.add_node("work", work)
    busy.add_edge(START, "work")
    busy.add_edge("work", END)

    async def add_one(state: State) -> State:
        return {"turn": state["turn"] + 1}

    steps: Any = StateGraph(State)
    names = (START, "one", "two", "three", END)
    for name in names[1:-1]:
        steps.add_node(name, add_one)
    for before, after in pairwise(names):
        steps.add_edge(before, after)
    return tuple(graph.compile(checkpointer=saver) for graph in (chat, busy, steps))
