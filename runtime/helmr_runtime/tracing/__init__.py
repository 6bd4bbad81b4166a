"""Switch for this process's spans, and their maker. While off, each possible span costs one look at a variable.

`start` imports OpenTelemetry, nothing before it does. `helmr_runtime.tracing.otel` makes the spans.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr_runtime.tracing.otel import Spans

spans: Spans | None = None
"""Makes the spans of this process; None while tracing is off."""

is_on = False
"""Whether calls of this process carry trace context; looked at before `current` is called."""

caller: ContextVar[str | None] = ContextVar("helmr_caller", default=None)
"""What names the span of the program whose requests this process carries without spans of its own (`carry`)."""


def check_installed() -> None:
    """Return if traces can be made and sent.

    Raises:
        UsageError: The extra is not installed.
    """
    for module in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise UsageError(
                f"traces need {module}, which is not installed",
                hint="Install the extra: pip install 'helmr[otel]'.",
            )


def is_off(signal: str, environ: Mapping[str, str]) -> bool:
    """True if OpenTelemetry's standard variables turn a signal off: `traces` or `metrics`."""
    exporter = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp")
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return is_disabled or exporter == "none"


def start(process: str) -> None:
    """Make spans in this process from now on, and send them where the OTEL_ variables say.

    Args:
        process: Its name, which tells the processes of one runtime apart.
    """
    from helmr_runtime.tracing import otel  # noqa: PLC0415 - no one pays for it who has not asked for traces

    use(otel.sending(process))


def use(made: Spans | None) -> None:
    """Make spans with these from now on; None makes none."""
    global spans, is_on
    spans, is_on = made, made is not None


def carry(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Make the span named in a request's headers, if any, the parent of all that the calling asyncio task does."""
    global is_on
    found = next((value.decode("latin-1") for key, value in headers if key == b"traceparent"), None)
    caller.set(found)
    is_on = is_on or found is not None


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C traceparent, 32 hex digits; None if nothing of its trace is sent."""
    if traceparent is None:
        return None
    _, trace_id, _, flags = traceparent.split("-")
    return trace_id if int(flags, 16) & 1 else None


def current() -> str | None:
    """The W3C traceparent of the span that the calling code is below; None outside of any."""
    return spans.current() if spans is not None else caller.get()
