"""The filter grammar: what an operator types after `/` in the console and after `--filter` in the CLI.

```
approval                    a word found anywhere, case-insensitively; "two words" in quotes
stream:approval             a field equal to a value; kind:input,token any of several; task:pub* a prefix
-stream:chat                not
due<10m  due>1h  age>2d     time left and time since
is:mine  is:unassigned      of waits: assigned to oneself or claimed by oneself; assigned to no one
is:answerable               of waits: you may answer it, and have not, if you are signed in as a person
is:claimed  claimed:mia     someone has claimed it; mia has
is:snoozed  is:draft        of waits: snoozed by oneself; an answer was begun on this machine
facts.risk:low              of waits that a rule looks at: a fact of the evidence, as it is shown
facts.amount<50             such a fact that is a number
is:failed  is:blocked       of sessions: open, and their newest run failed; is blocked
run:failed                  of sessions: the newest run's status, also of those that are over
error:TimeoutError          of sessions: the type, code or message of the newest run's error
```

Words stand side by side and all must hold. A name and a colon are a field. An unknown field is an error, because a typo
would show an empty inbox as if nothing waited. Quote a text with a colon, such as the correlation id
`github:acme/api#2204`, or write it after `correlation:`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from helmr.errors import BadDuration, BadFilter
from helmr.models import (
    Activity,
    RunStatus,
    SessionInfo,
    SessionStatus,
    WaitInfo,
    WaitKind,
    WaitPriority,
    WaitsQuery,
    shown_fields,
)
from helmr.models.evidence import value_text
from helmr.wire import durations
from helmr.wire.people import person_key

FILTER_TEXT_MAX = 1_000
TERMS_MAX = 32

EVIDENCE = "facts."
"""Begins the name of a field that is a fact of the evidence."""

Fact = str | tuple[str, ...] | datetime | None
Facts = Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one kind of row.

    `times` maps a time field to its fact, and to True if it counts ahead (`due`) or False if back (`age`). `pushed`
    maps a field to the list parameter of the HTTP API that filters by the same equality. `words` and `values` map a
    field to its only values; a search of every text finds `values`, but not `words`. `pushed_words` maps a word after
    `is:` to the list parameters with the same meaning. `has_evidence` adds a field for each fact of a wait's evidence.
    """

    noun: str
    texts: tuple[str, ...]
    times: Mapping[str, tuple[str, bool]]
    pushed: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pushed_words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    has_evidence: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All fields, for messages and the palette."""
        return (*self.texts, *self.times, *((f"{EVIDENCE}NAME",) if self.has_evidence else ()))

    def is_evidence(self, name: str) -> bool:
        """True if the field is a fact of the evidence."""
        return self.has_evidence and name.startswith(EVIDENCE) and name != EVIDENCE


_OF_WAITS: Mapping[str, str] = {
    said.find: name for name, said in shown_fields(WaitInfo) if said.find is not None
}
"""The words of fields of a wait that are compared as they are, and the fields."""

WAIT_FIELDS = Fields(
    noun="wait",
    texts=(*_OF_WAITS, "tag", "claimed", "is"),
    times={"due": ("ends_at", True), "age": ("opened_at", False)},
    pushed={
        **{word: name for word, name in _OF_WAITS.items() if name in WaitsQuery.model_fields},
        "session": "session",
        "tag": "tag",
    },
    words={"is": ("mine", "unassigned", "answerable", "claimed", "snoozed", "draft")},
    values={
        "kind": tuple(kind.value for kind in WaitKind),
        "priority": tuple(priority.value for priority in WaitPriority),
    },
)
RULE_FIELDS = replace(WAIT_FIELDS, has_evidence=True)
"""Those of a wait that is read in full: lists leave out the evidence."""

SESSION_FIELDS = Fields(
    noun="session",
    texts=(
        "id",
        "external",
        "task",
        "status",
        "activity",
        "tag",
        "stream",
        "correlation",
        "subject",
        "run",
        "error",
        "is",
    ),
    times={
        "due": ("ends_at", True),
        "age": ("created_at", False),
        "quiet": ("updated_at", False),
    },
    pushed={
        "external": "external_id",
        "task": "task",
        "status": "status",
        "activity": "activity",
        "tag": "tag",
        "run": "run_status",
    },
    words={
        "is": ("failed", "blocked"),
        "run": tuple(status.value for status in RunStatus),
    },
    values={
        "status": tuple(status.value for status in SessionStatus),
        "activity": tuple(activity.value for activity in Activity),
    },
    pushed_words={
        "failed": {"run_status": RunStatus.FAILED.value, "status": SessionStatus.OPEN.value},
        "blocked": {"activity": Activity.BLOCKED.value},
    },
)


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a filter. `field` None searches every text; `op` is one of `:`, `<`, `>`."""

    values: tuple[str, ...]
    field: str | None = None
    op: str = ":"
    negated: bool = False
    bound_s: float = 0.0

    def spell(self, fields: Fields) -> str:
        """The term as it would be typed, with as few quotes as possible."""
        quoted = [f'"{value}"' for value in self.values]
        some = [_quote(value) for value in self.values]
        words = [self._word(values) for values in (self.values, some, quoted)]
        return next((word for word in words if _reads_as(word, self, fields)), words[1])

    def _word(self, values: Sequence[str]) -> str:
        head = f"{self.field}{self.op}" if self.field is not None else ""
        return f"{'-' if self.negated else ''}{head}{','.join(values)}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter; empty, it lets everything pass."""

    fields: Fields
    terms: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.terms)

    def matches(self, facts: Facts, now: datetime) -> bool:
        """Return True when a row with these facts passes at that time."""
        return all(self._holds(term, facts, now) != term.negated for term in self.terms)

    @property
    def asks_who(self) -> bool:
        """True when it holds `is:mine`, which needs the name of a person."""
        return self.says("mine")

    def says(self, word: str) -> bool:
        """Return True when it holds `is:` with this word, negated or not."""
        return any(
            term.field == "is" and word in (value.lower() for value in term.values)
            for term in self.terms
        )

    def spell(self) -> str:
        """The filter as it would be typed, one space between terms."""
        return " ".join(term.spell(self.fields) for term in self.terms)

    def pushed(self, *, texts: bool = True) -> dict[str, str]:
        """Return the list parameters that the gateway filters by; the client filters by the rest.

        Args:
            texts: Include fields of free text, which the gateway matches by exact spelling only.
        """
        found: dict[str, str] = {}
        for term in self.terms:
            if term.negated or term.op != ":" or len(term.values) != 1:
                continue
            value = term.values[0]
            if term.field == "is":
                found |= self.fields.pushed_words.get(value.lower(), {})
            elif (
                term.field is not None
                and term.field in self.fields.pushed
                and not value.endswith("*")
            ):
                fixed = term.field in self.fields.values or term.field in self.fields.words
                if fixed or texts:
                    found[self.fields.pushed[term.field]] = value.lower() if fixed else value
        return found

    def _holds(self, term: Term, facts: Facts, now: datetime) -> bool:
        if term.field is None:
            needle = term.values[0].casefold()
            searched = tuple(one for one in self.fields.texts if one not in self.fields.words)
            return any(needle in text.casefold() for text in _texts(facts, searched))
        if term.field in self.fields.times:
            return self._within(term, facts, now)
        if term.op != ":":
            number, bound = _number(facts.get(term.field)), _number(term.values[0])
            if number is None or bound is None:
                return False
            return number < bound if term.op == "<" else number > bound
        found = tuple(_texts(facts, (term.field,)))
        is_same = _is_as_fact if self.fields.is_evidence(term.field) else _equal
        return any(is_same(value, text) for value in term.values for text in found)

    def _within(self, term: Term, facts: Facts, now: datetime) -> bool:
        fact, ahead = self.fields.times[term.field or ""]
        moment = facts.get(fact)
        if not isinstance(moment, datetime):
            return term.values == ("none",) and term.op == ":"
        if term.op == ":":
            return False
        distance_s = (moment - now).total_seconds() * (1 if ahead else -1)
        return distance_s < term.bound_s if term.op == "<" else distance_s > term.bound_s


