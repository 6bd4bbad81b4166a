"""A run's place in its journal: the ops that its code has asked for, the next outcomes, and any difference.

A `JournalCursor` belongs to one `RunDriver` and knows neither loop nor thread; only `add` is called from outside.
Requests are compared by a hash (S-126). A step's arguments are hashed as text, which is equal for equal values in every
process: never a `repr`, never an address. Invariants: S-30 (ops are numbered in the order asked, outcomes come in the
order recorded, time and random numbers follow from the place), S-31 (a difference names op, recorded and met).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from importlib import metadata
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Any
from uuid import UUID

import pydantic
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from helmr.errors import NondeterminismError
from helmr.errors.base import ASKED_HINT
from helmr_runtime.core.requests import (
    NOT_HASHED,
    AskedHashes,
    Comparison,
    OpRequest,
    StepRequest,
    answered_otherwise,
    compare,
    data_text,
    differing,
)
from helmr_runtime.replay.replay_log import GivenUp, Line, Outcome, ReplayLog, shown_in


class JournalCursor:
    """The place of one run, from its first op on.

    Attributes:
        known_at: The latest time that the code can know of, the same in every replay.
        given_up: Ops that the code has cancelled by now.
        knows_attempt: The code has read the number of its attempt, which is not the first.
        drift: Op → (request of the other code, request of this one), for each op that differs.
    """

    def __init__(
        self,
        draws_from: str,
        replay_log: ReplayLog,
        began_at: datetime,
        hashes: AskedHashes = NOT_HASHED,
    ) -> None:
        self.known_at = began_at
        self.given_up: set[int] = set()
        self._passed = 0
        self._draws_from = draws_from
        self._replay_log = replay_log
        self._lines: deque[Line] = deque(replay_log.lines)
        self._log_left = len(replay_log.lines)
        self._op = 0
        self._draws = 0
        self._asked: set[int] = set()
        self._op_max = max(replay_log.opened, default=0)
        self._patches = set(replay_log.patches)
        self._hashes = hashes
        self._names: dict[str, str] = {}
        self.knows_attempt = False
        self.drift: dict[int, tuple[str, str]] = {}
        self._drift_told = 0

    @property
    def op(self) -> int:
        """The newest op, 0 before the first."""
        return self._op

    @property
    def is_replaying(self) -> bool:
        """Recorded outcomes are being delivered again."""
        return self._log_left > 0

    @property
    def has_been_here(self) -> bool:
        """The journal holds an outcome or an op after this place."""
        return self.is_replaying or self._op < self._op_max

    @property
    def is_exhausted(self) -> bool:
        """No op is left to ask for, give up or deliver."""
        return not self._lines

    @property
    def progress(self) -> int:
        """A count that rises with each delivered outcome, and within the journal with each op asked for."""
        return self._passed + (0 if self.is_exhausted else self._op)

    def next_op(self) -> int:
        """The number of the op that the code asks for now."""
        self._op += 1
        self._draws = 0
        self._asked.add(self._op)
        return self._op

    def draw(self) -> bytes:
        """Return 32 bytes that are the same at this place in every replay, and differ between draws."""
        self._draws += 1
        return hashlib.sha256(f"{self._draws_from}|{self._op}|{self._draws}".encode()).digest()

    def patched(self, name: str) -> tuple[bool, bool]:
        """Return (the code takes a patch's new way here, this is new and must be recorded) (S-88)."""
        place = (self._op, name)
        if place in self._patches:
            return True, False
        if self._op < self._op_max:
            return False, False
        self._patches.add(place)
        return True, True

    # --- what comes next ------------------------------------------------------------------------

    def add(self, outcome: Outcome) -> None:
        """Add an outcome that was just recorded, after all others."""
        self._lines.append(outcome)

    def next_outcome(self) -> Outcome | None:
        """Go on to the next outcome; None if the code must first ask for an op or give one up."""
        while self._lines:
            line = self._lines[0]
            if not self._is_passed(line):
                return None
            self._lines.popleft()
            self._log_left = max(0, self._log_left - 1)
            self._passed += 1
            if isinstance(line, Outcome):
                return line
        return None

    def _is_passed(self, line: Line) -> bool:
        if isinstance(line, GivenUp):
            return line.op in self.given_up
        return line.op in self._asked

    # --- where code and journal differ ------------------------------------------------------------

    def name(self, given: str) -> None:
        """Hash this text under a name of its own wherever an op asks with it.

        Links and secrets that Helmr gave the code differ in a fork, in a dry run or check, and behind another external
        URL, although the code does the same with them.
        """
        self._names.setdefault(given, f"<given {len(self._names) + 1}>")

    def holds_given(self, value: Any) -> bool:
        """True if the JSON holds a link or secret that Helmr gave the code."""
        text = json.dumps(value, ensure_ascii=False) if self._names else ""
        return any(given in text for given in self._names)

    def _named(self, text: str) -> str:
        for given, name in self._names.items():
            text = text.replace(given, name)
        return text

    def hashed(self, op: int, ask: OpRequest) -> OpRequest:
        """Return the request with its hash; a new op also reports the drift before it."""
        opening = self._replay_log.openings.get(op, {})
        drift: tuple[int, ...] = ()
        if not self.is_recorded(op):
            drift = tuple(sorted(self.drift))[self._drift_told :]
            self._drift_told = len(self.drift)
        asked = None
        if isinstance(ask, StepRequest) and ask.arguments is not None:
            asked = self._hashes.of_arguments(self._named(ask.arguments), opening.get("asked"))
        elif (parts := ask.compared) is not None:
            asked = self._hashes.of_text(self._named(data_text(parts)))
        return replace(ask, asked=asked, drift=drift) if asked is not None or drift else ask

    def is_recorded(self, op: int) -> bool:
        """The journal holds this op."""
        return op in self._replay_log.opened

    def holds_next(self, ask: OpRequest) -> bool:
        """True if the journal holds this request as the next op: an earlier release may have accepted it."""
        recorded = self._replay_log.opened.get(self._op + 1)
        return recorded is not None and ask.fits(recorded)

    def difference(self, op: int, ask: OpRequest) -> NondeterminismError | None:
        """Return the error if the journal holds another op here than the code asks for."""
        recorded = self._replay_log.opened.get(op)
        if recorded is None:
            return None
        if not ask.fits(recorded):
            return NondeterminismError(op=op, recorded=recorded, met=str(ask))
        opening = self._replay_log.openings[op]
        compared = compare(opening.get("asked"), ask.asked)
        if compared is Comparison.SAME:
            rules = answered_otherwise(opening, ask)
            if rules is not None:  # the wait keeps its rule as opened
                self.drift[op] = (f"{recorded} is answered {rules[0]}", rules[1])
            return None
        texts = _told_apart(recorded, opening, ask)
        # Requests of a fork's origin may name its session; those of an earlier attempt, its number.
        may_differ = self.knows_attempt or "copied_from" in opening
        if compared is Comparison.DIFFERENT and not may_differ:
            return NondeterminismError(op=op, recorded=texts[0], met=texts[1], hint=ASKED_HINT)
        self.drift[op] = texts
        return None

    def unasked(self, met: str) -> NondeterminismError | None:
        """Return the error for the first op in the journal that the code has not asked for; None if it asked for
        all."""
        op = min((op for op in self._replay_log.opened if op not in self._asked), default=None)
        if op is None:
            return None
        return NondeterminismError(op=op, recorded=self._replay_log.opened[op], met=met)

    def awaited_in_vain(self) -> NondeterminismError | None:
        """Return the error for the request or cancellation that the journal expects next and the code won't make."""
        if not self._lines or self._is_passed(self._lines[0]):
            return None
        line = self._lines[0]
        recorded = self._replay_log.opened.get(line.op, "?")
        if isinstance(line, GivenUp):
            recorded = f"the end of {recorded}"
        met = "nothing: it awaits something that is not a durable call"
        return NondeterminismError(op=line.op, recorded=recorded, met=met)


def _told_apart(recorded: str, opening: Mapping[str, Any], ask: OpRequest) -> tuple[str, str]:
    """Describe the recorded and the met op, of one kind and name, whose requests differ."""
    if isinstance(ask, StepRequest):
        return recorded, f"{ask} with other arguments"
    texts = differing(shown_in(opening), ask.shown)
    if texts is None:
        return recorded, f"{ask} with other words than before"
    return f"{recorded} with {texts[0]}", f"{ask} with {texts[1]}"


NO_FORM = "?"
"""Placeholder of an argument without a JSON form: a client, a function, an object of the code's own."""

SINGLE = (date, time, timedelta, Decimal, Enum, IPv4Address, IPv6Address, PurePath, UUID)
"""Types that pydantic writes as one value."""


def arguments_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the arguments as text, those without a JSON form as placeholders; None if none has one."""
    found = [argument_text(one) for one in args]
    named = {name: argument_text(one) for name, one in kwargs.items()}
    if all(one == NO_FORM for one in (*found, *named.values())):
        return None
    return data_text([found, named])


def argument_text(value: Any) -> str:
    """The argument as text, the same for the same value; `NO_FORM` if it has no JSON form."""
    try:
        return _text(value)
    except Exception:  # noqa: BLE001 - an object of the task's own may raise anything when read: it has no form then
        return NO_FORM


def _text(value: Any) -> str:
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    """Return one level of a non-JSON value as JSON types; raise for unknown types."""
    if isinstance(value, BaseModel):
        return value.model_dump(warnings=False)
    if isinstance(value, set | frozenset):
        return sorted(map(_text, value))
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, SINGLE):
        return to_jsonable_python(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=_plain
)


MARK_BYTES = 3

try:
    _VERSION = metadata.version("helmr")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    _VERSION = ""

ENVIRONMENT = "|".join([*platform.python_version_tuple()[:2], pydantic.VERSION, _VERSION])
"""Versions that affect how values are read and written; other versions count as other code."""


@lru_cache(64)
def code_mark(code_hash: str) -> str:
    """Return a short name of the code and its environment."""
    said = f"{code_hash}|{ENVIRONMENT}".encode()
    return hashlib.blake2b(said, digest_size=MARK_BYTES).hexdigest()


def hashes_of(code_hash: str | None, keys: Mapping[str, bytes] | None) -> AskedHashes:
    """Return the hashes of a run that this code executes.

    Args:
        code_hash: None if the code may differ from the recorded one.
        keys: The session's keys, by their tags.
    """
    return AskedHashes(code_mark(code_hash) if code_hash is not None else "", keys or {})
