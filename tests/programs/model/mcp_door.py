"""Tools of MCP, for the commands that have one; everything else as the harness's client does it.

A task's tool tells no ids of a run that has ended at once, and takes no names for its session. A run that was taken
back after its end is no task of MCP any more (S-94).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from pydantic import TypeAdapter

from helmr.client.calls import Call
from helmr.errors import TaskNotFound, error_from_code
from helmr.models import SendReceipt, TokenAnswerReceipt, VoteReceipt
from helmr.testing import Harness
from tests.programs.model.compare import Reply
from tests.programs.model.harness_door import CALLING, HarnessDoor

VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "model", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {
        "extensions": {"io.modelcontextprotocol/tasks": {}}
    },
}
UNKNOWN_TOOL = -32602
TOOLS = ("helmr_answer", "helmr_send", "helmr_cancel")
"""The runtime's own that do something."""

OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
ANSWERED: TypeAdapter[SendReceipt | TokenAnswerReceipt | VoteReceipt] = TypeAdapter(
    SendReceipt | TokenAnswerReceipt | VoteReceipt
)
REFUSED = re.compile(r"([a-z_]+): ")
"""How a refusal begins; a run that failed begins with the name of its exception, or with its own."""

ENDS = ("run.succeeded", "run.failed", "run.cancelled")


class McpDoor(HarnessDoor):
    """Who speaks MCP with a harness's gateway."""

    def __init__(self, runner: asyncio.Runner, harness: Harness) -> None:
        super().__init__(runner, harness)
        self.started: dict[str | None, str] = {}
        """Sessions, by the operation that started them."""

    async def do_start(
        self,
        *,
        task: str,
        code: Any,
        tokens: list[str],
        external_id: str | None = None,
        key: str | None = None,
        **more: Any,
    ) -> Reply:
        """By the task's tool, where the session needs no name and a key starts it: people's roles may not."""
        if external_id is not None or key is not None or CALLING.get() is not None:
            return await super().do_start(
                task=task,
                code=code,
                tokens=tokens,
                external_id=external_id,
                key=key,
                **more,
            )
        before = len(self.sessions())
        payload = {"code": code, "tokens": [self.real(one) for one in tokens]}
        result = await self.tool(task, payload, **more)
        if "taskId" in result:
            session_id = (await self.client.runs.get(result["taskId"])).session_id
        else:
            new = self.sessions()[before:]
            session_id = new[0] if new else self.started[more.get("operation_id")]
        self.started[more.get("operation_id")] = session_id
        await self.fetch(session_id)
        name = self.name(session_id)
        return {"session": name, "run": f"{name}.r0", "created": True}

    def sessions(self) -> list[str]:
        """The sessions that clients started, oldest first."""
        return [
            entry.session_id
            for entry in self.harness.entries()
            if entry.kind == "session.created" and entry.body.get("parent") is None
        ]

    async def do_answer(
        self,
        *,
        wait: str,
        data: Any,
        by: str | None = None,
        override: bool = False,
        why: str | None = None,
        operation_id: str | None = None,
    ) -> Reply:
        """By `helmr_answer`, which overrides neither a claim nor who may answer."""
        if override or why is not None:
            return await super().do_answer(
                wait=wait, data=data, by=by, override=override, why=why, operation_id=operation_id
            )
        given = {"wait_id": self.real(wait), "data": data}
        result = await self.tool("helmr_answer", given, by=by, operation_id=operation_id)
        return self.answered(ANSWERED.validate_python(result["structuredContent"]))

    async def do_send(
        self,
        *,
        session: str,
        stream: str,
        data: Any,
        correlation: str | None = None,
        key: str | None = None,
        public: str | None = None,
        **more: Any,
    ) -> Reply:
        """By `helmr_send`, where it needs no public token."""
        if public is not None:
            return await super().do_send(
                session=session,
                stream=stream,
                data=data,
                correlation=correlation,
                key=key,
                public=public,
                **more,
            )
        given = {
            "session_id": self.real(session),
            "stream": stream,
            "data": data,
            "correlation_id": correlation,
            "idempotency_key": key,
        }
        result = await self.tool("helmr_send", given, **more)
        return self.sent(SendReceipt.model_validate(result["structuredContent"]))

    async def do_cancel_run(self, *, run: str, **more: Any) -> Reply:
        """By `helmr_cancel`, which takes no attempt and does nothing about a run that has ended before."""
        lines = self.lines_of(run.partition(".")[0])
        if "attempt" in more or any(kind in ENDS and of == run for kind, of, *_ in lines):
            return await super().do_cancel_run(run=run, **more)
        await self.tool("helmr_cancel", {"run_id": self.real(run)}, **more)
        found = await self.client.runs.get(self.real(run))
        return {"run": self.name(found.id), "status": found.status.value}

    async def tool(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        by: str | None = None,
        operation_id: str | None = None,
    ) -> dict[str, Any]:
        """What a tool answers.

        Raises:
            HelmrError: It refuses.
        """
        params = {"_meta": META, "name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        call = Call(
            method="POST",
            path="/mcp",
            reply=OBJECT,
            body=json.dumps(message).encode(),
            operation_id=operation_id,
            also_ok=(400,),
            headers=(
                ("MCP-Protocol-Version", VERSION),
                ("Mcp-Method", "tools/call"),
                ("Mcp-Name", name),
            ),
        )
        answer = await self.call(call, by)
        if "error" in answer:
            if answer["error"]["code"] == UNKNOWN_TOOL:
                raise TaskNotFound(name)
            raise AssertionError(answer)
        result: dict[str, Any] = answer["result"]
        refused = REFUSED.match(result["content"][0]["text"]) if result.get("isError") else None
        if refused is not None:
            raise error_from_code(refused[1], name)
        return result
