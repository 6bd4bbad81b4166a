"""A runtime in this process whose spans come to the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from helmr_runtime import tracing
from helmr_runtime.catalog import Registry
from helmr_runtime.tracing import otel
from tests.service.stack import Stack
from tests.tracing.tasks import awaits, broken, publish


class Seen:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def picture(self, trace_id: int) -> str:
        """A trace as a tree of names, as an operator sees it."""
        of_trace = [span for span in self.all if _context(span).trace_id == trace_id]
        ids = {_context(span).span_id for span in of_trace}

        def lines(above: int | None, depth: int) -> Iterator[str]:
            for span in sorted(of_trace, key=lambda one: one.start_time or 0):
                parent = span.parent.span_id if span.parent is not None else None
                if parent == above or (above is None and parent not in ids):
                    yield "  " * depth + span.name
                    yield from lines(_context(span).span_id, depth + 1)

        return "\n".join(lines(None, 0))


def _context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Spans are made in this process while the test runs."""
    exporter = InMemorySpanExporter()
    made = otel.Spans([SimpleSpanProcessor(exporter)], "test")
    tracing.use(made)
    try:
        yield Seen(exporter)
    finally:
        tracing.use(None)
        made.close()


def registry() -> Registry:
    return Registry([awaits, publish, broken], modules=["tests.tracing.tasks"], code_hash="code-t")


@pytest.fixture
async def stack(seen: Seen, tmp_path: Path) -> AsyncIterator[Stack]:
    """A ready runtime that makes spans."""
    stack = Stack(tmp_path, registry=registry())
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
