"""A small gateway over HTTP for client and CLI tests: FastAPI on uvicorn, the shapes of the real one, faults on order.

It keeps one task's sessions in memory and remembers operation ids. `Faults` says what goes wrong with which request.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from helmr.wire import ids

KEY = "test-key"
START_BOUND_S = 10.0
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC).isoformat()
LOCAL = {"type": "api_key", "name": "local"}

Asgi = Callable[..., Awaitable[None]]


@dataclass
class Fault:
    """What goes wrong with the next matching request.

    kind: `drop` (the connection is reset before the request is handled), `drop_after` (after), `cut` (half of the
    answer), `cut_feed` (an event without its last newline), `answer` (this status, headers and body instead),
    `slow` (a pause before it is handled).
    """

    kind: str
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pause_s: float = 0.0


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Gateway:
    """The test gateway's memory. Use it from the test's thread between requests."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.faults: dict[tuple[str, str], list[Fault]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.records: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.entries: list[dict[str, Any]] = []
        self.receipts: dict[str, Any] = {}
        self.waits: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.events_per_connection = 1_000_000
        self.silent = False
        self.comment_every_s: float | None = None
        self.health: dict[str, Any] = {"ready": True, "version": "0.1.0", "pid": 1}

    # --- what tests do ----------------------------------------------------------------------------

    def fault(self, method: str, path: str, *faults: Fault) -> None:
        """Let the next requests of that method and path go wrong, one fault each."""
        self.faults.setdefault((method, path), []).extend(faults)

    def requests(self, method: str, path: str) -> list[Seen]:
        """The requests of that method and path so far."""
        return [one for one in self.seen if (one.method, one.path) == (method, path)]

    def session(self, **parts: Any) -> str:
        """A session that is there; returns its id."""
        session_id = ids.new_id(ids.SESSION)
        self.sessions[session_id] = {
            "id": session_id,
            "external_id": None,
            "task": "review",
            "status": "open",
            "activity": "idle",
            "wait": None,
            "tags": [],
            "metadata": {},
            "created_at": NOW,
            "updated_at": NOW,
            "last_seq": 1,
        } | parts
        return session_id

    def run(self, session_id: str, **parts: Any) -> str:
        """A run that is there; returns its id."""
        run_id = ids.new_id(ids.RUN)
        self.runs[run_id] = {
            "id": run_id,
            "session_id": session_id,
            "task": "review",
            "status": "running",
            "attempt": 1,
            "started_by": {"type": "start"},
            "payload": None,
            "result": None,
            "created_at": NOW,
        } | parts
        return run_id

    def wait(self, session_id: str, **parts: Any) -> dict[str, Any]:
        """A pending wait that is there."""
        wait_id = ids.new_id(ids.WAIT)
        self.waits[wait_id] = {
            "id": wait_id,
            "session_id": session_id,
            "run_id": ids.new_id(ids.RUN),
            "task": "review",
            "kind": "input",
            "stream": "approval",
            "correlation_id": None,
            "subject": None,
            "body": None,
            "schema": None,
            "status": "pending",
            "opened_at": NOW,
            "deadline_at": None,
        } | parts
        return self.waits[wait_id]

    def entry(self, session_id: str, kind: str, **parts: Any) -> dict[str, Any]:
        """Add an entry to the feed, and to its session what it says."""
        seq = 1 + sum(one["session_id"] == session_id for one in self.entries)
        if session_id in self.sessions:
            self.sessions[session_id]["last_seq"] = seq
            if kind in ("session.closed", "session.cancelled"):
                self.sessions[session_id]["status"] = kind.partition(".")[2]
        self.entries.append(
            {
                "session_id": session_id,
                "seq": seq,
                "feed_offset": len(self.entries) + 1,
                "recorded_at": NOW,
                "kind": kind,
                "run_id": None,
                "op": None,
                "principal": LOCAL,
                "body": {},
            }
            | parts
        )
        return self.entries[-1]

    def record(self, session_id: str, stream: str, data: Any, **parts: Any) -> dict[str, Any]:
        """Append a record to a stream."""
        records = self.records.setdefault((session_id, stream), [])
        records.append(
            {
                "id": ids.new_id(ids.RECORD),
                "stream": stream,
                "seq": len(records) + 1,
                "data": data,
                "principal": LOCAL,
                "created_at": NOW,
            }
            | parts
        )
        return records[-1]


