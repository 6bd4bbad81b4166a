"""A session file's signature: of the newest master key, good by its public key and by no other."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from helmr.errors import SessionFileDamaged, UsageError
from helmr.wire import ids
from helmr_runtime.core.session_file import FileReader, FileSignature, FileWriter
from helmr_runtime.security.file_signatures import check_signature, public_keys, sign
from helmr_runtime.security.keys import KeyRing, MasterKey, derive

OLD, NEW = MasterKey("k1", b"1" * 32), MasterKey("k2", b"2" * 32)
RING = KeyRing((OLD,))
ROTATED = KeyRing((OLD, NEW))


def file_of(ring: KeyRing, *, task: str = "review", signature: FileSignature | None = None):
    writer = FileWriter()
    header = writer.header(
        version="1",
        session_id=ids.SYSTEM_STREAM,
        task=task,
        code_hash="c",
        last_seq=0,
        schemas=None,
    )
    return [header, writer.footer(signature or sign(ring, writer.signed))]


def checked(lines: list[bytes]):
    return FileReader(lines).checked


def test_the_runtimes_key_has_signed_it() -> None:
    [(key_id, key)] = public_keys(RING)
    assert key_id == "k1"
    assert check_signature(checked(file_of(RING)), [key]) == key


def test_the_pair_follows_from_the_master_key() -> None:
    raw = derive(OLD.key, "purpose", "session-file")
    public = Ed25519PrivateKey.from_private_bytes(raw).public_key()
    public.verify(base64.b64decode(sign(RING, b"text").signature), b"text")
    assert public_keys(RING) == public_keys(KeyRing((OLD,)))


def test_the_newest_key_signs_and_older_files_stay_good() -> None:
    newest, older = public_keys(ROTATED)
    assert (newest[0], older[0]) == ("k2", "k1")
    assert check_signature(checked(file_of(ROTATED)), [newest[1]]) == newest[1]
    both = [newest[1], older[1]]
    assert check_signature(checked(file_of(RING)), both) == older[1]


def test_another_runtimes_file_is_refused() -> None:
    [(_, other)] = public_keys(KeyRing((NEW,)))
    with pytest.raises(SessionFileDamaged, match=r"line 2: it is signed by .* none of the keys"):
        check_signature(checked(file_of(RING)), [other])


def test_a_file_that_was_made_to_fit_its_chain_is_refused() -> None:
    [(_, key)] = public_keys(RING)
    said = json.loads(file_of(RING)[1])
    taken = FileSignature(said["key"], said["signature"])
    forged = checked(file_of(RING, task="another", signature=taken))
    with pytest.raises(SessionFileDamaged, match="line 2: the signature is not that of"):
        check_signature(forged, [key])


@pytest.mark.parametrize("signature", ["", "no base64!", "QUJD"])
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    [(_, key)] = public_keys(RING)
    forged = checked(file_of(RING, signature=FileSignature(key, signature)))
    with pytest.raises(SessionFileDamaged, match="the signature is not that of"):
        check_signature(forged, [key])


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:QUJD", "rsa:QUJD", "ed25519:é"])
def test_what_is_no_public_key_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is not a public key"):
        check_signature(checked(file_of(RING)), [text])
