"""Master keys: found, kept from others, rotated; what is derived is the same every time."""

import base64
import json
import re
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from helmr.errors import BadKeyRing, MasterKeyMissing
from helmr.wire.ids import SYSTEM_STREAM, new_id
from helmr_runtime.security.keys import (
    ENVIRONMENT_NAME,
    KEYS_MAX,
    KeyRing,
    MasterKey,
    add_master_key,
    derive,
    derive_secret,
    ensure_key_ring,
    pair_keys,
    read_key_ring,
)
from helmr_runtime.security.secrets import SecretKind, parse_secret

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD = MasterKey("k1", b"1" * 32)
NEW = MasterKey("k2", b"2" * 32)


@pytest.fixture
def ring_file(tmp_path):
    return tmp_path / "master-keys.json"


def test_the_first_start_makes_one_key_that_only_the_owner_can_read(ring_file):
    made = ensure_key_ring(ring_file, {}, now=NOW)
    assert [re.fullmatch(r"k[0-9a-f]{8}", key.id) is not None for key in made.keys] == [True]
    assert ring_file.stat().st_mode & 0o777 == 0o600
    assert ensure_key_ring(ring_file, {}, now=NOW) == made
    assert [path.name for path in ring_file.parent.iterdir()] == ["master-keys.json"]


def test_no_ring_anywhere_is_none(ring_file):
    assert read_key_ring(ring_file, {}) is None


def test_the_environment_wins_over_the_file(ring_file):
    ensure_key_ring(ring_file, {}, now=NOW)
    text = ",".join(f"{key.id}:{base64.b64encode(key.key).decode()}" for key in (OLD, NEW))
    assert ensure_key_ring(ring_file, {ENVIRONMENT_NAME: text}, now=NOW) == KeyRing((OLD, NEW))


def test_a_file_that_others_can_read_is_refused(ring_file):
    ensure_key_ring(ring_file, {}, now=NOW)
    ring_file.chmod(0o640)
    with pytest.raises(BadKeyRing, match="users other than its owner"):
        read_key_ring(ring_file, {})


def test_a_link_is_refused(ring_file, tmp_path):
    ensure_key_ring(tmp_path / "elsewhere", {}, now=NOW)
    ring_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadKeyRing):
        read_key_ring(ring_file, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"keys": []}',
        '{"keys": [7]}',
        '{"keys": [{"id": "k1", "key": "c2hvcnQ="}]}',
        json.dumps({"keys": [{"id": "k 1", "key": base64.b64encode(b"1" * 32).decode()}]}),
        "x" * 70_000,
    ],
)
def test_a_damaged_ring_is_refused_without_quoting_it(ring_file, text):
    ring_file.write_text(text)
    ring_file.chmod(0o600)
    with pytest.raises(BadKeyRing) as refused:
        read_key_ring(ring_file, {})
    assert "c2hvcnQ" not in str(refused.value)


@pytest.mark.parametrize("text", ["k1", "k1:!!!", "k1:c2hvcnQ=", "k1:,"])
def test_a_damaged_environment_is_refused(ring_file, text):
    with pytest.raises(BadKeyRing):
        read_key_ring(ring_file, {ENVIRONMENT_NAME: text})


def test_two_keys_of_one_id_are_refused():
    with pytest.raises(BadKeyRing, match="same id"):
        KeyRing((OLD, MasterKey("k1", b"9" * 32)))


def test_a_new_key_is_the_newest_and_the_old_one_stays(ring_file):
    first = ensure_key_ring(ring_file, {}, now=NOW)
    added = add_master_key(ring_file, now=NOW)
    ring = read_key_ring(ring_file, {})
    assert ring is not None
    assert [key.id for key in ring.keys] == [first.newest.id, added]
    assert ring.newest.id == added != first.newest.id
    assert ring.get(first.newest.id) == first.newest
    assert ring_file.stat().st_mode & 0o777 == 0o600
    assert json.loads(ring_file.read_text())["keys"][0]["created_at"] == NOW.isoformat()


def test_each_ring_has_ids_of_its_own(tmp_path):
    rings = [ensure_key_ring(tmp_path / str(number), {}, now=NOW) for number in range(20)]
    assert len({ring.newest.id for ring in rings}) == 20


def test_both_machines_of_a_pair_have_the_same_admin_key_also_while_one_has_a_newer_master_key():
    old, both = KeyRing((OLD,)), KeyRing((OLD, NEW))
    (key,) = pair_keys(old)
    assert parse_secret(key) is SecretKind.API_KEY
    assert pair_keys(both)[0] == key
    assert pair_keys(KeyRing((NEW,))) == pair_keys(both)[1:] != (key,)


