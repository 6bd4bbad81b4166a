"""Sends the numbers of `/metrics` to an OpenTelemetry collector, again and again.

There is one list of instruments, `helmr_runtime.http.metrics`: what Prometheus would be shown is translated and sent,
under the same names. Nothing of OpenTelemetry is imported until a sender starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from helmr_runtime.http.metrics import Metrics
from helmr_runtime.service import Service

if TYPE_CHECKING:
    from helmr_runtime.http.otlp_points import Translation

logger = logging.getLogger(__name__)

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_S = 60.0
INTERVAL_MIN_S = 0.1
"""Each time costs what a scrape does."""

LAST_SEND_S = 3.0
"""Longest that the end of the gateway waits for a collector."""


class MetricsSender:
    """Sends what one gateway counts; where to, the OTEL_ variables say.

    Args:
        metrics: Of the gateway.
        service: Asked for the rest.
        process: Names the gateway's process among others of the service.
    """

    def __init__(self, metrics: Metrics, service: Service, process: str) -> None:
        self._metrics = metrics
        self._service = service
        self._process = process
        self._interval_s = interval_s(os.environ)
        self._translation: Translation | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first numbers go after one interval."""
        self._translation = await asyncio.to_thread(_loaded, self._process, self._service.now())
        self._task = asyncio.create_task(self._run(), name="metrics for OpenTelemetry")

    async def stop(self) -> None:
        """Send what was counted since, if someone takes it soon, and no more."""
        if self._task is None or self._translation is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        try:
            async with asyncio.timeout(LAST_SEND_S):
                await self._send()
        except TimeoutError:
            logger.info("the last metrics were not taken")
        self._translation.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._send()

    async def _send(self) -> None:
        """A collector that takes nothing is in the log of the exporter, which has tried again by then."""
        assert self._translation is not None
        registries = await self._metrics.scraped(self._service)
        families = [family for registry in registries for family in registry.collect()]
        await asyncio.to_thread(self._translation.send, families, self._service.now())


def _loaded(process: str, began_at: datetime) -> Translation:
    """OpenTelemetry is loaded for anyone who has asked for it, and on no loop: that takes a while."""
    from helmr_runtime.http.otlp_points import Translation  # noqa: PLC0415

    return Translation(process, began_at)


def interval_s(environ: Mapping[str, str]) -> float:
    """How long to wait between two sends: `OTEL_METRIC_EXPORT_INTERVAL`, in milliseconds, or a minute."""
    told = environ.get(INTERVAL, "")
    try:
        return max(INTERVAL_MIN_S, float(told) / 1000) if told else INTERVAL_S
    except ValueError:
        logger.warning(
            "%s=%r is not a number of milliseconds: sending every minute", INTERVAL, told
        )
        return INTERVAL_S
