"""Master keys: where they come from, and what is derived from them.

A key ring holds one or more master keys with ids; the last is the newest and used for what is made
now, the others stay readable. It comes from the environment (`HELMR_MASTER_KEYS`, for a secret
store that injects it) or from a file that only its owner can read.

```
HELMR_MASTER_KEYS   k1:<base64 of 32 bytes>[,k2:<base64>...]      oldest first
master-keys.json    {"keys": [{"id": "k5e0c9a17", "created_at": "…", "key": "<base64>"}, …]}
```

Everything else is HKDF-SHA256 (RFC 5869) in two floors, each with a label of its own:

```
master key ─┬─ session id ─┬─ chain     HMAC key of the hash chain (S-52)
            │              ├─ secrets ── kind | id | key id ── a secret's 32 bytes
            │              └─ payload   AES-256-GCM key of entry bodies
            └─ purpose     one key per use of the runtime itself: page nonces, session files
```

The middle floor is what a host gets, so that task code never stands beside a master key.

A ledger keeps a fingerprint of each master key that has opened it, which tells whether a key ring is its own. It is
derived (HKDF-SHA256) from the key and its id: it tells two keys of one id apart, and no key follows from it. A ledger
of an earlier edition has none; there the entry that a chain begins with is proof, since its hash is a MAC by that key
(S-52).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from helmr.errors import BadKeyRing, MasterKeyMissing
from helmr.platform import sync
from helmr_runtime.security.secrets import SecretKind, SessionKey, SessionKeys, secret_from_bytes

KEY_BYTES = 32
KEYS_MAX = 64
"""Master keys in one ring: a yearly rotation for longer than any session lives."""
RING_FILE_BYTES_MAX = 64 * 1024
ENVIRONMENT_NAME = "HELMR_MASTER_KEYS"

_CHAIN = "session-chain"
_PAIR = "pair-admin-key"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_HINT = "Keep the key ring readable by its owner only (chmod 600), as `helmr up` makes it."


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One master key; its bytes are kept out of every repr."""

    id: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _KEY_ID.fullmatch(self.id):
            raise BadKeyRing(
                f"{self.id[:40]!r} can't be a master key's id",
                hint="Use letters, digits, - and _; at most 32.",
            )
        if len(self.key) != KEY_BYTES:
            raise BadKeyRing(f"master key {self.id!r} has {len(self.key)} bytes, not {KEY_BYTES}")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The master keys of a runtime, oldest first.

    `encrypts_payloads`: entry bodies of new entries are encrypted; old ones stay readable either
    way.
    """

    keys: tuple[MasterKey, ...]
    encrypts_payloads: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= KEYS_MAX:
            raise BadKeyRing(f"a key ring holds 1 to {KEYS_MAX} keys, this one {len(self.keys)}")
        if len({key.id for key in self.keys}) != len(self.keys):
            raise BadKeyRing("two master keys have the same id")

    @property
    def newest(self) -> MasterKey:
        """The key for what is made now."""
        return self.keys[-1]

    def get(self, key_id: str) -> MasterKey:
        """The master key with that id.

        Raises:
            MasterKeyMissing: No such key.
        """
        for key in self.keys:
            if key.id == key_id:
                return key
        raise MasterKeyMissing(f"master key {key_id!r} is not in the key ring", key_id=key_id)

    def session_keys(self, session_id: str) -> SessionKeys:
        """All keys of a session: what an adoption hands to its actor."""
        return SessionKeys(
            session_id=session_id,
            newest_id=self.newest.id,
            by_id={key.id: self._session_key(key, session_id) for key in self.keys},
            encrypts_payloads=self.encrypts_payloads,
        )

    def chain_key(self, session_id: str, key_id: str | None = None) -> bytes:
        """The HMAC key of a session's hash chain (S-52).

        A chain keeps the key it began with: store the key id with the session, since after a
        rotation the newest key gives another chain.
        """
        master = self.newest if key_id is None else self.get(key_id)
        return derive(master.key, _CHAIN, session_id)

    def purpose_key(self, purpose: str, key_id: str | None = None) -> bytes:
        """A key for one use of the runtime itself, such as `page-nonce`."""
        master = self.newest if key_id is None else self.get(key_id)
        return derive(master.key, "purpose", purpose)

    def _session_key(self, master: MasterKey, session_id: str) -> SessionKey:
        return SessionKey(
            chain=derive(master.key, _CHAIN, session_id),
            secrets=derive(master.key, "session-secrets", session_id),
            payload=derive(master.key, "session-payload", session_id),
        )


def derive(key: bytes, label: str, *parts: str) -> bytes:
    """32 bytes that only this key, label and parts give (HKDF-SHA256).

    Parts are length-prefixed, so that no two lists of parts share a text.
    """
    info = bytearray(b"helmr/1")
    for part in (label, *parts):
        raw = part.encode()
        info += len(raw).to_bytes(4, "big") + raw
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=bytes(info)).derive(key)


def derive_secret(
    keys: SessionKeys, kind: SecretKind | str, object_id: str, key_id: str | None = None
) -> str:
    """The secret of an object of this session: the same at every replay.

    Args:
        keys: The session's keys; the system stream's for what a client made.
        kind: `cb` for a token's callback URL, `pat` for its public token.
        object_id: The id of the token.
        key_id: The master key it was first made with, as its entry says; None for a new one, whose
            entry must then record `keys.newest_id`.

    Raises:
        MasterKeyMissing: The key ring no longer holds that key.
    """
    key_id = keys.newest_id if key_id is None else key_id
    kind = SecretKind(kind)
    return secret_from_bytes(
        kind, derive(keys.get(key_id).secrets, "secret", kind.value, object_id, key_id)
    )


# --- where a ring comes from ----------------------------------------------------------------------


def read_key_ring(
    path: Path, environ: Mapping[str, str], *, encrypts_payloads: bool = False
) -> KeyRing | None:
    """The runtime's key ring: from the environment if it is set there, else from the file.

    Returns:
        The ring, or None if neither exists.

    Raises:
        BadKeyRing: It can't be read as a ring, or others than its owner could read the file.
    """
    text = environ.get(ENVIRONMENT_NAME)
    keys = _from_environment(text) if text else _from_file(path)
    return None if keys is None else KeyRing(keys, encrypts_payloads)


def ensure_key_ring(
    path: Path, environ: Mapping[str, str], *, now: datetime, encrypts_payloads: bool = False
) -> KeyRing:
    """The runtime's key ring; makes the file with one fresh key if there is none.

    Durability: on disk before return: what is derived from a key that a crash forgot is lost.
    """
    ring = read_key_ring(path, environ, encrypts_payloads=encrypts_payloads)
    if ring is None:
        _write(path, [_fresh(_new_id(), now)], must_be_new=True)
        ring = KeyRing(_from_file(path) or (), encrypts_payloads)
    return ring


def pair_keys(ring: KeyRing) -> tuple[str, ...]:
    """The admin keys that both runtimes of a pair take, since both have the same master keys; the first is handed out.

    It is of the oldest master key, and so the same while one machine has a newer one and the other not yet.
    """
    return tuple(
        secret_from_bytes(SecretKind.API_KEY, ring.purpose_key(_PAIR, one.id)) for one in ring.keys
    )


def key_ring_text(ring: KeyRing) -> bytes:
    """The text of a file that `read_key_ring` reads as this ring."""
    keys = [{"id": one.id, "key": base64.b64encode(one.key).decode()} for one in ring.keys]
    return (json.dumps({"keys": keys}, indent=2) + "\n").encode()


def add_master_key(path: Path, *, now: datetime) -> str:
    """Append a fresh key to the file, the newest from now on; returns its id.

    A running runtime takes it at its next start. Older keys stay: what they made needs them.
    """
    ring = KeyRing(_from_file(path) or ())
    stored = json.loads(path.read_text())["keys"]
    key_id = _new_id()
    KeyRing((*ring.keys, MasterKey(key_id, b"\x00" * KEY_BYTES)))  # one more must still fit
    _write(path, [*stored, _fresh(key_id, now)], must_be_new=False)
    return key_id


def _new_id() -> str:
    """Another one in each ring: what names a key of another ring must not seem to be this one's."""
    return f"k{secrets.token_hex(4)}"


