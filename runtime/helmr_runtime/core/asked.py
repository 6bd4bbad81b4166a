"""What an op asked for, as a short hash in its opening, and how two of them compare (S-126).

```
CODE.HASH        of what the entry itself shows: a wait, an output, a token
CODE.KEY.HASH    of a step's arguments, which are recorded nowhere: keyed, so that nobody finds them by trying
```

CODE names the code that asked, KEY the key. With a key that is not at hand, as in a fork or a session file, nothing can
be said, and the op passes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

HASH_BYTES = 12
TAG_BYTES = 3
SHOWN_CHARS = 100
"""So much of a text is shown around the place where two differ."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class Comparison(Enum):
    """Whether code asks for what is recorded."""

    SAME = "same"
    """It does, or nothing tells."""
    DIFFERENT = "different"
    """The code that was recorded asks for something else now."""
    DRIFT = "drift"
    """Other code asks for something else."""


@dataclass(frozen=True, slots=True)
class AskedHashes:
    """How the ops of one run are hashed.

    Args:
        code: Names the code; empty for code of which nobody knows whether it is the one that was recorded.
        keys: By their tags, the newest last.
    """

    code: str = ""
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def of_data(self, parts: Any) -> str:
        """Of JSON that the op's own entry shows."""
        return f"{self.code}.{_hash(data_text(parts))}"

    def of_arguments(self, text: str, recorded: str | None) -> str | None:
        """Of a step's arguments, by the key of the recorded hash; None if that is not at hand."""
        tag = _tag_in(recorded) or (tuple(self.keys)[-1] if self.keys else "")
        key = self.keys.get(tag)
        if key is None:
            return None
        return f"{self.code}.{tag}.{_hash(text, key)}"


NOT_HASHED = AskedHashes()


def compare(recorded: str | None, met: str | None) -> Comparison:
    """Two hashes of one op. Without one of them, or by two keys, nothing tells."""
    if recorded is None or met is None or recorded == met:
        return Comparison.SAME
    then, _, said = recorded.partition(".")
    now, _, asks = met.partition(".")
    if said == asks or _tag_in(recorded) != _tag_in(met):
        return Comparison.SAME
    return Comparison.DIFFERENT if then == now else Comparison.DRIFT


def key_tag(key: bytes) -> str:
    """Names a key."""
    return _text(hashlib.blake2b(b"tag", key=key, digest_size=TAG_BYTES).digest())


def data_text(value: Any) -> str:
    """JSON text that is the same for what is the same data."""
    return _ENCODER.encode(value)


def differing(recorded: Mapping[str, Any], met: Mapping[str, Any]) -> tuple[str, str] | None:
    """How to tell apart what two ops asked for, as `subject "…"`; None if they show no difference.

    Args:
        recorded: What is shown of the recorded op, by its name.
        met: What the code asks; what it leaves open is not compared.
    """
    for name, value in met.items():
        then, now = (_shown(one) for one in (recorded.get(name), value))
        if value is not None and then != now:
            start = max(0, _common(then, now) - SHOWN_CHARS // 2)
            return f"{name} {_cut(then, start)}", f"{name} {_cut(now, start)}"
    return None


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _cut(text: str, start: int) -> str:
    head, tail = "…" if start else "", "…" if len(text) > start + SHOWN_CHARS else ""
    return f"{head}{text[start : start + SHOWN_CHARS]}{tail}"


def _tag_in(asked: str | None) -> str | None:
    parts = asked.split(".") if asked is not None else ()
    return parts[1] if len(parts) == 3 else None


def _hash(text: str, key: bytes = b"") -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return _text(hashlib.blake2b(raw, key=key, digest_size=HASH_BYTES).digest())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()