@contextmanager
def running(gateway: Gateway, *, port: int = 0) -> Iterator[Gateway]:
    """Serve the gateway on a free port of this machine while the block runs."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    gateway.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        _faulty(gateway, _app(gateway)),
        log_config=None,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    bound = time.monotonic() + START_BOUND_S
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < bound, "the test gateway does not start"
        time.sleep(0.005)
    try:
        yield gateway
    finally:
        server.should_exit = True
        thread.join(START_BOUND_S)
        listener.close()
        assert not thread.is_alive()


def _faulty(gateway: Gateway, app: Asgi) -> Asgi:
    async def faulty(scope: dict[str, Any], receive: Any, send: Any) -> None:
        transport = receive.__self__.transport  # uvicorn's request cycle
        chunks = []
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        headers["x-port"] = str(scope["client"][1])
        gateway.seen.append(
            Seen(scope["method"], scope["path"], scope["query_string"].decode(), headers, body)
        )
        planned = gateway.faults.get((scope["method"], scope["path"]), [])
        fault = planned.pop(0) if planned else Fault("none")
        given = False

        async def again() -> dict[str, Any]:
            nonlocal given
            if given:
                return dict(await receive())
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        if fault.kind == "drop":
            transport.abort()
            return
        if fault.kind == "answer":
            await Response(fault.body, fault.status, fault.headers)(scope, receive, send)
            return
        if fault.kind == "slow":
            await asyncio.sleep(fault.pause_s)

        async def cut(message: dict[str, Any]) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            half = message["body"][: len(message["body"]) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            transport.close()

        async def nowhere(message: dict[str, Any]) -> None:
            transport.abort()

        async def cut_feed(message: dict[str, Any]) -> None:
            if b"data:" not in message.get("body", b""):
                await send(message)
                return
            await send(message | {"body": message["body"][:-1]})  # all but the empty line
            transport.close()

        sends = {"cut": cut, "cut_feed": cut_feed, "drop_after": nowhere}
        await app(scope, again, sends.get(fault.kind, send))

    return faulty


def _app(gateway: Gateway) -> FastAPI:
    app = FastAPI()

    def page(request: Request, items: list[Any]) -> dict[str, Any]:
        limit = int(request.query_params.get("limit", 50))
        start = int(request.query_params.get("cursor", 0))
        end = start + limit
        more = str(end) if end < len(items) else None
        return {"items": items[start:end], "next_cursor": more}

    def after(request: Request) -> int:
        return int(request.query_params.get("after", 0))

    def refused(request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return problem(401, "unauthenticated", "no valid key came with the request")
        return None

    @app.post("/v1/sessions")
    async def start(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        operation = request.headers["operation-id"]
        if operation not in gateway.receipts:
            body = json.loads(await request.body())
            if body["task"] != "review":
                return problem(404, "task_not_found", f"no task {body['task']}; there is review")
            session_id = gateway.session(task=body["task"], external_id=body.get("external_id"))
            run_id = gateway.run(session_id, payload=body["payload"])
            gateway.receipts[operation] = (session_id, run_id)
        session_id, run_id = gateway.receipts[operation]
        return JSONResponse(
            {
                "session": gateway.sessions[session_id],
                "run": gateway.runs[run_id],
                "created": True,
            },
            201,
        )

    @app.get("/v1/sessions")
    async def sessions(request: Request) -> Response:
        if (no := refused(request)) is not None:
            return no
        wanted = {
            name: value
            for name, value in request.query_params.items()
            if name in ("external_id", "status", "task", "activity")
        }
        found = [
            one
            for one in gateway.sessions.values()
            if all(one[name] == value for name, value in wanted.items())
        ]
        return JSONResponse(page(request, found))

    @app.get("/v1/sessions/{session_id}")
    async def session(request: Request, session_id: str) -> Response:
        if (no := refused(request)) is not None:
            return no
        if session_id not in gateway.sessions:
            return problem(404, "session_not_found", f"no session {session_id}", hint="List them.")
        return JSONResponse(gateway.sessions[session_id])

    @app.get("/v1/sessions/{session_id}/export")
    async def export(session_id: str) -> Response:
        return Response(gateway.files[session_id], media_type="application/jsonl")

    @app.get("/v1/file-keys")
    async def file_keys() -> Response:
        items = [{"id": "k2", "key": "ed25519:new"}, {"id": "k1", "key": "ed25519:old"}]
        return JSONResponse({"items": items, "next_cursor": None})

    @app.get("/v1/sessions/{session_id}/transcript")
    async def transcript(request: Request, session_id: str) -> Response:
        found = [
            one
            for one in gateway.entries
            if one["session_id"] == session_id and one["seq"] > after(request)
        ]
        return JSONResponse(page(request, found))

    @app.post("/v1/sessions/{session_id}/close")
    @app.post("/v1/sessions/{session_id}/cancel")
    async def end(request: Request, session_id: str) -> Response:
        status = "closed" if request.url.path.endswith("close") else "cancelled"
        gateway.sessions[session_id]["status"] = status
        return JSONResponse(gateway.sessions[session_id])

    @app.post("/v1/sessions/{session_id}/notes")
    async def note(request: Request, session_id: str) -> Response:
        seq = gateway.entry(session_id, "note.added")["seq"]
        return JSONResponse({"note_id": ids.new_id("note"), "session_id": session_id, "seq": seq})

    @app.post("/v1/sessions/{session_id}/runs")
    async def next_run(request: Request, session_id: str) -> Response:
        body = json.loads(await request.body())
        return JSONResponse(gateway.runs[gateway.run(session_id, **body)], 201)

    @app.get("/v1/sessions/{session_id}/runs")
    async def session_runs(request: Request, session_id: str) -> Response:
        found = [one for one in gateway.runs.values() if one["session_id"] == session_id]
        return JSONResponse(page(request, found))

    @app.post("/v1/sessions/{session_id}/inputs/{stream}")
    async def send(request: Request, session_id: str, stream: str) -> Response:
        operation = request.headers["operation-id"]
        body = json.loads(await request.body())
        if gateway.sessions[session_id]["status"] != "open":
            return problem(
                409, "session_terminal", f"{session_id} is closed", hint="Start another."
            )
        if body["data"] == "bad":
            errors = [{"path": "decision", "message": "Input should be 'approve' or 'reject'"}]
            return problem(422, "schema_mismatch", "the data does not fit approval", errors=errors)
        name = body.get("idempotency_key") or operation
        is_new = name not in gateway.receipts
        if is_new:
            gateway.receipts[name] = gateway.record(session_id, stream, body["data"])
        record = gateway.receipts[name]
        return JSONResponse(
            {
                "record_id": record["id"],
                "stream": stream,
                "seq": record["seq"],
                "outcome": "buffered",
                "duplicate": not is_new and operation != name,
            }
        )

    @app.get("/v1/sessions/{session_id}/inputs/{stream}")
    async def inputs(request: Request, session_id: str, stream: str) -> Response:
        found = gateway.records.get((session_id, stream), [])
        return JSONResponse(page(request, [one for one in found if one["seq"] > after(request)]))

    @app.get("/v1/sessions/{session_id}/outputs/{stream}")
    async def outputs(request: Request, session_id: str, stream: str) -> Response:
        records = gateway.records.setdefault((session_id, stream), [])
        if "text/event-stream" not in request.headers.get("accept", ""):
            return JSONResponse(
                page(request, [one for one in records if one["seq"] > after(request)])
            )
        last = int(request.headers.get("last-event-id", 0))
        return feed(
            "record", lambda number: [(r["seq"], r) for r in records if r["seq"] > number], last
        )

    def entries_after(session_id: str | None) -> Callable[[int], list[tuple[int, Any]]]:
        return lambda number: [
            (one["feed_offset"], one)
            for one in gateway.entries
            if one["feed_offset"] > number and session_id in (None, one["session_id"])
        ]

    @app.get("/v1/sessions/{session_id}/events")
    async def session_events(request: Request, session_id: str) -> Response:
        last = request.headers.get("last-event-id")
        return feed("entry", entries_after(session_id), int(last) if last else len(gateway.entries))

    @app.get("/v1/events")
    async def events(request: Request) -> Response:
        last = request.headers.get("last-event-id")
        return feed("entry", entries_after(None), int(last) if last else len(gateway.entries))

    def feed(event: str, newer: Callable[[int], list[tuple[int, Any]]], last: int) -> Response:
        async def sending() -> AsyncIterator[str]:
            number, left, quiet_s = last, gateway.events_per_connection, 0.0
            yield f"id: {number}\n\n"
            while left > 0:
                for number, item in newer(number)[:left]:  # noqa: B020  # goes on after the last one
                    left -= 1
                    yield f"event: {event}\nid: {number}\ndata: {json.dumps(item)}\n\n"
                await asyncio.sleep(0.01)
                quiet_s += 0.01
                if gateway.comment_every_s is not None and quiet_s >= gateway.comment_every_s:
                    quiet_s = 0.0
                    yield ": keep-alive\n\n"

        return StreamingResponse(sending(), media_type="text/event-stream")

    @app.get("/v1/runs")
    async def runs(request: Request) -> Response:
        return JSONResponse(page(request, list(gateway.runs.values())))

    @app.get("/v1/runs/{run_id}")
    async def run(request: Request, run_id: str) -> Response:
        if run_id not in gateway.runs:
            return problem(404, "run_not_found", f"no run {run_id}")
        return JSONResponse(gateway.runs[run_id])

    @app.post("/v1/runs/{run_id}/cancel")
    @app.post("/v1/runs/{run_id}/retry")
    async def steer(request: Request, run_id: str) -> Response:
        if request.url.path.endswith("retry"):
            return problem(409, "run_not_retryable", f"{run_id} is running")
        gateway.runs[run_id]["status"] = "cancelled"
        return JSONResponse(gateway.runs[run_id])

    @app.get("/v1/waits")
    async def waits(request: Request) -> Response:
        left_out = {"body", "schema"}
        found = [
            {name: value for name, value in one.items() if name not in left_out}
            for one in gateway.waits.values()
        ]
        return JSONResponse(page(request, found))

    @app.get("/v1/waits/{wait_id}")
    async def wait(request: Request, wait_id: str) -> Response:
        if wait_id not in gateway.waits:
            return problem(404, "wait_not_found", f"no wait {wait_id}")
        return JSONResponse(gateway.waits[wait_id])

    @app.post("/v1/waits/{wait_id}/answer")
    async def answer(request: Request, wait_id: str) -> Response:
        found = gateway.waits[wait_id]
        if found["status"] != "pending":
            return problem(
                409,
                "wait_resolved",
                f"{wait_id} was fulfilled by alice",
                facts={"resolved_by": {"type": "api_key", "name": "alice"}, "message": "x"},
            )
        found["status"] = "fulfilled"
        data = json.loads(await request.body())["data"]
        record = gateway.record(found["session_id"], found["stream"], data)
        return JSONResponse(
            {
                "record_id": record["id"],
                "stream": record["stream"],
                "seq": record["seq"],
                "outcome": "fulfilled",
                "wait_id": wait_id,
                "run_id": found["run_id"],
            }
        )

    @app.get("/v1/tasks")
    async def tasks(request: Request) -> Response:
        return JSONResponse(page(request, [{"id": "review", "module": "tasks"}]))

    @app.get("/v1/streams")
    async def streams(request: Request) -> Response:
        return JSONResponse(
            page(request, [{"name": "approval", "direction": "input", "schema": True}])
        )

    @app.get("/readyz")
    async def ready() -> Response:
        return JSONResponse(gateway.health, 200 if gateway.health["ready"] else 503)

    return app


def problem(status: int, code: str, detail: str, **parts: Any) -> Response:
    """A problem answer."""
    body = {"title": "x", "status": status, "detail": detail, "code": code} | parts
    headers = parts.pop("headers", {})
    return JSONResponse(body, status, headers, media_type="application/problem+json")
