"""In every process of a runtime: a ledger of an earlier edition is carried over more slowly than a start may take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from helmr_runtime.launchers import runtime
from helmr_runtime.ledger import actor
from helmr_runtime.ledger.log import stored
from helmr_runtime.ledger.log.rebuild import Page

ENTRIES = 10
"""Of a page."""

PAUSE_S = float(os.environ["HELMR_TEST_CARRY_PAUSE"])

given = stored.StoredLedger.pages


def pages(ledger: stored.StoredLedger) -> Iterator[Page]:
    """As given, each after a pause."""
    for page in given(ledger):
        time.sleep(PAUSE_S)
        yield page


for place, name, value in (
    (stored, "CHUNK", ENTRIES),
    (stored.StoredLedger, "pages", pages),
    (actor, "CARRY_PATIENCE_S", 0.0),
    (runtime, "START_WITHIN_S", float(os.environ["HELMR_TEST_START_WITHIN"])),
    (runtime, "SAYS_EVERY_S", 0.5),
):
    setattr(place, name, value)
