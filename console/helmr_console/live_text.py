"""What the code of a session emits while it works, as text that grows, by step. Pure; nothing of it is stored."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helmr.models import ChunkInfo, ChunksEnd
from helmr.safe_text import plain

KEPT_CHARS = 8_000
"""The end of a text is what is read; more of it is not held."""
TEXTS_MAX = 64

Place = tuple[str, int | None]
"""Stream and op."""


@dataclass(slots=True)
class LiveText:
    """The texts that come now; one that ends is gone, as what lasts of it stands in the transcript."""

    _texts: OrderedDict[Place, str] = field(default_factory=OrderedDict)

    def take(self, item: ChunkInfo | ChunksEnd) -> None:
        """A chunk, or the end of those of a step."""
        place = item.stream, item.op
        if isinstance(item, ChunksEnd):
            self._texts.pop(place, None)
            return
        missing = f"⟨{item.lost} not seen⟩" if item.lost else ""
        text = self._texts.pop(place, "") + missing + spoken(item.data)
        self._texts[place] = text[-KEPT_CHARS:]
        while len(self._texts) > TEXTS_MAX:
            self._texts.popitem(last=False)

    def ended(self, op: int | None) -> None:
        """That op's step is over."""
        for place in [one for one in self._texts if one[1] == op]:
            del self._texts[place]

    def clear(self) -> None:
        """Nothing comes any more."""
        self._texts.clear()

    def by_op(self) -> dict[int | None, list[str]]:
        """`stream: text` of each op, safe; of several streams in the order in which they spoke."""
        found: dict[int | None, list[str]] = {}
        for (stream, op), text in self._texts.items():
            found.setdefault(op, []).append(plain(f"{stream}: {text}", None))
        return found


def spoken(data: Any) -> str:
    """What a chunk says: a text as it is, of an object its only text, else JSON."""
    if isinstance(data, str):
        return data
    if isinstance(data, Mapping):
        texts = [one for one in data.values() if isinstance(one, str)]
        if len(texts) == 1:
            return texts[0]
    return f"{json.dumps(data, ensure_ascii=False)}\n"