def parse(text: str, fields: Fields) -> Filter:
    """Read a filter.

    Raises:
        BadFilter: Names the word that can't be read and says what could stand there.
    """
    if len(text) > FILTER_TEXT_MAX:
        raise BadFilter(f"the filter is longer than {FILTER_TEXT_MAX} characters")
    terms = tuple(_term(word, fields) for word in _words(text))
    if len(terms) > TERMS_MAX:
        raise BadFilter(f"the filter has more than {TERMS_MAX} words")
    return Filter(fields, terms)


def wait_facts(
    wait: WaitInfo,
    now: datetime,
    me: str | None = None,
    *,
    snoozed: bool = False,
    drafted: bool = False,
) -> Facts:
    """Return the facts of a wait that `WAIT_FIELDS` filter by, at that time.

    Args:
        wait: The wait.
        now: The time; a claim that ended before it does not count.
        me: The person who looks at the waits.
        snoozed: True if that person snoozed it.
        drafted: True if an answer to it was begun here.
    """
    claim = wait.claim if wait.claim is not None and now < wait.claim.until else None
    is_mine = bool(wait.is_mine) or (
        me is not None
        and (
            me in (wait.assignee, claim and claim.on_behalf_of) or person_key(me) in wait.answerers
        )
    )
    said = {
        "mine": is_mine,
        "unassigned": wait.assignee is None,
        "answerable": bool(wait.can_answer),
        "claimed": claim is not None,
        "snoozed": snoozed,
        "draft": drafted,
    }
    return {
        **{word: _fact(getattr(wait, name)) for word, name in _OF_WAITS.items()},
        "tag": (*wait.tags, *wait.session_tags),
        "claimed": claim.label if claim is not None else None,
        "is": tuple(word for word, holds in said.items() if holds),
        "ends_at": wait.ends_at,
        "opened_at": wait.opened_at,
    }


