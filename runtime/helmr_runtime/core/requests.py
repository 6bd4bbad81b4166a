"""Requests of task code to its session: one value per durable op, with the kind and name that replay compares.

An op's opening holds a short hash of its request, by which two requests compare (S-126):

```
CODE.HASH        of facts that the entry itself shows: a wait, an output, a token
CODE.KEY.HASH    of a step's arguments, which are not recorded: keyed, so that trying values finds none of them
```

CODE names the code that asked, KEY the key. If the key is missing, as in a fork or a session file, the op passes
unchecked.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

from helmr.wait_details import NOTHING_SAID, RESTRICTING, WaitDetails
from helmr.wire.people import STARTER, answered_by
from helmr_runtime.core.public_tokens import Scope
from helmr_runtime.core.tokens import NewToken


@dataclass(frozen=True, slots=True)
class OpRequest:
    """Base of all requests. S-30 compares `kind` and `name` with the journal."""

    kind: ClassVar[str] = ""
    asked: str | None = field(default=None, kw_only=True, compare=False)
    """The request's hash, for an op that has one (S-126)."""
    drift: tuple[int, ...] = field(default=(), kw_only=True, compare=False)
    """Earlier ops in which this code asks otherwise than other code did, reported for the first time."""

    @property
    def name(self) -> str:
        """The op's subject within its kind."""
        return ""

    @property
    def compared(self) -> Any:
        """The parts that a replay compares besides kind and name, as JSON; None if there are none."""
        return None

    @property
    def shown(self) -> Mapping[str, Any]:
        """The parts that a message can show, by name; their recorded counterpart is `shown_in` an opening."""
        return {}

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    def fits(self, recorded: str) -> bool:
        """True if the journal's text for an op is this request's."""
        return recorded == str(self)


@dataclass(frozen=True, slots=True)
class StepRequest(OpRequest):
    """Run a step (S-32). The callable stays with the run's driver."""

    kind: ClassVar[str] = "step"
    step: str
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    formerly: tuple[str, ...] = ()
    """Former names of the step; a journal with one of them fits."""
    dry_run_safe: bool = False
    """Its body may be executed for a dry run (S-87)."""
    arguments: str | None = field(default=None, repr=False, compare=False)
    """Text of the arguments that are compared (`helmr_runtime.replay.cursor`); it is recorded nowhere."""
    limit: str | None = field(default=None, compare=False)
    """The limit under which each try begins (S-119)."""

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step

    def fits(self, recorded: str) -> bool:
        """True if the journal's text is the step's name or a former one."""
        names = (self.step, *self.formerly)
        return any(recorded == f"{self.kind} {name}" for name in names)


@dataclass(frozen=True, slots=True)
class WaitRequest(OpRequest):
    """Open a wait (S-10). `until` fixes a timer's deadline, `timeout_s` any wait's."""

    kind: ClassVar[str] = "wait"
    wait_kind: str
    wait_id: str
    stream: str | None = None
    correlation_id: str | None = None
    token_id: str | None = None
    session_ids: tuple[str, ...] = ()
    timeout_s: float | None = None
    until: datetime | None = None
    details: WaitDetails = NOTHING_SAID
    trace_id: str | None = field(default=None, compare=False)
    """The trace of the code that asks, if it is sent."""

    @property
    def name(self) -> str:
        """The stream of an input wait, else the wait's kind."""
        return f"{self.wait_kind} {self.stream}" if self.stream is not None else self.wait_kind

    @property
    def compared(self) -> Any:
        """The texts that a person sees, and the ids that select the answer; a timer's duration."""
        said = self.details
        if not said.compare or self.wait_kind == "session":
            return None
        if self.wait_kind == "timer":
            return [self.timeout_s]
        words = [said.subject, said.body, said.shown_digest]
        return [self.correlation_id, self.token_id, *words]

    @property
    def shown(self) -> Mapping[str, Any]:
        """Like `compared`; texts that a token may supply are left out if the code does not set them."""
        if self.wait_kind == "timer":
            return {"duration in seconds": self.timeout_s}
        told = {"subject": self.details.subject, "body": self.details.body}
        if self.token_id is not None:
            said = {name: text for name, text in told.items() if text is not None}
            return {"token": self.token_id, **said}
        return {"correlation id": self.correlation_id, **told}

    @property
    def awaits(self) -> tuple[str, ...]:
        """The token, or the child sessions; the first to end resolves the wait."""
        return (self.token_id,) if self.token_id is not None else self.session_ids


