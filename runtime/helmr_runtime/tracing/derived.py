"""What names a span that is made later, or elsewhere."""

from __future__ import annotations

from typing import NamedTuple


class Derived(NamedTuple):
    """A span whose ids come of an id of ours; `kind` is session, run or wait."""

    kind: str
    id: str
