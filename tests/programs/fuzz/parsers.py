"""Every parser of what comes from outside, with inputs that are nearly right, and the errors it documents."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from helmr.client.calls import EventReader
from helmr.errors import (
    BadCursor,
    BadDefinition,
    BadDuration,
    BadFilter,
    BadId,
    BadJson,
    BadRequest,
    BadSchema,
    LedgerDamaged,
    NotAllowed,
    SchemaMismatch,
    SessionFileDamaged,
    SignatureRefused,
    TooLarge,
    UnsupportedMedia,
    UsageError,
)
from helmr.person import filters, forms
from helmr.testing.recorded import state_of
from helmr.wire import durations, ids, jsonio, timing
from helmr_runtime.core.session_file import (
    BackupHeader,
    BackupReader,
    BackupWriter,
    FileSignature,
    FileWriter,
    read_session,
)
from helmr_runtime.http.answer_page import build_form, decode_form
from helmr_runtime.ledger.index import views
from helmr_runtime.rpc import frames
from helmr_runtime.rpc.frames import FrameError, FrameKind, FrameReader
from helmr_runtime.security.callbacks import (
    CallbackForm,
    NonceState,
    make_nonce,
    read_callback,
    read_nonce,
)
from helmr_runtime.security.file_signatures import check_signature
from helmr_runtime.security.host_names import check_host
from helmr_runtime.security.origins import check_allowed_origin
from helmr_runtime.security.schemas import DataSchema
from helmr_runtime.security.secrets import SecretKind, parse_secret
from helmr_runtime.security.webhook_signatures import SignatureScheme, Verification
from tests.programs.fuzz.damage import (
    LONE,
    TEXTS,
    altered,
    anything,
    damaged,
    damaged_text,
    one_altered,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SESSION = "ses_01m8bc7wc1ejdte581nx7revtp"
WAIT = "wait_01m8bc7wc1ejdte581nx7revtq"


@dataclass(frozen=True, slots=True)
class Parser:
    """One of them.

    Attributes:
        name: Of the test, and of `python -m tests.programs.fuzz`.
        inputs: What it is given.
        read: Reads one of them. What it finds wrong with a value that comes out is an AssertionError.
        refusals: What it may raise.
    """

    name: str
    inputs: SearchStrategy[Any]
    read: Callable[[Any], object]
    refusals: tuple[type[Exception], ...] = ()


def size_of(given: Any) -> int:
    """Of an input, in bytes."""
    if isinstance(given, bytes):
        return len(given)
    if isinstance(given, str):
        return len(given.encode(errors="surrogatepass"))
    if isinstance(given, (tuple, list)):
        return sum(map(size_of, given))
    return len(repr(given))


# --- JSON -----------------------------------------------------------------------------------------

JSONS = [
    b'{"task": "review", "payload": {"a": [1, 2.5, null, true], "b": "\\u00fc"}}',
    b'[[[["deep"]]], {"a": {"b": {"c": 1e3}}}, -0.0, 12345678901234567890]',
    '"Zoë \U0001f600"'.encode(),
]


def read_json(text: bytes | str) -> None:
    value = jsonio.loads(text)
    again = jsonio.loads(json.dumps(value, ensure_ascii=False).encode())
    assert json.dumps(again) == json.dumps(value)


# --- what a client names and asks for -------------------------------------------------------------

IDS = [SESSION, WAIT, ids.SYSTEM_STREAM, "ses_7zzzzzzzzzzzzzzzzzzzzzzzzz"]
CURSORS: tuple[tuple[str, Sequence[type], list[Any]], ...] = (
    ("waits", (int, str), [1_700_000_000_000_000, WAIT]),
    ("sessions", (int,), [77]),
    ("schedules", (str,), ["nightly"]),
)
FILTERS = [
    "stream:approval due<10m -is:claimed refund",
    'task:pay* subject:"two words" age>1h30m tag:a,b',
    "-priority:high session:ses_01 due:none",
]
DURATIONS = ["90s", "1h30m", "7d", "500ms", "0.5w"]
CRONS = ["0 3 * * mon-fri", "*/15 0-6,22 1,15 * *", "30 2 l 2 *", "0 0 29 2 1#2", "5/7 * * jan *"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]


def read_id(text: str) -> None:
    found = ids.check_id(text, ids.SESSION)
    assert ids.from_uuid(ids.SESSION, ids.to_uuid(found)) == text, "two texts are one id"
    ids.made_at(found)


def cursors() -> SearchStrategy[tuple[int, str]]:
    def text(content: Any) -> str:
        raw = json.dumps(content).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    samples = [[name, *key] for name, _, key in CURSORS]
    kind = st.integers(0, len(CURSORS) - 1)
    structured = altered(samples).map(text)
    return st.tuples(kind, structured | damaged_text([text(one) for one in samples]))


def read_cursor(given: tuple[int, str]) -> None:
    name, types, _ = CURSORS[given[0]]
    key = views.decode_cursor(name, given[1], types)
    assert key is not None
    for part, kind in zip(key, types, strict=True):
        assert type(part) is kind
        if isinstance(part, str):
            part.encode()  # the database takes characters only


def read_filter(text: str) -> None:
    for fields in (filters.WAIT_FIELDS, filters.RULE_FIELDS, filters.SESSION_FIELDS):
        found = filters.parse(text, fields)
        assert filters.parse(found.spell(), fields) == found, "spelt, it is another filter"
        facts: filters.Facts = {
            "subject": "A\u0130",
            "deadline_at": NOW,
            "is": ("mine",),
            "tag": ("a",),
            "facts.a": "1e9",
        }
        found.matches(facts, NOW)
        found.pushed()


def read_cron(given: tuple[str, str]) -> None:
    when = timing.timing(cron=given[0], zone=given[1])
    due = NOW
    for _ in range(4):
        following = timing.next_due(when, due)
        if following is None:
            break
        assert following > due
        due = following
    newest = timing.newest_due(when, NOW - timedelta(days=3), NOW, 2)
    assert all(NOW - timedelta(days=3) < at <= NOW for at in newest)


# --- what the gateway is sent without a key -------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {
        "decision": {"enum": ["approve", "reject"]},
        "amount": {"type": "number"},
        "rows": {
            "type": "array",
            "items": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
        "tags": {"type": "array", "items": {"type": "string"}},
        "secret": {"type": ["string", "null"], "format": "password"},
        "either": {
            "oneOf": [
                {"properties": {"kind": {"const": "x"}, "n": {"type": "integer"}}},
                {"properties": {"kind": {"const": "y"}}},
            ],
            "discriminator": {"propertyName": "kind"},
        },
        "self": {"$ref": "#"},
    },
    "required": ["decision"],
}
SCHEMAS: list[Any] = [
    SCHEMA,
    {"$defs": {"N": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/N"}]}}, "$ref": "#/$defs/N"},
    {"type": "string", "pattern": "^(a+)+$", "minLength": 1, "default": "a"},
    {"allOf": [{"type": "object"}, {"required": ["a"]}], "additionalProperties": {"type": "array"}},
]
BODIES = [
    *(b'{"data": {"decision": "approve"}}', b"nonce=1.a.b.c&decision=%22approve%22&tags.0=x"),
    b"a=1&a=2&%C3%BC=%F0%9F%98%80&empty=",
]
MEDIA = ["application/json", "application/x-www-form-urlencoded; charset=utf-8", "text/plain"]


def read_body(given: tuple[str, bytes, bool]) -> None:
    media, body, is_raw = given
    found = read_callback(content_type=media, body=body, is_raw=is_raw, token_is_raw=True)
    if isinstance(found, CallbackForm):
        json.dumps(found.values, ensure_ascii=False).encode()


FORM = build_form(SCHEMA)
NAMES = [leaf.name for leaf in forms.form_of(SCHEMA).leaves(templates=True)]
form_values = st.dictionaries(
    damaged_text([*NAMES, "d", "d.0", "+", "-"]),
    st.lists(st.sampled_from(TEXTS) | st.text(max_size=6), max_size=3),
    max_size=8,
)


def read_schema(schema: Any) -> None:
    """As a token's: what the gateway takes has a form, whatever it asks for."""
    DataSchema(schema).problems({"decision": [1, {"a": None}]})
    forms.form_of(schema)
    forms.schema_hash(schema)
    build_form(schema)