@dataclass(frozen=True, slots=True)
class OutputRequest(OpRequest):
    """Append to an output stream."""

    kind: ClassVar[str] = "output"
    stream: str
    record_id: str
    data: Any = field(default=None, compare=False)
    is_compared: bool = True

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream

    @property
    def compared(self) -> Any:
        """The data."""
        return [self.data] if self.is_compared else None

    @property
    def shown(self) -> Mapping[str, Any]:
        """The data."""
        return {"data": self.data}


@dataclass(frozen=True, slots=True)
class PeekRequest(OpRequest):
    """Read the unconsumed records of an input stream."""

    kind: ClassVar[str] = "peek"
    stream: str

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream


@dataclass(frozen=True, slots=True)
class HistoryRequest(OpRequest):
    """Read the records of a stream up to now, or the last of them."""

    kind: ClassVar[str] = "history"
    stream: str
    direction: str = "input"
    from_seq: int = 1
    last: int | None = None

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream

    @property
    def compared(self) -> Any:
        """The part of the stream."""
        return [self.direction, self.from_seq, self.last]


@dataclass(frozen=True, slots=True)
class ClockRequest(OpRequest):
    """Read the clock; the value was taken where the code asked."""

    kind: ClassVar[str] = "clock"
    now: datetime


@dataclass(frozen=True, slots=True)
class PatchRequest(OpRequest):
    """Record that the code took a patch's new way. No op: it stands under the op asked last (S-88)."""

    kind: ClassVar[str] = "patch"
    patch: str

    @property
    def name(self) -> str:
        """The patch's name."""
        return self.patch


@dataclass(frozen=True, slots=True)
class TokenOp(OpRequest):
    """Make a token (S-40)."""

    kind: ClassVar[str] = "token"
    new: NewToken

    @property
    def compared(self) -> Any:
        """The code's settings except for the signature scheme."""
        new = self.new
        words = [new.subject, new.body, new.initial, new.schema]
        lists = [list(new.tags), list(new.allowed_origins), list(map(dict, new.escalation))]
        return [new.timeout_s, new.is_raw, dict(new.metadata), *words, *lists]

    @property
    def shown(self) -> Mapping[str, Any]:
        """The texts that people read."""
        return {"subject": self.new.subject, "body": self.new.body}


@dataclass(frozen=True, slots=True)
class PublicTokenOp(OpRequest):
    """Make a public token (S-44). Code that holds the keys derives its secret; this has its hash."""

    kind: ClassVar[str] = "public_token"
    public_token_id: str
    key_id: str
    secret_hash: str
    scope: Scope
    max_uses: int | None
    expires_in_s: float
    allowed_origins: tuple[str, ...]

    @property
    def name(self) -> str:
        """The scope's type."""
        return self.scope.type.value

    @property
    def compared(self) -> Any:
        """Scope, uses, lifetime and origins, without the session, which differs in a fork."""
        scope = {**self.scope.to_json(), "session_id": None}
        return [scope, self.max_uses, self.expires_in_s, list(self.allowed_origins)]


@dataclass(frozen=True, slots=True)
class EmitRequest(OpRequest):
    """Show a chunk to followers (S-90). Not an op: it is never recorded, and a replay skips it."""

    kind: ClassVar[str] = "emit"
    stream: str

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.stream


@dataclass(frozen=True, slots=True)
class ContinueRequest(OpRequest):
    """End this run and begin the next with another payload (S-8)."""

    kind: ClassVar[str] = "continue"
    payload: Any
    next_run_id: str


