"""What `/metrics` says, read by the official parser."""

from __future__ import annotations

from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.service.stack import Stack


class Scrape:
    """The families and samples of one answer."""

    def __init__(self, text: str) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text))
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __getitem__(self, key: Any) -> float:
        """The sample of that name, or of `(name, labels)` with exactly these labels."""
        name, labels = (key, {}) if isinstance(key, str) else key
        return self._samples[name, frozenset(labels.items())]

    @property
    def labels(self) -> dict[str, set[str]]:
        """By the name of a sample, the labels that it has been seen with."""
        found: dict[str, set[str]] = {}
        for name, labels in self._samples:
            found.setdefault(name, set()).update(label for label, _ in labels)
        return found


async def scrape(stack: Stack) -> Scrape:
    """Ask for it."""
    response = await stack.http.get("/metrics")
    assert response.status_code == 200
    return Scrape(response.text)
