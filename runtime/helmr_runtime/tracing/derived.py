"""Ids of spans, derived so that a span can be named before it is made, or in another process."""

from __future__ import annotations

from typing import NamedTuple


class Derived(NamedTuple):
    """A span whose ids derive from an id of ours; `kind` is session, run or wait."""

    kind: str
    id: str