def answered_otherwise(opened: Mapping[str, Any], ask: OpRequest) -> tuple[str, str] | None:
    """Return the wait's rule as opened and as the code has it now, in words, if they differ (S-126)."""
    if not isinstance(ask, WaitRequest) or ask.wait_kind != "input":
        return None
    asked = {
        **ask.details.restriction,
        "comments": list(ask.details.comments),
        "deputies": ask.details.deputies,
    }
    named = (*RESTRICTING, "comments", "deputies")
    before, now = ([_if_set(said.get(name)) for name in named] for said in (opened, asked))
    at = named.index("not_by")
    excluded: list[str] = before[at] or []
    if STARTER in excluded:  # the people it stood for follow it
        count = excluded.index(STARTER) + 1
        before[at], now[at] = excluded[:count], (now[at] or [])[:count]
    if before == now:
        return None
    texts = _rule_text(dict(zip(named, before, strict=True))), _rule_text(asked)
    if texts[0] != texts[1]:
        return texts
    other = next(name for name, old, new in zip(named, before, now, strict=True) if old != new)
    return f"{texts[0]}, with other {other}", f"{texts[1]}, with these {other}"


def _if_set(value: Any) -> Any:
    """The option, None for an empty one; False is said."""
    return value if value or value is False else None


def _rule_text(said: Mapping[str, Any]) -> str:
    lists = (said.get("answerers") or (), said.get("not_by") or ())
    if not any((*lists, said.get("refusals"), said.get("signed"), said.get("approvals"))):
        return "by anyone who may answer"
    return answered_by(*lists, said.get("approvals") or 1, signed=bool(said.get("signed")))


HASH_BYTES = 12
TAG_BYTES = 3
SHOWN_CHARS = 100
"""Characters of a text shown around the first difference."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class Comparison(Enum):
    """The result of comparing a request with the recorded one."""

    SAME = "same"
    """They are the same, or cannot be compared."""
    DIFFERENT = "different"
    """The same code asks for something else."""
    DRIFT = "drift"
    """Different code asks for something else."""


@dataclass(frozen=True, slots=True)
class AskedHashes:
    """Hashes the requests of one run.

    Args:
        code: Name of the code; empty if it may differ from the recorded code.
        keys: Keys by their tags, the newest last.
    """

    code: str = ""
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def of_text(self, text: str) -> str:
        """Hash the `data_text` of facts that the op's own entry shows."""
        return f"{self.code}.{_hash(text)}"

    def of_arguments(self, text: str, recorded: str | None) -> str | None:
        """Hash a step's arguments with the key of the recorded hash; None if that key is missing."""
        tag = _tag_in(recorded) or (tuple(self.keys)[-1] if self.keys else "")
        key = self.keys.get(tag)
        if key is None:
            return None
        return f"{self.code}.{tag}.{_hash(text, key)}"


NOT_HASHED = AskedHashes()


def compare(recorded: str | None, met: str | None) -> Comparison:
    """Compare two hashes of one op. A missing hash, or two keys, counts as the same."""
    if recorded is None or met is None or recorded == met:
        return Comparison.SAME
    then, _, said = recorded.partition(".")
    now, _, asks = met.partition(".")
    if said == asks or _tag_in(recorded) != _tag_in(met):
        return Comparison.SAME
    return Comparison.DIFFERENT if then == now else Comparison.DRIFT


def key_tag(key: bytes) -> str:
    """Return a key's tag."""
    return _text(hashlib.blake2b(b"tag", key=key, digest_size=TAG_BYTES).digest())


def data_text(value: Any) -> str:
    """Return JSON text that is equal for equal data."""
    return _ENCODER.encode(value)


def differing(recorded: Mapping[str, Any], met: Mapping[str, Any]) -> tuple[str, str] | None:
    """Describe the first difference of two requests, each as `subject "…"`; None if they show none.

    Args:
        recorded: The shown parts of the recorded op, by name.
        met: The shown parts of the code's request; parts that are None are not compared.
    """
    for name, value in met.items():
        then, now = (_shown(one) for one in (recorded.get(name), value))
        if value is not None and then != now:
            start = max(0, _common(then, now) - SHOWN_CHARS // 2)
            return f"{name} {_cut(then, start)}", f"{name} {_cut(now, start)}"
    return None


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _cut(text: str, start: int) -> str:
    head, tail = "…" if start else "", "…" if len(text) > start + SHOWN_CHARS else ""
    return f"{head}{text[start : start + SHOWN_CHARS]}{tail}"


def _tag_in(asked: str | None) -> str | None:
    parts = asked.split(".") if asked is not None else ()
    return parts[1] if len(parts) == 3 else None


def _hash(text: str, key: bytes = b"") -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return _text(hashlib.blake2b(raw, key=key, digest_size=HASH_BYTES).digest())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()
