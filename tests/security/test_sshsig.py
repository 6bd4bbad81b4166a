"""SSH signatures: what OpenSSH signs is taken, all else is refused, and both say the same of each (S-115)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from helmr.errors import BadRequest, BadSignature, UsageError
from helmr.signing import fingerprint
from helmr_runtime.security.sshsig import (
    allowed_signers_line,
    read_allowed_signers,
    read_key,
    signer,
)
from tests import signers

SIGNED = b'{"data":true,"person":"ada"}'
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
KINDS: Mapping[str, tuple[str, ...]] = {
    "ed25519": ("ed25519",),
    "p256": ("ecdsa", "-b", "256"),
    "p384": ("ecdsa", "-b", "384"),
    "p521": ("ecdsa", "-b", "521"),
    "rsa": ("rsa", "-b", "2048"),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: signers.make_key(folder, name, *kind) for name, kind in KINDS.items()}


def text(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def armored(blob: bytes) -> str:
    encoded = base64.b64encode(blob).decode()
    lines = [encoded[at : at + 70] for at in range(0, len(encoded), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def made(
    key_blob: bytes,
    sign: Callable[[bytes], bytes],
    *,
    namespace: bytes = b"helmr",
    algorithm: bytes = b"sha512",
    reserved: bytes = b"",
    version: int = 1,
    signed: bytes = SIGNED,
) -> str:
    """A signature as OpenSSH would make it, but for what is changed."""
    digest = hashlib.new(algorithm.decode(), signed).digest()
    covered = b"SSHSIG" + text(namespace, b"", algorithm, digest)
    head = b"SSHSIG" + version.to_bytes(4, "big")
    return armored(head + text(key_blob, namespace, reserved, algorithm, sign(covered)))


def by_ed25519(**changes: object) -> str:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    blob = text(b"ssh-ed25519", key.public_key().public_bytes_raw())
    return made(blob, lambda one: text(b"ssh-ed25519", key.sign(one)), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_what_openssh_signs_is_by_that_key_and_over_nothing_else(
    keys: Mapping[str, Path], kind: str, tmp_path: Path
) -> None:
    key, signature = read_key(signers.public(keys[kind])), signers.sign(keys[kind], SIGNED)
    assert signer(signature, SIGNED) == read_key(key.text)
    assert key.comment == f"{kind}@desk"
    printed = signers.ssh("ssh-keygen", "-lf", f"{keys[kind]}.pub").decode()
    assert key.fingerprint == printed.split()[1] == fingerprint(key.text)
    for changed in (SIGNED + b" ", SIGNED[:-1], SIGNED.replace(b"ada", b"bob")):
        with pytest.raises(BadSignature):
            signer(signature, changed)
    assert signers.ssh_verifies(tmp_path, f"ada {key.text}", "ada", SIGNED, signature)


@pytest.mark.parametrize("is_ecdsa", [False, True])
def test_a_hardware_token_signs_its_application_its_counter_and_that_it_was_touched(
    is_ecdsa: bool, tmp_path: Path
) -> None:
    """Made as PROTOCOL.u2f of OpenSSH has it; OpenSSH itself says that they are good."""
    application = b"ssh:"
    if is_ecdsa:
        ecdsa = ec.generate_private_key(ec.SECP256R1())
        point = ecdsa.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        kind, parts = b"sk-ecdsa-sha2-nistp256@openssh.com", [b"nistp256", point]
    else:
        edwards = ed25519.Ed25519PrivateKey.generate()
        kind, parts = b"sk-ssh-ed25519@openssh.com", [edwards.public_key().public_bytes_raw()]

    def sign(covered: bytes, touched: bytes = b"\x01\x00\x00\x00\x07") -> bytes:
        whole = hashlib.sha256(application).digest() + touched + hashlib.sha256(covered).digest()
        if not is_ecdsa:
            return text(kind, edwards.sign(whole)) + touched
        numbers = decode_dss_signature(ecdsa.sign(whole, ec.ECDSA(SHA256())))
        raw = [one.to_bytes(33, "big").lstrip(b"\0") for one in numbers]
        proof = text(*(b"\0" + one if one[0] & 0x80 else one for one in raw))
        return text(kind, proof) + touched

    blob = text(kind, *parts, application)
    signature = made(blob, sign)
    key = signer(signature, SIGNED)
    assert key.kind == kind.decode()
    assert signers.ssh_verifies(tmp_path, f"ada {key.text}", "ada", SIGNED, signature)
    with pytest.raises(BadSignature):
        signer(made(blob, lambda one: sign(one)[:-1] + b"\x08"), SIGNED)
    with pytest.raises(BadSignature):
        signer(made(blob, lambda one: sign(one)[:-5]), SIGNED)


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({}, True),
        ({"algorithm": b"sha256"}, True),
        ({"reserved": b"later"}, True),
        ({"namespace": b"git"}, False),
        ({"namespace": b""}, False),
        ({"namespace": b"helmr.example"}, False),
        ({"algorithm": b"sha1"}, False),
        ({"algorithm": b"md5"}, False),
        ({"version": 2}, False),
        ({"signed": b"{}"}, False),
    ],
)
def test_a_signature_is_for_this_namespace_and_hashed_as_openssh_does(
    changes: dict[str, object], is_good: bool, tmp_path: Path
) -> None:
    signature = by_ed25519(**changes)
    allowed = f"ada {signer(by_ed25519(), SIGNED).text}"
    assert signers.ssh_verifies(tmp_path, allowed, "ada", SIGNED, signature) is is_good
    if is_good:
        signer(signature, SIGNED)
        return
    with pytest.raises(BadSignature):
        signer(signature, SIGNED)


def test_no_damaged_signature_is_taken_and_none_ends_in_another_error() -> None:
    good = by_ed25519()
    blob = base64.b64decode("".join(good.splitlines()[1:-1]))
    damaged = [good[:at] for at in range(0, len(good) - 1, 7)]
    damaged += [armored(blob[:at]) for at in range(0, len(blob), 5)]
    damaged += [armored(blob + b"\0"), "x" + good, good + good, good.replace("SSH", "PGP"), ""]
    # Whatever byte is changed, but for the reserved part's, which nothing is said in.
    damaged += [
        armored(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]) for at in range(len(blob))
    ]
    for one in damaged:
        with pytest.raises(BadSignature):
            signer(one, SIGNED)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 not base64",
        "ssh-dss AAAAB3NzaC1kc3MAAACBAP",
        "ssh-ed25519-cert-v01@openssh.com AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
    ],
)
def test_what_is_no_key_of_a_person_is_refused(line: str) -> None:
    with pytest.raises(BadRequest):
        read_key(line)


def test_a_short_rsa_key_signs_no_answers(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="2048"):
        read_key(signers.public(signers.make_key(tmp_path, "short", "rsa", "-b", "1024")))


ALLOWED = [
    ("ada {key}", True),
    ("ada {key} a comment", True),
    ("bob,ada {key}", True),
    ("a* {key}", True),
    ("a?a {key}", True),
    ('"ada" {key}', True),
    ("*,!ada {key}", False),
    ("bob {key}", False),
    ("ADA {key}", False),
    ("[a]da {key}", False),
    ('ada namespaces="helmr" {key}', True),
    ('ada namespaces="git,helmr" {key}', True),
    ('ada namespaces="git" {key}', False),
    ('ada namespaces="*,!helmr" {key}', False),
    ('ada valid-after="20260101Z",valid-before="20270101Z" {key}', True),
    ('ada valid-after="20261201Z" {key}', False),
    ('ada valid-before="202611301159Z" {key}', False),
    ('ada valid-before="20261130120000Z" {key}', True),
    ('ada namespaces="helmr",valid-before="20261130115959Z" {key}', False),
    ("bob {key}\n# ada\n\nada {key}", True),
]


@pytest.mark.parametrize(("lines", "is_good"), ALLOWED)
def test_allowed_signers_mean_what_they_mean_to_openssh(
    lines: str, is_good: bool, tmp_path: Path
) -> None:
    signature = by_ed25519()
    key = signer(signature, SIGNED)
    said = lines.format(key=key.text)
    found = read_allowed_signers(said.splitlines())
    assert any(one.admits("ada", key.fingerprint, NOW) for one in found) is is_good
    at = f"verify-time={NOW:%Y%m%d%H%M%S}Z"
    assert signers.ssh_verifies(tmp_path, said, "ada", SIGNED, signature, "-O", at) is is_good


@pytest.mark.parametrize(
    "line",
    [
        "ada",
        "ada ssh-ed25519",
        "ada cert-authority {key}",
        "ada namespaces=helmr {key}",
        'ada valid-after="soon" {key}',
        'ada valid-after="20260101",valid-after="20260102" {key}',
        'ada nonsense="1" {key}',
        'ada namespaces="helmr {key}',
    ],
)
def test_a_line_that_is_not_understood_is_named_and_never_left_out(line: str) -> None:
    key = signer(by_ed25519(), SIGNED)
    with pytest.raises(UsageError, match="line 2"):
        read_allowed_signers(["# people", line.format(key=key.text)])


def test_a_registered_key_is_a_line_that_openssh_takes_until_it_is_revoked(tmp_path: Path) -> None:
    signature = by_ed25519()
    key = signer(signature, SIGNED)
    revoked_at = NOW + timedelta(microseconds=400_000)
    line = allowed_signers_line(
        "ada", key.text, comment="her laptop", added_at=NOW, revoked_at=revoked_at
    )
    [found] = read_allowed_signers([line])
    for at, is_good in (
        (NOW - timedelta(seconds=1), False),
        (NOW + timedelta(microseconds=300_000), True),
        (NOW + timedelta(seconds=2), False),
    ):
        assert found.admits("ada", key.fingerprint, at) is is_good
        option = f"verify-time={at:%Y%m%d%H%M%S}Z"
        assert (
            signers.ssh_verifies(tmp_path, line, "ada", SIGNED, signature, "-O", option) is is_good
        )
