"""A chat model over HTTP, as OpenAI and Ollama speak: it asks for two tools at once, then tells what they gave."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CUSTOMERS = ("ada", "eve")
NO = json.dumps({"error": {"message": "no"}})
Said = tuple[str, str]
AT_ONCE: Said = ("retry-after-ms", "1")
"""What OpenAI's client sleeps before it asks again."""


@dataclass
class ChatServer:
    """Where it is, and how many requests of each path it had; ` streamed` behind one that wanted its answer so.

    With another `status` than 200 it answers every request with an error, and as many as `refusals` with a 429 and
    `retry_after`.
    """

    url: str = ""
    status: int = 200
    refusals: int = 0
    retry_after: str = "1"
    asked: Counter[str] = field(default_factory=Counter)


def returned(messages: list[dict[str, Any]]) -> list[str]:
    """What tools have given since a person spoke last."""
    found: list[str] = []
    for message in messages:
        if message["role"] == "user":
            found.clear()
        if message["role"] == "tool":
            found.append(message["content"])
    return found


def words(messages: list[dict[str, Any]]) -> list[str]:
    """What it says, in pieces; none while tools are to be called."""
    found = sorted(returned(messages))
    return [f"{part}; " for part in found[:-1]] + found[-1:]


def of_openai(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The deltas of a streamed completion: the arguments of both calls come in pieces, in turn."""
    said = words(messages)
    for word in said:
        yield {"content": word}
    if said:
        return
    for index, customer in enumerate(CUSTOMERS):
        function = {"name": "find", "arguments": '{"customer":'}
        call = {"index": index, "id": f"call-{customer}", "function": function}
        yield {"tool_calls": [{**call, "type": "function"}]}
    for index, customer in enumerate(CUSTOMERS):
        yield {"tool_calls": [{"index": index, "function": {"arguments": f'"{customer}"}}'}}]}


def openai_events(messages: list[dict[str, Any]]) -> str:
    """The body of a streamed completion."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "small"}
    reason = "stop" if words(messages) else "tool_calls"
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in of_openai(messages)
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    events: list[dict[str, Any]] = [{**base, "choices": [choice]} for choice in choices]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    events.append({**base, "choices": [], "usage": usage})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def ollama_lines(messages: list[dict[str, Any]]) -> str:
    """The body of Ollama's answer, a JSON document a line."""
    base = {"model": "small", "created_at": "2026-01-01T00:00:00Z"}
    said: list[dict[str, Any]] = [{"content": word} for word in words(messages)]
    if not said:
        calls = [
            {"function": {"name": "find", "arguments": {"customer": customer}}}
            for customer in CUSTOMERS
        ]
        said = [{"content": "", "tool_calls": calls}]
    lines: list[dict[str, Any]] = [
        {**base, "message": {"role": "assistant", **one}, "done": False} for one in said
    ]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return "".join(f"{json.dumps(line)}\n" for line in [*lines, {**base, **end}])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """One that runs."""
    here = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections, as those servers do

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            here.asked[self.path + (" streamed" if asked.get("stream") else "")] += 1
            if here.refusals:
                here.refusals -= 1
                self._say(NO, "application/json", 429, ("retry-after", here.retry_after))
            elif here.status != 200:
                self._say(NO, "application/json", here.status)
            elif self.path == "/api/chat":
                self._say(ollama_lines(asked["messages"]), "application/x-ndjson")
            else:
                self._say(openai_events(asked["messages"]), "text/event-stream")

        def _say(
            self, text: str, content_type: str, status: int = 200, retry_after: Said = AT_ONCE
        ) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header(*retry_after)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, *args: object) -> None: ...

    server = _Server(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