def test_a_ring_takes_a_bounded_number_of_keys(ring_file):
    ensure_key_ring(ring_file, {}, now=NOW)
    for _ in range(KEYS_MAX - 1):
        add_master_key(ring_file, now=NOW)
    before = ring_file.read_text()
    with pytest.raises(BadKeyRing):
        add_master_key(ring_file, now=NOW)
    assert ring_file.read_text() == before


def test_a_replay_derives_the_same_secret_and_another_object_another():
    keys = KeyRing((OLD,)).session_keys(new_id("ses"))
    token, other = new_id("tok"), new_id("tok")
    secret = derive_secret(keys, SecretKind.CALLBACK, token)
    assert derive_secret(keys, SecretKind.CALLBACK, token, "k1") == secret
    assert parse_secret(secret) is SecretKind.CALLBACK
    assert derive_secret(keys, SecretKind.PUBLIC_TOKEN, token)[9:] != secret[8:]
    assert derive_secret(keys, SecretKind.CALLBACK, other) != secret


def test_secrets_of_two_sessions_share_nothing():
    ring, token = KeyRing((OLD,)), new_id("tok")
    secrets = {derive_secret(ring.session_keys(new_id("ses")), "cb", token) for _ in range(50)}
    assert len(secrets) == 50


def test_after_a_rotation_old_secrets_are_derived_by_their_key_id():
    session, token = new_id("ses"), new_id("tok")
    before = derive_secret(KeyRing((OLD,)).session_keys(session), "cb", token)
    rotated = KeyRing((OLD, NEW)).session_keys(session)
    assert derive_secret(rotated, "cb", token, "k1") == before
    assert derive_secret(rotated, "cb", token) != before
    assert derive_secret(rotated, "cb", token) == derive_secret(rotated, "cb", token, "k2")


def test_a_key_that_was_taken_out_is_named():
    keys = KeyRing((NEW,)).session_keys(SYSTEM_STREAM)
    with pytest.raises(MasterKeyMissing, match="k1"):
        derive_secret(keys, "cb", new_id("tok"), "k1")
    with pytest.raises(MasterKeyMissing, match="k1"):
        KeyRing((NEW,)).chain_key(SYSTEM_STREAM, "k1")


def test_a_chain_keeps_the_key_it_began_with():
    session = new_id("ses")
    before = KeyRing((OLD,)).chain_key(session)
    rotated = KeyRing((OLD, NEW))
    assert (
        rotated.chain_key(session, "k1") == before == rotated.session_keys(session).get("k1").chain
    )
    assert rotated.chain_key(session) != before
    assert rotated.chain_key(new_id("ses"), "k1") != before


def test_every_use_has_a_key_of_its_own():
    ring, session = KeyRing((OLD,)), new_id("ses")
    key = ring.session_keys(session).newest
    made = {
        key.chain,
        key.secrets,
        key.payload,
        ring.purpose_key("a"),
        ring.purpose_key("b"),
        OLD.key,
    }
    assert len(made) == 6


def test_parts_that_read_alike_when_joined_differ():
    assert derive(OLD.key, "a", "b|c") != derive(OLD.key, "a", "b", "c")
    assert derive(OLD.key, "ab", "c") != derive(OLD.key, "a", "bc")


def test_derivation_is_plain_hkdf():
    info = b"helmr/1" + b"\x00\x00\x00\x05label" + b"\x00\x00\x00\x01x"
    expected = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(OLD.key)
    assert derive(OLD.key, "label", "x") == expected


def test_a_derived_secret_never_changes_between_releases():
    """A release that derives another text would kill every link that was sent."""
    keys = KeyRing((OLD,)).session_keys("ses_01jq0000000000000000000000")
    derived = derive_secret(keys, "cb", "tok_01jq0000000000000000000000")
    assert derived == "hlmr_cb_UhmqeyObF1vl1SOwPBTKEvkYPrZW7OtVsRNDqDiuGhZ3sfBLD"


def test_no_repr_shows_a_key():
    ring = KeyRing((MasterKey("k1", b"SECRETSECRETSECRETSECRETSECRETXX"),))
    keys = ring.session_keys(SYSTEM_STREAM)
    shown = repr(ring) + repr(keys) + repr(keys.newest) + repr(ring.newest)
    assert "SECRET" not in shown
    assert repr(keys.newest.chain)[2:-1] not in shown
