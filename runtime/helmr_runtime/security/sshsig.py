"""SSH signatures, and who may make them: what `ssh-keygen -Y verify` checks, without a process (S-115). No I/O.

A signature says its key, its namespace and the hash of what was signed (PROTOCOL.sshsig of OpenSSH):

```
-----BEGIN SSH SIGNATURE-----          base64 of: SSHSIG, version 1, public key, namespace, reserved, hash, signature
what the key has signed                SSHSIG, namespace, reserved, hash, H(message)
```

Keys are Ed25519, ECDSA, RSA of at least 2,048 bits, and hardware tokens (`sk-…`), whose signatures say as well that
they were asked for. A certificate is no key here.

An allowed-signers file has a line for each key: `ada,ada@example.com namespaces="helmr" ssh-ed25519 AAAA…`
(ssh-keygen(1), ALLOWED SIGNERS).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from helmr.errors import BadRequest, BadSignature, UsageError
from helmr.signing import NAMESPACE, fingerprint

MAGIC = b"SSHSIG"
ARMOR = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END SSH SIGNATURE-----\n?"
)
HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
RSA_BITS_MIN = 2_048
KEY_CHARS_MAX = 8_192
LINE_CHARS_MAX = 16_384
_SK = {"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}
_KINDS = {"ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{n}" for n in (256, 384, 521)), *_SK}
_CURVES: dict[int, HashAlgorithm] = {256: SHA256(), 384: SHA384(), 521: SHA512()}

Verifying = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key.

    Attributes:
        text: `TYPE BASE64`, as OpenSSH writes it.
        fingerprint: `SHA256:…`.
        comment: What stood behind it.
    """

    text: str
    fingerprint: str
    comment: str | None = None

    @property
    def kind(self) -> str:
        """Its type."""
        return self.text.partition(" ")[0]

    @property
    def blob(self) -> bytes:
        """The key in the binary form that signatures contain."""
        return base64.b64decode(self.text.partition(" ")[2])


def read_key(line: str) -> SigningKey:
    """The key of a line of a `.pub` file.

    Raises:
        BadRequest: It is not a public key, or none that signs answers.
    """
    parts = line.strip().split(maxsplit=2)
    if len(line) > KEY_CHARS_MAX or len(parts) < 2 or not line.strip().isprintable():
        raise _no_key("it is not a line `TYPE BASE64` of a public key")
    kind, encoded = parts[:2]
    if kind not in _KINDS:
        raise _no_key(f"keys of type {kind[:40]!r} sign no answers")
    try:
        key = _loaded(f"{kind} {encoded}")
        blob = base64.b64decode(encoded, validate=True)
        inner = _Reader(blob).text()
    except (ValueError, UnsupportedAlgorithm, binascii.Error) as error:
        raise _no_key("it can't be read") from error
    if inner != kind or base64.b64encode(blob).decode() != encoded:
        raise _no_key("it can't be read")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        raise _no_key(f"an RSA key has at least {RSA_BITS_MIN} bits")
    text = f"{kind} {encoded}"
    comment = parts[2].strip()[:200] if len(parts) > 2 else None
    return SigningKey(text, fingerprint(text), comment or None)


def _no_key(why: str) -> BadRequest:
    return BadRequest(f"this key can't be used: {why}", hint="Give the line of a .pub file.")


def _loaded(text: str) -> Verifying:
    key = load_ssh_public_key(text.encode())
    if not isinstance(key, Verifying):
        raise UnsupportedAlgorithm("another type of key")
    return key


def signer(armored: str, signed: bytes) -> SigningKey:
    """The key that has signed these bytes, of any person.

    Raises:
        BadSignature: It is not a signature in Helmr's namespace over them; says why.
    """
    try:
        return _signer(armored, signed)
    except (ValueError, UnsupportedAlgorithm, binascii.Error, BadRequest) as error:
        raise BadSignature("the signature can't be read") from error
    except InvalidSignature as error:
        raise BadSignature(
            "the signature is over another answer",
            hint="It is over the wait, its question, the data and the person; sign again.",
        ) from error


def _signer(armored: str, signed: bytes) -> SigningKey:
    found = ARMOR.fullmatch(armored.replace("\r\n", "\n"))
    if found is None:
        raise ValueError("no armor")
    blob = _Reader(base64.b64decode(found[1].replace("\n", ""), validate=True))
    if blob.take(len(MAGIC)) != MAGIC or blob.number() != 1:
        raise ValueError("another format")
    key_blob, namespace, _reserved = blob.string(), blob.string(), blob.string()
    algorithm, signature = blob.string(), blob.string()
    blob.end()
    if namespace != NAMESPACE.encode():
        raise BadSignature(
            f"the signature is for {namespace.decode(errors='replace')[:80]!r}, not for {NAMESPACE!r}",
            hint=f"ssh-keygen -Y sign -n {NAMESPACE}",
        )
    if algorithm not in HASHES:
        raise ValueError("another hash")
    key = read_key(f"{_Reader(key_blob).text()} {base64.b64encode(key_blob).decode()}")
    parts = (namespace, b"", algorithm, HASHES[algorithm](signed).digest())
    covered = MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    _verify(key, signature, covered)
    return key


