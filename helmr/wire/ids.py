"""Ids: TypeIDs, that is a UUIDv7 in base32 behind a prefix that says what it names.

The only home of random identity in the project. Everything else gets ids passed in, so that what the core
decides is a function of its arguments.

Source: TypeID 0.3; RFC 9562 for UUIDv7.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import uuid_utils
from typeid import TypeID
from typeid.codecs.base32 import encode
from typeid.errors import TypeIDException

from helmr.errors import BadId

SESSION = "ses"
RUN = "run"
RECORD = "rec"
WAIT = "wait"
TOKEN = "tok"
PUBLIC_TOKEN = "pat"
API_KEY = "key"
OPERATION = "op"
NOTE = "note"
GRANT = "grant"
DELEGATION = "dlg"
ATTACHMENT = "att"

PREFIXES = (
    SESSION,
    RUN,
    RECORD,
    WAIT,
    TOKEN,
    PUBLIC_TOKEN,
    API_KEY,
    OPERATION,
    NOTE,
    GRANT,
    DELEGATION,
    ATTACHMENT,
)

SYSTEM_STREAM = "ses_00000000000000000000000000"
"""The reserved session whose entries are facts of no session: tokens made by clients, keys, the catalog."""


CELL = 0
"""The cell that mints ids: the last byte of each one (S-129). Ids derived from other ids have no such byte."""


def new_id(prefix: str) -> str:
    """A fresh id of this cell (S-129), later than all that this process made before."""
    minted = uuid_utils.uuid7().bytes
    return from_bytes(prefix, minted[:-1] + bytes([CELL]))


def to_uuid(value: str) -> uuid.UUID:
    """The UUID inside an id, as the ledger stores it."""
    return uuid.UUID(bytes=bytes(TypeID.from_string(value).uuid_bytes))


def from_uuid(prefix: str, value: uuid.UUID) -> str:
    """The id with this prefix that holds `value`."""
    return from_bytes(prefix, value.bytes)


def from_bytes(prefix: str, value: bytes) -> str:
    """The id with this prefix that holds the UUID of these 16 bytes."""
    # Same text as TypeID's own, without its intermediate objects: a ledger reads hundreds of thousands.
    return f"{prefix}_{encode(value)}"


def made_at(value: str) -> datetime | None:
    """Return the time in the id, to the millisecond of its maker's clock; None if its UUID holds no time."""
    try:
        found = to_uuid(value)
        return datetime.fromtimestamp((found.int >> 80) / 1000, UTC) if found.version == 7 else None
    except (TypeIDException, ValueError, OverflowError):
        return None


def pattern(prefix: str) -> str:
    """Return the regular expression of ids with this prefix."""
    return f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"


def check_id(value: str, prefix: str) -> str:
    """Return `value` if it is a well-formed id with that prefix.

    Raises:
        BadId: Not an id, or an id of another kind; the message says which was expected.
    """
    try:
        parsed = TypeID.from_string(value)
    except (TypeIDException, ValueError, TypeError, AttributeError) as error:
        raise BadId(
            f"{str(value)[:80]!r} is not an id", hint=f"Ids here look like {prefix}_…"
        ) from error
    if parsed.prefix != prefix:
        raise BadId(f"{value} is not a {prefix}_… id", hint=f"Ids here look like {prefix}_…")
    return value