def header_like(samples: Sequence[str]) -> SearchStrategy[str]:
    """As a server gives a header: each byte is a character."""
    return damaged([one.encode() for one in samples]).map(lambda data: data.decode("latin-1"))


SIGNED = {
    "x-hub-signature-256": "sha256=" + "0" * 64,
    "x-slack-request-timestamp": "1767323045",
    "x-slack-signature": "v0=" + "0" * 64,
    "webhook-id": "msg_1",
    "webhook-timestamp": "1767323045",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,AA==",
}
PROVIDERS = [
    Verification(scheme=SignatureScheme.GITHUB, secret="s"),
    Verification(scheme=SignatureScheme.SLACK, secret="s"),
    Verification(
        scheme=SignatureScheme.STANDARD_WEBHOOKS, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    ),
]


def check_signed(given: tuple[Verification, Mapping[str, str], bytes]) -> None:
    provider, headers, body = given
    provider.check({**SIGNED, **headers}, body, now=NOW)
    raise AssertionError("nobody has signed it")


SECRET_TEXTS = ["hlmr_key_" + "A" * 49, "hlmr_link_" + "0" * 49, "Bearer x"]
NONCE_KEY = bytes(32)
NONCE = make_nonce(NONCE_KEY, token_id="tok_1", binding="b", now=NOW)
HOSTS = ["127.0.0.1:4356", "[::1]:80", "helmr.example.com.", "LOCALHOST"]
ORIGINS = ["https://app.example.com", "http://[::1]:3000", "https://a.example:443", "null"]


