"""A stand-in of a model by which Claude Code and Codex run without one: it says what a script says.

It serves the Messages API to the first and the Responses API to the second. A script is a list of turns, each a list of
content blocks: a text, or a tool's call `(id, name, input)`. Requests that offer no tools are the client's own (titles,
counts) and take no turn.

Source: docs.claude.com, "Streaming messages"; platform.openai.com, "Streaming API responses"; the clients themselves.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Block = str | tuple[str, str, dict[str, Any]]


@dataclass
class ModelApi:
    """The stand-in while it serves.

    Attributes:
        turns: What is still to be said.
        asked: The bodies of the requests that took a turn, in order.
        url: Where it listens.
    """

    turns: list[Sequence[Block]]
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def tool_results(self) -> dict[str, tuple[str, bool]]:
        """What the client has said of each call: the text, and whether it was an error, which Codex does not say."""
        found: dict[str, tuple[str, bool]] = {}
        for body in self.asked:
            for one in body.get("input", ()):
                if one.get("type") == "function_call_output":
                    found[one["call_id"]] = (_text(one["output"]), False)
            for message in body.get("messages", ()):
                if not isinstance(message["content"], list):
                    continue
                for part in message["content"]:
                    if part.get("type") == "tool_result":
                        is_error = bool(part.get("is_error"))
                        found[part["tool_use_id"]] = (_text(part.get("content")), is_error)
        return found


@contextmanager
def model_api(*turns: Sequence[Block]) -> Iterator[ModelApi]:
    """Serve these turns; after the last one every answer is the text `done`."""
    api = ModelApi(list(turns))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if "count_tokens" in self.path:
                return self._json({"input_tokens": 10})
            blocks: Sequence[Block] = ("done",)
            if body.get("tools"):
                with lock:
                    api.asked.append(body)
                    blocks = api.turns.pop(0) if api.turns else blocks
            if self.path.endswith("/responses"):
                return self._events(_response_events(blocks))
            if not body.get("stream"):
                return self._json(_message(body["model"], _content(blocks), _stop(blocks)))
            return self._events(_message_events(body["model"], blocks))

        def do_GET(self) -> None:
            self._json({})

        def do_HEAD(self) -> None:
            self._json({})

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def _json(self, value: Any) -> None:
            raw = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _events(self, events: Iterator[dict[str, Any]]) -> None:
            raw = "".join(
                f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _content(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": block}
        if isinstance(block, str)
        else {"type": "tool_use", "id": block[0], "name": block[1], "input": block[2]}
        for block in blocks
    ]


def _stop(blocks: Sequence[Block]) -> str:
    return "end_turn" if all(isinstance(block, str) for block in blocks) else "tool_use"


def _message(model: str, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    return {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }


def _message_events(model: str, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": _message(model, [], None)}
    for index, block in enumerate(_content(blocks)):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": start}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": _stop(blocks), "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 10}}
    yield {"type": "message_stop"}


def _response_events(blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    response = {"id": "resp_standin"}
    yield {"type": "response.created", "response": response}
    for block in blocks:
        item: dict[str, Any]
        if isinstance(block, str):
            said = [{"type": "output_text", "text": block}]
            item = {"type": "message", "role": "assistant", "id": "msg_standin", "content": said}
        else:
            call_id, name, given = block
            arguments = json.dumps(given)
            item = {
                "type": "function_call",
                "call_id": call_id,
                "name": name,
                "arguments": arguments,
            }
        yield {"type": "response.output_item.done", "item": item}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
    details = {"input_tokens_details": None, "output_tokens_details": None}
    yield {"type": "response.completed", "response": {**response, "usage": {**usage, **details}}}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())