def evidence_facts(wait: WaitInfo) -> Facts:
    """Return the facts of its evidence as `RULE_FIELDS` filter by them: as they are shown."""
    said = wait.evidence.facts if wait.evidence is not None else {}
    return {f"{EVIDENCE}{name}": value_text(value) for name, value in said.items()}


_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)


def _number(said: Fact) -> Decimal | None:
    """Return the number that a text is; None for any other text."""
    if not isinstance(said, str) or _NUMBER.fullmatch(said) is None:
        return None
    return Decimal(said)


def _fact(value: Any) -> Fact:
    return value.value if isinstance(value, Enum) else value  # type: ignore[no-any-return]


def is_failed(session: SessionInfo) -> bool:
    """An open session whose newest run failed: it can be retried."""
    is_open = session.status is SessionStatus.OPEN
    return is_open and session.run_status is RunStatus.FAILED


def session_facts(session: SessionInfo) -> Facts:
    """Return the facts of a session that `SESSION_FIELDS` filter by."""
    wait = session.wait
    said = {"failed": is_failed(session), "blocked": session.activity is Activity.BLOCKED}
    return {
        "id": session.id,
        "external": session.external_id,
        "task": session.task,
        "status": session.status.value,
        "activity": session.activity.value,
        "tag": tuple(session.tags),
        "stream": wait.stream if wait else None,
        "correlation": wait.correlation_id if wait else None,
        "subject": wait.subject if wait else None,
        "run": session.run_status.value if session.run_status is not None else None,
        "error": _error_facts(session),
        "is": tuple(word for word, holds in said.items() if holds),
        "ends_at": wait.ends_at if wait else None,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }


def _error_facts(session: SessionInfo) -> tuple[str, ...]:
    """Return type, code and message of the newest run's error; empty without one."""
    error = session.error
    return () if error is None else tuple(filter(None, (error.type, error.code, error.message)))


_HEAD = re.compile(r"(-?)([A-Za-z][A-Za-z0-9_.-]{0,127})([:<>])(.*)", re.DOTALL)
"""Matches a name and a colon, whether a field of that name exists or not."""


def _words(text: str) -> Iterator[str]:
    """Split at spaces outside double quotes; quotes stay, so that a quoted word is known as one."""
    word, quoted = "", False
    for char in text:
        if char == '"':
            quoted = not quoted
        if char.isspace() and not quoted:
            if word:
                yield word
            word = ""
        else:
            word += char
    if quoted:
        raise BadFilter("a quote is not closed", hint='Close it with ".')
    if word:
        yield word


def _term(word: str, fields: Fields) -> Term:
    head = _HEAD.fullmatch(word)
    if head is not None:
        sign, name, op, rest = head.groups()
        if name in fields.names or fields.is_evidence(name):
            return _field_term(word, name, op, rest, negated=bool(sign), fields=fields)
        raise _unknown_field(word.removeprefix("-"), name, op, fields)
    negated = word.startswith("-") and len(word) > 1
    value = _unquote(word[1:] if negated else word)
    if not value:
        raise BadFilter("an empty word filters nothing")
    return Term((value,), negated=negated)


