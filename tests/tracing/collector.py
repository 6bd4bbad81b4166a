"""A collector of OpenTelemetry: takes what is sent to it over HTTP, as the real ones do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HOST_ID = re.compile(r"-[0-9a-z]{26}$")
"""Ends the name of a host; another one in each runtime."""


@dataclass(frozen=True)
class SeenSpan:
    """A span as it came over the wire; ids in hexadecimal."""

    name: str
    process: str
    trace_id: str
    id: str
    parent_id: str
    began_ns: int
    links: tuple[tuple[str, str], ...]
    """What another span is to it, and that span's id."""


class Collector:
    """What has come."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._spans: list[SeenSpan] = []
        self.refuses = False

    def take(self, path: str, body: bytes) -> None:
        """One request."""
        with self._lock:
            assert path == "/v1/traces", path
            self._spans += _spans(body)

    @property
    def spans(self) -> list[SeenSpan]:
        """All of them, by when they began."""
        with self._lock:
            return sorted(self._spans, key=lambda one: one.began_ns)

    def picture(self, trace_id: str) -> str:
        """A trace as a viewer shows it: a tree of names, each with its process, and what spans are to others."""
        spans = self.spans
        names = {one.id: one.name for one in spans}
        of_trace = [one for one in spans if one.trace_id == trace_id]
        ids = {one.id for one in of_trace}
        rows: list[tuple[str, str, str]] = []

        def add(above: str | None, depth: int) -> None:
            for span in of_trace:
                is_top = above is None and span.parent_id not in ids
                if is_top or (above is not None and span.parent_id == above):
                    links = [f"{what} {names[to]}" for what, to in span.links if to in names]
                    process = HOST_ID.sub("", span.process)
                    rows.append(("  " * depth + span.name, process, ", ".join(links)))
                    add(span.id, depth + 1)

        add(None, 0)
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(
            f"{name:{widths[0]}}  {process:{widths[1]}}  {links}".rstrip()
            for name, process, links in rows
        )


def _spans(body: bytes) -> Iterator[SeenSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        process = _attributes(resource.resource)["service.instance.id"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    name=span.name,
                    process=process,
                    trace_id=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    began_ns=span.start_time_unix_nano,
                    links=tuple(
                        (_attributes(link)["helmr.link"], link.span_id.hex()) for link in span.links
                    ),
                )


def _attributes(of: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in of.attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """One that listens on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not found.refuses:
                found.take(self.path, body)
            self.send_response(503 if found.refuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
