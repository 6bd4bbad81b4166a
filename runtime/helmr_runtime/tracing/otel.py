"""Spans of OpenTelemetry: what they are called, what hangs below what, and how their ids come about.

A session, its runs and their waits may last for weeks and over many processes. Their spans are made when they have
ended, and their ids are derived from the session's, run's and wait's own: any process can name a span that is not made
yet, and nothing of a trace has to be stored. They are one trace, the session's.

A turn is what a run executes between two waits. It hangs below whatever set it off, so it is in the trace of the caller
that sent the answer, or in the session's where no one said. Turns name by links the waits that they end at and go on
from. Each span and number that is sent
says of which process it comes (`resource_of`).
"""

from __future__ import annotations

import contextvars
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from helmr_runtime.tracing.derived import Derived


def resource_of(process: str) -> Resource:
    """The service, and this process of it; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say more.

    Args:
        process: Its name, which tells the processes of one runtime apart.
    """
    name = os.environ.get("OTEL_SERVICE_NAME", "helmr")
    return Resource.create({"service.name": name, "service.instance.id": process})


W3C = TraceContextTextMapPropagator()


class DerivedIds(RandomIdGenerator):
    """Random ids, but for the spans whose ids are derived."""

    def __init__(self) -> None:
        self._fixed = threading.local()

    @contextmanager
    def fixed(self, place: SpanContext) -> Iterator[None]:
        """The next span that this thread makes is this one."""
        self._fixed.place = place
        try:
            yield
        finally:
            self._fixed.place = None

    def generate_span_id(self) -> int:
        """Return the id of the next span."""
        place = getattr(self._fixed, "place", None)
        return place.span_id if place is not None else super().generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the trace id of the next span without a parent."""
        place = getattr(self._fixed, "place", None)
        return place.trace_id if place is not None else super().generate_trace_id()


def place_of(session_id: str, span: Derived) -> SpanContext:
    """Return the context of a derived span of a session."""
    return SpanContext(
        trace_id=_number("trace", session_id, 16),
        span_id=_number(span.kind, span.id, 8),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _number(kind: str, of: str, size_bytes: int) -> int:
    digest = hashlib.sha256(f"helmr {kind} {of}".encode()).digest()
    return int.from_bytes(digest[:size_bytes], "big")


class Open:
    """A span that goes on; its methods may be called in any thread."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """The W3C `traceparent` of this span."""
        return _traceparent(set_span_in_context(self._span))

    def answered(self, route: str, status: int) -> None:
        """The request that it stands for has its answer."""
        self._span.update_name(f"{self._span.name} {route}")  # type: ignore[attr-defined]  # of those that record
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        self.end(f"status {status}" if status >= 500 else None)

    def make_current(self, context: contextvars.Context) -> None:
        """Whatever runs in that context is below it: code's own spans too."""
        context.run(otel_context.attach, set_span_in_context(self._span))

    def link(self, session_id: str, to: Derived, what: str) -> None:
        """Name another span, and what it is to this one."""
        self._span.add_link(place_of(session_id, to), {"helmr.link": what})

    def end(self, error: str | None = None) -> None:
        """It is over; nothing if it was before."""
        if not self._span.is_recording():
            return
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class Spans:
    """Makes the spans of one process.

    Args:
        processors: What takes spans when they have ended.
        process: Its name.
    """

    def __init__(self, processors: Iterable[SpanProcessor], process: str) -> None:
        self._ids = DerivedIds()
        self._provider = TracerProvider(
            id_generator=self._ids, resource=resource_of(process), shutdown_on_exit=True
        )
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("helmr")

    def current(self) -> str | None:
        """Return the `traceparent` of the current span; None outside any span."""
        return _traceparent(otel_context.get_current())

    def request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Open:
        """The span of an HTTP request, below its caller's if it names one; the calling task is below it."""
        wanted = (b"traceparent", b"tracestate")
        carried = {key.decode(): value.decode("latin-1") for key, value in headers if key in wanted}
        above = W3C.extract(carried, context=Context())
        span = self._tracer.start_span(method, above, kind=SpanKind.SERVER)
        otel_context.attach(set_span_in_context(span))
        return Open(span)

    def started(self, session_id: str) -> None:
        """The calling code's request has started, or found, that session."""
        link = place_of(session_id, Derived("session", session_id))
        get_current_span().add_link(link, {"helmr.link": "session"})

    def turn(
        self, task: str, session_id: str, run_id: str, *, sent: str | None, goes_on: str | None
    ) -> Open:
        """Open the span of a run's code from now to its next wait.

        Args:
            task: The session's task.
            session_id: The session.
            run_id: The run.
            sent: The `traceparent` that triggered it; None for the run itself.
            goes_on: The wait that the run resumes from.
        """
        above = _above(place_of(session_id, Derived("run", run_id)))
        if sent is not None:
            above = W3C.extract({"traceparent": sent}, context=Context()) or above
        waited = [place_of(session_id, Derived("wait", goes_on))] if goes_on is not None else []
        links = [Link(place, {"helmr.link": "goes_on_from"}) for place in waited]
        if sent is not None:
            run = place_of(session_id, Derived("run", run_id))
            links.append(Link(run, {"helmr.link": "run"}))
        attributes = {"helmr.session.id": session_id, "helmr.run.id": run_id, "helmr.task": task}
        span = self._tracer.start_span(
            f"turn {task}", above, kind=SpanKind.CONSUMER, attributes=attributes, links=links
        )
        return Open(span)

    def step(self, turn: str | None, name: str, run_id: str, *, op: int, tries: int) -> Open:
        """One try of a step, below its turn."""
        above = W3C.extract({"traceparent": turn} if turn is not None else {}, context=Context())
        attributes: dict[str, str | int] = {
            "helmr.run.id": run_id,
            "helmr.op": op,
            "helmr.try": tries,
        }
        return Open(self._tracer.start_span(f"step {name}", above, attributes=attributes))

    def ended(
        self,
        session_id: str,
        span: Derived,
        above: Derived | None,
        *,
        name: str,
        began_at: datetime,
        ended_at: datetime,
        attributes: Mapping[str, Any],
        error: str | None = None,
    ) -> None:
        """Make the span of a session, run or wait that has ended."""
        context = _above(place_of(session_id, above)) if above is not None else Context()
        with self._ids.fixed(place_of(session_id, span)):
            made = self._tracer.start_span(
                name, context, start_time=_nanoseconds(began_at), attributes=attributes
            )
        if error is not None:
            made.set_status(Status(StatusCode.ERROR, error))
        made.end(_nanoseconds(ended_at))

    def close(self) -> None:
        """Send what has ended."""
        self._provider.shutdown()


def sending(process: str) -> Spans:
    """Spans that go to a collector, whose address and headers the OTEL_ variables say."""
    return Spans([BatchSpanProcessor(OTLPSpanExporter())], process)


def _above(place: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(place), Context())


def _traceparent(context: Context) -> str | None:
    carried: dict[str, str] = {}
    W3C.inject(carried, context=context)
    return carried.get("traceparent")


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1_000
