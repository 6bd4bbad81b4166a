"""A feature as a runtime knows it: its facts in the ledger, its part of the service, its numbers.

A process loads only the parts that it needs: the ledger's never imports a service. The code that starts a process
passes the features as a tuple (`helmr_runtime.features`); no module below names one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from helmr import feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """The parts that a feature adds to a runtime, each as `module:name`.

    Attributes:
        face: The same feature in `helmr`: its name and its operations.
        ledger: A `LedgerPart` (`helmr_runtime.ledger.index.features`): entry kinds, fold, table, due work.
        service: By noun, what makes the part that serves the operations of that noun; it gets the `Service`, which has
            the parts of the nouns before it.
        handlers: Handlers by the name of their row, of rows that are no plain call of a part.
        metrics: Makes its metrics from the registry of counters: the events it counts, and the numbers of a scrape.
    """

    face: feature.Feature
    ledger: str = ""
    service: Mapping[str, str] = field(default_factory=dict)
    handlers: str = ""
    metrics: str = ""

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.face.name


Features = Sequence[Feature]
"""The features that a process was started with."""