def _verify(key: SigningKey, signature: bytes, covered: bytes) -> None:
    reader = _Reader(signature)
    scheme, proof = reader.text(), reader.string()
    if key.kind in _SK:
        flags_and_counter = reader.take(5)
        of_key = _Reader(key.blob)  # type, then curve and point or only a point, then application
        application = [of_key.string() for _ in range(4 if "ecdsa" in key.kind else 3)][-1]
        digests_of_token = hashlib.sha256(application).digest(), hashlib.sha256(covered).digest()
        covered = flags_and_counter.join(digests_of_token)
    reader.end()
    public = _loaded(key.text)
    if isinstance(public, rsa.RSAPublicKey):
        digests: dict[str, HashAlgorithm] = {"rsa-sha2-256": SHA256(), "rsa-sha2-512": SHA512()}
        if scheme not in digests:
            raise ValueError("another scheme")
        public.verify(proof, covered, padding.PKCS1v15(), digests[scheme])
        return
    if scheme != key.kind:
        raise ValueError("another scheme")
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(proof, covered)
        return
    numbers = _Reader(proof)
    one, other = numbers.integer(), numbers.integer()
    numbers.end()
    public.verify(
        encode_dss_signature(one, other), covered, ec.ECDSA(_CURVES[public.curve.key_size])
    )


class _Reader:
    """Reads the parts of SSH's binary form; whatever is missing or too much is a ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise ValueError("cut off")
        self._at += count
        return found

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        return self.string().decode("ascii")

    def integer(self) -> int:
        found = self.string()
        if not found or found[0] & 0x80:
            raise ValueError("not a positive integer")
        return int.from_bytes(found, "big")

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("something stands behind it")


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """One line of an allowed-signers file.

    Attributes:
        principals: Patterns of names; one with `!` in front excludes.
        key: The key.
        namespaces: Patterns; empty admits all.
        valid_after, valid_before: When the key counts.
    """

    principals: Sequence[str]
    key: SigningKey
    namespaces: Sequence[str] = ()
    valid_after: datetime | None = None
    valid_before: datetime | None = None

    def admits(self, person: str, key: str, at: datetime) -> bool:
        """True if a signature of this person with this key, made at that time, counts."""
        return (
            self.key.fingerprint == key
            and _fits(self.principals, person)
            and (not self.namespaces or _fits(self.namespaces, NAMESPACE))
            and (self.valid_after is None or at >= self.valid_after)
            and (self.valid_before is None or at <= self.valid_before)
        )


def _fits(patterns: Sequence[str], name: str) -> bool:
    """Match a name as OpenSSH's match_pattern_list does: a pattern that excludes wins."""
    out = [one[1:] for one in patterns if one.startswith("!")]
    if any(_is_like(name, one) for one in out):
        return False
    return any(_is_like(name, one) for one in patterns if not one.startswith("!"))


def _is_like(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))


_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(,|(?=\s))')
_TIME = re.compile(r"(\d{8})(\d{4}(?:\d{2})?)?(Z?)")


def read_allowed_signers(lines: Iterable[str]) -> list[AllowedSigner]:
    """The keys of an allowed-signers file.

    Raises:
        UsageError: A line can't be read, or has what is not read here: certificates.
    """
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            found.append(_allowed(text))
        except (ValueError, BadRequest) as error:
            raise UsageError(
                f"line {number} of the allowed signers can't be used: {error}",
                hint='Each is: ada namespaces="helmr" ssh-ed25519 AAAA…',
            ) from error
    return found


def _allowed(text: str) -> AllowedSigner:
    if len(text) > LINE_CHARS_MAX:
        raise ValueError("it is too long")
    names, _, rest = text.partition(" ")
    if names.startswith('"'):
        names, _, rest = text[1:].partition('" ')
    rest = rest.lstrip()
    options: dict[str, str | None] = {}
    while rest and rest.split(maxsplit=1)[0] not in _KINDS:
        option = _OPTION.match(rest)
        if option is None:
            raise ValueError(f"{rest[:40]!r} is neither an option nor a key that signs answers")
        name = option[1].lower()
        if name not in ("namespaces", "valid-after", "valid-before") or option[2] is None:
            raise ValueError(f"{name} is not an option that can be used here")
        if name in options:
            raise ValueError(f"{name} is there twice")
        options[name] = option[2]
        rest = rest[option.end() :].lstrip() if option[3] != "," else rest[option.end() :]
    return AllowedSigner(
        principals=tuple(names.split(",")),
        key=read_key(rest),
        namespaces=tuple((options.get("namespaces") or "").split(","))
        if "namespaces" in options
        else (),
        valid_after=_time(options.get("valid-after")),
        valid_before=_time(options.get("valid-before")),
    )


def _time(said: str | None) -> datetime | None:
    """A time of an option; without Z it is that of this machine's zone, as OpenSSH has it."""
    if said is None:
        return None
    found = _TIME.fullmatch(said)
    if found is None:
        raise ValueError(f"{said[:40]!r} is not a time YYYYMMDD[HHMM[SS]][Z]")
    day, clock, zone = found[1], (found[2] or "").ljust(6, "0"), found[3]
    moment = datetime.strptime(day + clock, "%Y%m%d%H%M%S")  # noqa: DTZ007 - its zone follows
    return moment.replace(tzinfo=UTC) if zone else moment.astimezone()


NOT_IN_NAMES = frozenset('!*?,"#')
"""What means something else in a list of names: such a person can't have a key."""


def allowed_signers_line(
    person: str, key: str, *, comment: str | None, added_at: datetime, revoked_at: datetime | None
) -> str:
    """A registered key as a line of an allowed-signers file."""
    options = [f'namespaces="{NAMESPACE}"', f'valid-after="{_written(added_at)}"']
    if revoked_at is not None:
        # Whole seconds: what was signed in the same one, before, is to count.
        options.append(f'valid-before="{_written(revoked_at + timedelta(seconds=1))}"')
    behind = f" {comment}" if comment else ""
    return f"{person} {','.join(options)} {key}{behind}"


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
