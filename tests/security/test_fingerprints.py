"""A key ring is held against what a ledger knows of its own."""

from __future__ import annotations

import pytest

from helmr.errors import MasterKeyMissing
from helmr_runtime.security.keys import (
    FINGERPRINT_CHARS,
    KEY_BYTES,
    KeyRing,
    MasterKey,
    fingerprint,
    held_against,
)

ONE, TWO = MasterKey("k1", b"1" * KEY_BYTES), MasterKey("k2", b"2" * KEY_BYTES)
OTHER = MasterKey("k1", b"9" * KEY_BYTES)
"""Has the id of the first."""
KNOWN = {one.id: fingerprint(one) for one in (ONE, TWO)}
PLACE = "/data"


def test_a_fingerprint_tells_keys_and_ids_apart_and_is_no_part_of_the_key() -> None:
    renamed = MasterKey("k3", ONE.key)
    assert len({fingerprint(one) for one in (ONE, TWO, OTHER, renamed)}) == 4
    assert len(fingerprint(ONE)) == FINGERPRINT_CHARS
    assert fingerprint(ONE) not in ONE.key.hex()
    keys = KeyRing((ONE,)).session_keys("ses_0")
    derived = (keys.get("k1").chain, keys.get("k1").secrets, keys.get("k1").payload)
    assert not any(fingerprint(ONE) in one.hex() for one in derived)


@pytest.mark.parametrize(
    ("keys", "known", "proven", "added"),
    [
        ((), {}, {}, set()),  # nothing was made with a key
        ((ONE,), {}, {}, {"k1"}),
        ((ONE,), {"k1": KNOWN["k1"]}, {}, set()),
        ((ONE, TWO), {"k1": KNOWN["k1"]}, {}, {"k2"}),  # rotated
        ((TWO,), KNOWN, {}, set()),  # the first was retired
        ((ONE,), {}, {"k1": True}, {"k1"}),  # of an earlier edition
        ((ONE, TWO), {}, {"k1": True}, {"k1", "k2"}),
        ((ONE,), {"k1": KNOWN["k1"]}, {"k1": False}, set()),  # its first entry was changed
    ],
)
def test_the_ledgers_own_ring_goes_on(
    keys: tuple[MasterKey, ...], known: dict[str, str], proven: dict[str, bool], added: set[str]
) -> None:
    ring = KeyRing(keys) if keys else None
    made = held_against(ring, known, proven, place=PLACE)
    assert made == {key.id: fingerprint(key) for key in keys if key.id in added}


@pytest.mark.parametrize(
    ("keys", "known", "proven", "says"),
    [
        ((), {"k1": KNOWN["k1"]}, {}, "no master keys here"),
        ((), {}, {"k1": False}, "no master keys here"),
        ((OTHER,), {"k1": KNOWN["k1"]}, {}, "'k1' here is not the one"),
        ((OTHER,), {}, {"k1": False}, "'k1' here is not the one"),
        ((OTHER, TWO), KNOWN, {}, "'k1' here is not the one"),  # one wrong key spoils the ring
        ((TWO,), {"k1": KNOWN["k1"]}, {}, "has none of them"),
        ((TWO,), {}, {"k1": False}, "has none of them"),
    ],
)
def test_another_ring_is_refused_and_the_error_says_what_to_do(
    keys: tuple[MasterKey, ...], known: dict[str, str], proven: dict[str, bool], says: str
) -> None:
    ring = KeyRing(keys) if keys else None
    with pytest.raises(MasterKeyMissing, match=says) as refused:
        held_against(ring, known, proven, place=PLACE)
    assert PLACE in refused.value.message
    assert "master-keys.json" in (refused.value.hint or "")
