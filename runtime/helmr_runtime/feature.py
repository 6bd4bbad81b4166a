"""A feature as a runtime knows it: its facts in the ledger, its part of the service, its numbers.

A process loads only the parts that it needs: the ledger's never imports a service. Who starts something hands the
features in, as a tuple (`helmr_runtime.features`); below that no module names one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helmr import feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature adds to a runtime, each part as `module:name`.

    Attributes:
        face: The same feature in `helmr`: its name and its operations.
        ledger: A `LedgerPart` (`helmr_runtime.ledger.index.features`): entry kinds, fold, table, what is due.
        service: Makes the part that serves its operations, of the `Service`.
        metrics: Makes its metrics, of the registry that counters are kept in: what it hears, and what a scrape shows.
    """

    face: feature.Feature
    ledger: str = ""
    service: str = ""
    metrics: str = ""

    @property
    def name(self) -> str:
        """Of the feature."""
        return self.face.name


Features = Sequence[Feature]
"""Those that something was started with."""