def read_marks(given: tuple[str, str]) -> None:
    """What is read before anybody is known: a secret, a nonce."""
    secret, nonce = given
    assert parse_secret(secret) in (None, *SecretKind)
    found = read_nonce(NONCE_KEY, nonce, token_id="tok_1", binding="b", now=NOW)
    assert (found.state is NonceState.VALID) == (nonce == NONCE), "a nonce that nobody made"


def read_origin(text: str) -> None:
    found = check_allowed_origin(text)
    assert check_allowed_origin(found) == found
    assert found.isascii()


# --- between processes ----------------------------------------------------------------------------

CALL = ("load", (SESSION, "host-1", {"a": [1, NOW, b"x"]}), {"strict": True})
FRAME = frames.encode(FrameKind.CALL, 7, 9, CALL)
CAN_COST_MEMORY = frozenset(b"\x96\x8e\x8drjT")
"""Pickle's instructions that name a size or a place in memory: a peer of the same user may, see `frames`."""


def read_frames(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        for frame in reader.feed(piece):
            assume(not CAN_COST_MEMORY & set(frame.body[:-1]) or frame.body == FRAME[21:])
            frames.decode_call(frame.body)


# --- files ----------------------------------------------------------------------------------------


class AnyValues(FileWriter):
    """Writes what no session file holds too: NaN."""

    def _line(self, values: Any) -> bytes:
        own = json.dumps(values if isinstance(values, dict) else {"seq": values}).encode()[:-1]
        self._chain = hashlib.sha256(self._chain + own).digest()
        return own + b',"chain":"' + self._chain.hex().encode() + b'"}\n'


def session_lines(values: Sequence[Any]) -> bytes:
    """A session file of these lines' values, with a right chain."""
    writer = AnyValues()
    lines = [writer._line(one) for one in values]
    writer._entries = len(values) - 1
    return b"".join([*lines, writer.footer(FileSignature("ed25519:AAAA", "BBBB"))])


def session_values() -> list[Any]:
    entry = {
        "seq": 1,
        "recorded_at": "2026-03-01T12:00:01.000000Z",
        "kind": "session.created",
        "run_id": None,
        "op": None,
        "principal": {"type": "api_key", "id": "key_1", "name": "Ada"},
        "body": {"task": "review", "tags": [], "metadata": {}},
    }
    header = {
        "format": "helmr-session/1",
        "helmr": "1.2.3",
        "session_id": SESSION,
        "task": "review",
        "code_hash": "abc",
        "last_seq": 2,
        "schemas": {"payload": True, "result": True, "inputs": {}, "outputs": {}},
    }
    return [header, entry, {**entry, "seq": 2, "kind": "note.added", "body": {"text": "x"}}]


def read_session_file(data: bytes) -> None:
    found = read_session(data.splitlines(keepends=True))
    assert all(type(one.seq) is int for one in found.entries)
    state_of(found.id, found.entries)


def read_signed_file(text: str) -> None:
    signature = FileSignature("ed25519:" + "A" * 43 + "=", text)
    checked = replace(CHECKED, signature=signature)
    check_signature(checked, [signature.key])


def _checked() -> Any:
    from helmr_runtime.core.session_file import FileReader

    return FileReader(session_lines(session_values()).splitlines(keepends=True)).checked


CHECKED = _checked()


def backup_lines(values: Sequence[Any]) -> bytes:
    """A backup of these arrays, with right checks."""
    writer = BackupWriter()
    first, *rest = (
        json.dumps(one if isinstance(one, list) and one else ["e"]).encode() for one in values
    )
    return writer._line(first) + writer.rows(rest) + writer.footer()


def backup_values() -> list[Any]:
    header = {"helmr": "1.0", "schema": 3, "through": 2, "openings": 1, "encrypts": False}
    principal = '{"type": "runtime"}'
    uuid = "018f0000-0000-7000-8000-000000000001"
    rows = [
        ["e", seq, uuid, seq, 1_700_000_000_000_000, "note.added", None, None, principal, "{}", "0"]
        for seq in (1, 2)
    ]
    return [["helmr-backup/1", header], *rows, ["c", 2, uuid, 2, "{}"]]


def read_backup(data: bytes) -> None:
    reader = BackupReader(io.BytesIO(data))
    types = {one: type(getattr(reader.header, one)) for one in BackupHeader.__slots__}
    assert types == {"helmr": str, "schema": int, "through": int, "openings": int, "encrypts": bool}
    for row in reader.rows():
        assert row[0] in ("e", "c")


STREAM = 'event: entry\nid: 7\ndata: {"a": 1}\n\n: ping\n\nid\ndata\r\n\r\ndata: x\rdata: y\r\r'


def read_events(pieces: list[str]) -> None:
    whole, cut = EventReader(), EventReader()
    text = "".join(pieces)
    assert whole.feed(text) == [event for piece in pieces for event in cut.feed(piece)]


def in_pieces(whole: SearchStrategy[Any]) -> SearchStrategy[list[Any]]:
    def cut(given: tuple[Any, list[int]]) -> list[Any]:
        data, places = given
        bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
        return [data[a:b] for a, b in zip(bounds, islice(bounds, 1, None), strict=False)]

    return st.tuples(whole, st.lists(st.integers(0, 200), max_size=4)).map(cut)


PURE = (
    Parser("json", damaged(JSONS) | st.binary(max_size=50), read_json, (BadJson,)),
    Parser("json_text", st.text() | st.text('[]{}",:\\ue' + LONE), read_json, (BadJson,)),
    Parser("id", damaged_text(IDS) | st.text(), read_id, (BadId,)),
    Parser("cursor", cursors(), read_cursor, (BadCursor,)),
    Parser("filter", damaged_text(FILTERS), read_filter, (BadFilter,)),
    Parser(
        "duration",
        damaged_text(DURATIONS) | st.floats() | st.integers(),
        durations.seconds,
        (BadDuration,),
    ),
    Parser(
        "cron",
        st.tuples(damaged_text(CRONS), st.sampled_from(ZONES) | damaged_text(ZONES)),
        read_cron,
        (BadDefinition,),
    ),
    Parser(
        "callback_body",
        st.tuples(st.sampled_from(MEDIA) | header_like(MEDIA), damaged(BODIES), st.booleans()),
        read_body,
        (BadJson, BadRequest, SchemaMismatch, TooLarge, UnsupportedMedia),
    ),
    Parser("form", form_values, lambda values: decode_form(FORM, values)),
    Parser("schema", altered(SCHEMAS) | anything, read_schema, (BadSchema,)),
    Parser(
        "signature",
        st.tuples(
            st.sampled_from(PROVIDERS),
            st.dictionaries(
                st.sampled_from(sorted(SIGNED)), header_like(list(SIGNED.values())), max_size=3
            ),
            st.binary(max_size=20),
        ),
        check_signed,
        (SignatureRefused,),
    ),
    Parser(
        "secret_nonce",
        st.tuples(header_like(SECRET_TEXTS), damaged_text([NONCE])),
        read_marks,
    ),
    Parser(
        "verify",
        altered([{"scheme": "slack", "secret": "s", "tolerance_s": 60}]).filter(
            lambda value: isinstance(value, dict)
        ),
        Verification.from_json,
        (BadRequest,),
    ),
    Parser(
        "host",
        header_like(HOSTS),
        lambda text: check_host(text, frozenset({"localhost"})),
        (NotAllowed,),
    ),
    Parser("origin", damaged_text(ORIGINS), read_origin, (BadRequest,)),
    Parser(
        "frames",
        in_pieces(damaged([FRAME, FRAME + FRAME])),
        read_frames,
        (FrameError,),
    ),
    Parser("events", in_pieces(damaged_text([STREAM])), read_events),
    Parser(
        "session_file",
        one_altered(session_values(), session_lines) | damaged([session_lines(session_values())]),
        read_session_file,
        (SessionFileDamaged, UsageError),
    ),
    Parser(
        "file_signature",
        damaged_text(["A" * 86 + "=="]),
        read_signed_file,
        (SessionFileDamaged, UsageError),
    ),
    Parser(
        "backup",
        one_altered(backup_values(), backup_lines) | damaged([backup_lines(backup_values())]),
        read_backup,
        (LedgerDamaged, UsageError),
    ),
)