def _unknown_field(text: str, name: str, op: str, fields: Fields) -> BadFilter:
    """The refusal of a name that is not a field; it says how a pasted text with a colon is searched for."""
    close = difflib.get_close_matches(name.lower(), fields.names, n=1, cutoff=0.75)
    guess = f"Did you mean {close[0]}{op}? " if close else ""
    text = text.replace('"', "")
    return BadFilter(
        f"{name}{op} is not a field of a {fields.noun}",
        hint=f'{guess}As text: "{text}". Fields: {", ".join(fields.names)}.',
        field=name,
        fields=list(fields.names),
    )


def _field_term(word: str, name: str, op: str, rest: str, *, negated: bool, fields: Fields) -> Term:
    if name in fields.times:
        if op == ":" and rest == "none":
            return Term(("none",), name, op, negated)
        if op == ":":
            raise BadFilter(f"{word!r}: {name} is a time", hint=f"Write {name}<10m or {name}>1h.")
        try:
            return Term((rest,), name, op, negated, durations.seconds(rest, allow_zero=True))
        except BadDuration as error:
            raise BadFilter(f"{word!r}: {error.message}", hint=error.hint) from error
    if op != ":" and fields.is_evidence(name):
        if _number(rest) is None:
            raise BadFilter(f"{word!r}: {rest!r} is not a number", hint=f"Write {name}<50.")
        return Term((rest,), name, op, negated)
    if op != ":":
        raise BadFilter(f"{word!r}: {name} is a text", hint=f"Write {name}:value.")
    if not rest.startswith('"') and name != "correlation":
        _check_glued(name, rest, fields)
    values = (rest,) if rest.startswith('"') or name == "correlation" else tuple(rest.split(","))
    values = tuple(_unquote(value) for value in values if value)
    if not values:
        raise BadFilter(f"{word!r} has no value", hint=f"Write {name}:value.")
    _check_values(name, values, fields)
    return Term(values, name, op, negated)


def _check_glued(name: str, rest: str, fields: Fields) -> None:
    """Refuse a value that ends in a filter of its own, such as `fiveis:draft`.

    Raises:
        BadFilter: A space or quotes are missing.
    """
    before, colon, value = rest.rpartition(":")
    if not colon:
        return
    for other, known in {**fields.words, **fields.values}.items():
        if before.endswith(other) and before != other and value.lower() in known:
            first = before.removesuffix(other)
            raise BadFilter(
                f"{other}:{value} is glued to the value of {name}",
                hint=f'Write {name}:{first} {other}:{value}, or as one value {name}:"{rest}".',
            )


def _check_values(name: str, values: Sequence[str], fields: Fields) -> None:
    """Refuse values that the field can't have.

    Raises:
        BadFilter: A value is unknown; the hint lists the known ones, and the field that has it.
    """
    fixed = {**fields.words, **fields.values}
    known = fixed.get(name)
    if known is None:
        return
    for value in values:
        if any(_equal(value, one) for one in known):
            continue
        guesses = [f"{other}:{value}" for other, words in fixed.items() if value.lower() in words]
        guesses += [f"{name}:{one}" for one in difflib.get_close_matches(value.lower(), known, n=1)]
        guess = f"Did you mean {guesses[0]}? " if guesses else ""
        raise BadFilter(
            f"{value!r} is not a value of {name!r}", hint=f"{guess}One of {', '.join(known)}."
        )


def _texts(facts: Facts, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = facts.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value


def _equal(value: str, text: str) -> bool:
    if value.endswith("*"):
        return text.casefold().startswith(value[:-1].casefold())
    return text.casefold() == value.casefold()


def _is_as_fact(value: str, text: str) -> bool:
    """Equal as texts or as numbers: 50 is 50.0."""
    number = _number(value)
    return _equal(value, text) or (number is not None and number == _number(text))


def _quote(value: str) -> str:
    return f'"{value}"' if re.search(r'[\s"]', value) else value


def _reads_as(word: str, term: Term, fields: Fields) -> bool:
    try:
        return [_term(one, fields) for one in _words(word)] == [term]
    except BadFilter:
        return False


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
