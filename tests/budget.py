"""How many examples of a property are tried: all in `make test-examples`, a part of them in every other run."""

from __future__ import annotations

import os

HAS_ALL = os.environ.get("HELMR_TEST_EXAMPLES") == "all"
PART = 8


def examples(count: int) -> int:
    """Of so many examples those that are tried."""
    return count if HAS_ALL else max(count // PART, 1)
