"""The trace context of the calling code, for the requests that it makes: W3C's `traceparent`.

A program that uses OpenTelemetry has loaded its API; nothing here loads it.
"""

from __future__ import annotations

import sys
from typing import Any

API = "opentelemetry.trace"


def headers() -> dict[str, str]:
    """What names the span that the calling code is below; nothing outside of any."""
    api: Any = sys.modules.get(API)
    current_span = getattr(api, "get_current_span", None)  # None while it is being imported
    if current_span is None:
        return {}
    span = current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
