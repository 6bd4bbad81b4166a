"""Which generation of a ledger somebody has met, in a form that nobody without its master keys can make (S-68).

`LEDGER.GENERATION.KEY.MAC`: the ledger is named by the hash of its very first entry, which every copy of it has. A
client carries the text from the promoted ledger to the old one, and understands of it only the first two parts.
"""

from __future__ import annotations

import hashlib
import hmac

from helmr_runtime.security.keys import KeyRing

LEDGER_CHARS = 16
_PURPOSE = "ledger-generation"


def make_stamp(ring: KeyRing, ledger_id: str, generation: int) -> str:
    """The text that proves the generation."""
    key_id = ring.newest.id
    return f"{ledger_id}.{generation}.{key_id}.{_mac(ring, key_id, ledger_id, generation)}"


def proven_generation(ring: KeyRing | None, ledger_id: str, stamp: str) -> int:
    """The generation that a text proves of that ledger; 0 if it is another's, or proves nothing."""
    parts = stamp.split(".")
    if ring is None or len(parts) != 4 or parts[0] != ledger_id or not parts[1].isdecimal():
        return 0
    if len(parts[1]) > 9 or all(key.id != parts[2] for key in ring.keys):
        return 0
    generation = int(parts[1])
    expected = _mac(ring, parts[2], ledger_id, generation)
    return generation if hmac.compare_digest(expected.encode(), parts[3].encode()) else 0


def _mac(ring: KeyRing, key_id: str, ledger_id: str, generation: int) -> str:
    key = ring.purpose_key(_PURPOSE, key_id)
    return hmac.new(key, f"{ledger_id}.{generation}".encode(), hashlib.sha256).hexdigest()[:32]
