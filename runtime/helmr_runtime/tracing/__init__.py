"""Whether this process makes spans, and who makes them. Off costs a look at one variable where a span could begin.

Nothing of OpenTelemetry is imported until `start` is called. What a span is made of is in `helmr_runtime.tracing.otel`.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr_runtime.tracing.otel import Spans

spans: Spans | None = None
"""Makes the spans of this process; None while tracing is off."""


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


def start(process: str) -> None:
    """Make spans in this process from now on, and send them where the OTEL_ variables say.

    Args:
        process: Its name, which tells the processes of one runtime apart.
    """
    from helmr_runtime.tracing import otel  # noqa: PLC0415 - nobody pays for it who has not asked for traces

    use(otel.sending(process))


def use(made: Spans | None) -> None:
    """Make spans with these from now on; None makes none."""
    global spans
    spans = made
