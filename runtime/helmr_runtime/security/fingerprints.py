"""Whether a key ring is the one that a ledger was written with.

A ledger keeps a fingerprint of each master key that has opened it. It is derived (HKDF-SHA256) from the key and its
id: it tells two keys of one id apart, and no key follows from it. A ledger of an earlier edition has none; there the
entry that a chain begins with is proof, since its hash is a MAC by that key (S-52).
"""

from __future__ import annotations

from collections.abc import Mapping

from helmr.errors import MasterKeyMissing
from helmr_runtime.security.keys import KeyRing, MasterKey, derive

FINGERPRINT_CHARS = 32

_HINT = (
    "Give the key ring that the ledger was written with: as master-keys.json (0600) in its data directory, in "
    "HELMR_MASTER_KEYS, or with --keys where a command takes that. A new one can't take its place. Nothing was changed."
)


def fingerprint(key: MasterKey) -> str:
    """What a ledger remembers of a master key."""
    return derive(key.key, "fingerprint", key.id).hex()[:FINGERPRINT_CHARS]


def held_against(
    ring: KeyRing | None, known: Mapping[str, str], proven: Mapping[str, bool], *, place: str
) -> dict[str, str]:
    """The fingerprints by id that a ledger is to remember from now on; raises unless the ring is its own.

    A ring may lack keys that were retired, and have new ones; it shares at least one with the ledger.

    Args:
        ring: The master keys that there are.
        known: The fingerprints that the ledger has, by key id.
        proven: Ids of master keys that chains began with, and whether the ring's key of that id gives the first hash of
            any of them.
        place: Where the ledger is, for the message.

    Raises:
        MasterKeyMissing: There is no ring, or it is another's; says what to do.
    """
    used = known.keys() | proven.keys()
    keys = ring.keys if ring is not None else ()
    names = ", ".join(repr(one) for one in sorted(used))
    if used and not keys:
        raise MasterKeyMissing(
            f"the ledger in {place} was written with master key {names}, and there are no master keys here",
            hint=_HINT,
            key_ids=sorted(used),
        )
    made = {key.id: fingerprint(key) for key in keys}
    for key_id, mark in made.items():
        is_other = known[key_id] != mark if key_id in known else proven.get(key_id) is False
        if is_other:
            raise MasterKeyMissing(
                f"the master key {key_id!r} here is not the one that the ledger in {place} was written with",
                hint=_HINT,
                key_id=key_id,
            )
    if used and not used & made.keys():
        raise MasterKeyMissing(
            f"the ledger in {place} was written with master key {names}, and the key ring here has none of them",
            hint=_HINT,
            key_ids=sorted(used),
        )
    return {key_id: mark for key_id, mark in made.items() if key_id not in known}
