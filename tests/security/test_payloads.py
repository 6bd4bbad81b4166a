"""Encrypted entry bodies: open at their place only, and damage names the entry."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helmr.errors import DataError, MasterKeyMissing, PayloadDamaged
from helmr_runtime.core import jsontext
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.payloads import PayloadCipher, is_sealed

SESSION = "ses_01jq0000000000000000000000"
OLD = MasterKey("k1", b"1" * 32)
NEW = MasterKey("k2", b"2" * 32)
BODY = '{"data":{"note":"für dich"}}'


def cipher(*keys: MasterKey, session: str = SESSION, encrypts: bool = True) -> PayloadCipher:
    return PayloadCipher(KeyRing(keys or (OLD,), encrypts).session_keys(session))


@given(st.text().map(lambda text: "{" + text), st.integers(1, 2**31 - 1))
def test_a_body_comes_back_and_its_stored_text_says_nothing(body, seq):
    sealed = cipher().seal(body, seq=seq, kind="input.accepted")
    assert is_sealed(sealed)
    assert sealed.isascii()
    assert cipher().open(sealed, seq=seq, kind="input.accepted") == body


def test_what_the_store_looks_up_by_stays_readable_as_json():
    clear = {"record_id": "rec_1", "stream": 'a"b', "stream_seq": 3}
    sealed = json.loads(cipher().seal(BODY, seq=1, kind="input.accepted", clear=clear))
    assert sealed.pop("sealed").startswith("k1.")
    assert sealed == {"enc": 1, **clear}


@given(st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
@example({"sealed": "k1.AAAA"})
@example('"sealed":"k1.AAAA"}')
@example({"enc": 1, "sealed": "x"})
def test_no_body_in_the_clear_is_taken_for_a_sealed_one(value):
    for body in ({"data": value}, {"data": value, "outcome": "buffered"}, {"text": str(value)}):
        assert not is_sealed(jsontext.encode(body))


def test_the_same_body_is_never_stored_the_same_way():
    assert len({cipher().seal(BODY, seq=1, kind="note.added") for _ in range(50)}) == 50


def test_without_encryption_a_body_is_stored_as_it_is_and_older_ones_still_open():
    sealed = cipher().seal(BODY, seq=1, kind="note.added")
    plain = cipher(encrypts=False)
    assert plain.seal(BODY, seq=2, kind="note.added") == BODY
    assert not is_sealed(BODY)
    assert plain.open(BODY, seq=2, kind="note.added") == BODY
    assert plain.open(sealed, seq=1, kind="note.added") == BODY


@given(st.data())
def test_any_changed_character_is_found_and_the_entry_named(data):
    clear = {"stream": "approval", "stream_seq": 3}
    sealed = cipher().seal(BODY, seq=7, kind="input.accepted", clear=clear)
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters(codec="latin-1").filter(lambda char: char != sealed[place]))
    changed = sealed[:place] + other + sealed[place + 1 :]
    with pytest.raises(DataError, match=rf"{SESSION} seq 7 \(input.accepted\)") as found:
        cipher().open(changed, seq=7, kind="input.accepted")
    assert found.value.facts["seq"] == 7
    assert "note" not in str(found.value)


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 8, 9, 20, -1])
def test_a_cut_text_is_damaged(cut):
    with pytest.raises(DataError):
        cipher().open(cipher().seal(BODY, seq=1, kind="note.added")[:cut], seq=1, kind="note.added")


def test_a_body_moved_to_another_place_does_not_open():
    sealed = cipher().seal(BODY, seq=1, kind="note.added")
    for seq, kind, session in [
        (2, "note.added", SESSION),
        (1, "input.accepted", SESSION),
        (1, "note.added", "ses_01jq0000000000000000000001"),
    ]:
        with pytest.raises(PayloadDamaged):
            cipher(session=session).open(sealed, seq=seq, kind=kind)


def test_after_a_rotation_new_bodies_take_the_new_key_and_old_ones_open():
    before = cipher(OLD).seal(BODY, seq=1, kind="note.added")
    after = cipher(OLD, NEW)
    assert after.open(before, seq=1, kind="note.added") == BODY
    sealed = after.seal(BODY, seq=2, kind="note.added")
    assert sealed.startswith('{"enc":1,"sealed":"k2.')
    with pytest.raises(MasterKeyMissing, match=rf"{SESSION} seq 2 .*'k2'"):
        cipher(OLD).open(sealed, seq=2, kind="note.added")


def test_a_key_id_can_not_be_exchanged():
    same = MasterKey("k2", OLD.key)
    sealed = cipher(OLD).seal(BODY, seq=1, kind="note.added")
    with pytest.raises(PayloadDamaged):
        cipher(OLD, same).open(sealed.replace("k1", "k2"), seq=1, kind="note.added")


def test_spare_bits_of_the_encoding_count_as_damage():
    sealed = cipher().seal("{}", seq=1, kind="k")
    head, encoded = sealed.removesuffix('"}').rsplit(".", 1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = encoded.rstrip("=")[-1]
    for other in alphabet:
        changed = encoded.rstrip("=")[:-1] + other
        changed += "=" * (-len(changed) % 4)
        if other != last and base64.urlsafe_b64decode(changed) == base64.urlsafe_b64decode(encoded):
            with pytest.raises(PayloadDamaged):
                cipher().open(f'{head}.{changed}"}}', seq=1, kind="k")


def test_a_setting_is_sealed_always_and_belongs_to_its_owner():
    plain = cipher(encrypts=False)
    sealed = plain.seal_setting("whsec_abc", owner_id="tok_1")
    assert "whsec" not in sealed
    assert plain.open_setting(sealed, owner_id="tok_1") == "whsec_abc"
    with pytest.raises(PayloadDamaged, match="tok_2"):
        plain.open_setting(sealed, owner_id="tok_2")
    with pytest.raises(PayloadDamaged, match="tok_1"):
        plain.open_setting("whsec_abc", owner_id="tok_1")