def _fresh(key_id: str, now: datetime) -> dict[str, str]:
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return {"id": key_id, "created_at": now.isoformat(), "key": key}


def _from_environment(text: str) -> tuple[MasterKey, ...]:
    keys = []
    for part in text.split(","):
        key_id, colon, encoded = part.strip().partition(":")
        if not colon:
            raise BadKeyRing(f"{ENVIRONMENT_NAME} must be id:base64, separated by commas")
        keys.append(MasterKey(key_id, _decode(key_id, encoded)))
    return tuple(keys)


def _from_file(path: Path) -> tuple[MasterKey, ...] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadKeyRing(f"{path}: {error.strerror}", hint=_HINT) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise BadKeyRing(f"{path} can be read by users other than its owner", hint=_HINT)
        raw = file.read(RING_FILE_BYTES_MAX + 1)
    try:
        if len(raw) > RING_FILE_BYTES_MAX:
            raise ValueError(f"over {RING_FILE_BYTES_MAX} bytes")
        stored: list[dict[str, Any]] = json.loads(raw)["keys"]
        return tuple(MasterKey(str(k["id"]), _decode(str(k["id"]), str(k["key"]))) for k in stored)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        # The error's text may quote the file, so only its type goes out.
        raise BadKeyRing(f"{path} is not a key ring ({type(error).__name__})", hint=_HINT) from None


def _decode(key_id: str, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise BadKeyRing(f"master key {key_id[:40]!r} is not base64") from None


def _write(path: Path, keys: list[dict[str, str]], *, must_be_new: bool) -> None:
    """Put the ring in place whole: a reader sees the old file or the new one, never half of one."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps({"keys": keys}, indent=2) + "\n")
            file.flush()
            sync(file.fileno())
        if must_be_new:
            os.link(scratch, path)  # fails if another process made one meanwhile
        else:
            os.replace(scratch, path)
    except FileExistsError:
        pass  # the other's ring is as good as ours and is read next
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(folder)
    finally:
        os.close(folder)


FINGERPRINT_CHARS = 32

_RESTORE_HINT = (
    "Give the key ring that the ledger was written with: as master-keys.json (0600) in its data directory, in "
    "HELMR_MASTER_KEYS, or with --keys where a command takes that. A new one can't take its place. Nothing was changed."
)


def fingerprint(key: MasterKey) -> str:
    """Return the fingerprint by which a ledger recognizes a master key."""
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
            hint=_RESTORE_HINT,
            key_ids=sorted(used),
        )
    made = {key.id: fingerprint(key) for key in keys}
    for key_id, mark in made.items():
        is_other = known[key_id] != mark if key_id in known else proven.get(key_id) is False
        if is_other:
            raise MasterKeyMissing(
                f"the master key {key_id!r} here is not the one that the ledger in {place} was written with",
                hint=_RESTORE_HINT,
                key_id=key_id,
            )
    if used and not used & made.keys():
        raise MasterKeyMissing(
            f"the ledger in {place} was written with master key {names}, and the key ring here has none of them",
            hint=_RESTORE_HINT,
            key_ids=sorted(used),
        )
    return {key_id: mark for key_id, mark in made.items() if key_id not in known}
