"""Rules that would answer waits, tried on what people have answered: how often they say the same, and where not.

A rule is a filter with an answer, or a Python function that is given a wait and gives an answer, or None to leave it
alone. Nothing here answers anything: a rule is only ever compared with past answers.

```python
from helmr import Client, rules

small = rules.rule("stream:refund tag:small", {"decision": "approve"})
tried = rules.back_test(Client(), small, since="30d")
```
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_core import PydanticSerializationError, to_jsonable_python

from helmr import durations, filters, jsonio, safe_text
from helmr.durations import Duration
from helmr.errors import BadDefinition, BadJson, UsageError
from helmr.models import AnswerMode, WaitInfo, WaitStatus, shown_fields
from helmr.models.common import Wire
from helmr.profiles import parse_toml

if TYPE_CHECKING:
    from helmr.client import Client

RULE_BYTES_MAX = 1024 * 1024
SHOWN_MAX = 50
"""Differences that a notebook lists; the object has all."""

_PEOPLE = (AnswerMode.PERSON, AnswerMode.LINK)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Rule:
    """Which waits would be answered, and with what.

    Attributes:
        name: What it is called in reports.
        answer: The answer to a wait as it was when it opened, as JSON values or what pydantic makes such of; None
            leaves the wait alone.
        compare: The fields of an answer that count; without any, all of it does.
    """

    name: str
    answer: Callable[[WaitInfo], Any]
    compare: tuple[str, ...] = ()


class Difference(Wire):
    """A wait that the rule answers otherwise than was answered."""

    wait_id: str
    session_id: str
    subject: str | None = None
    said: Any = None
    said_by: str | None = None
    said_at: datetime | None = None
    rule_says: Any = None


class Failure(Wire):
    """A wait at which the rule failed."""

    wait_id: str
    error: str


class BackTest(Wire):
    """How a rule did on the past.

    `same`, `differences`, `failures` and `left_alone` are together all that was looked at. `not_by_people` was not:
    answers by programs and by defaults of escalations.
    """

    rule: str
    since: datetime
    compare: list[str] = Field(default_factory=list)
    same: int = 0
    left_alone: int = 0
    not_by_people: int = 0
    unreadable: int = 0
    """Waits whose stored entries can't be read."""
    differences: list[Difference] = Field(default_factory=list)
    """Newest answer first."""
    failures: list[Failure] = Field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many waits the rule has an answer for."""
        return self.same + len(self.differences)

    @property
    def agreement(self) -> float | None:
        """Which part of its answers people gave too, from 0 to 1; None if it has none."""
        return self.same / self.answered if self.answered else None

    def verdict(self) -> str:
        """`297 of 300 answers as people gave them (99.0 %)`."""
        if self.agreement is None:
            return "the rule answers none of these waits"
        # Rounded down: 99.97 % with three differences is not all.
        part = int(self.agreement * 1000) / 10
        return f"{self.same} of {self.answered} answers as people gave them ({part} %)"

    def _repr_html_(self) -> str:
        facts = {
            "since": self.since,
            "fields compared": self.compare,
            "left alone": self.left_alone,
            "not by people": self.not_by_people or None,
            "unreadable": self.unreadable or None,
            "failed": len(self.failures) or None,
        }
        shown = self.differences[:SHOWN_MAX]
        rows = [(one.wait_id, one.subject, one.said, one.said_by, one.rule_says) for one in shown]
        table = safe_text.table(
            ("wait", "subject", "people said", "by", "rule says"),
            rows,
            more=len(self.differences) - len(shown),
        )
        return safe_text.card(f"{self.rule}: {self.verdict()}", facts) + (table if rows else "")


def rule(filter: str, answer: Any, *, compare: Iterable[str] = (), name: str = "") -> Rule:
    """The same answer for all waits that pass a filter.

    Args:
        filter: As in the console; `due` and `age` count from the wait's opening.
        answer: JSON, not null.
        compare: The fields of an answer that count; without any, all of it does.
        name: What it is called in reports.

    Raises:
        BadFilter: The filter can't be read.
        UsageError: It asks for what is not recorded, or the answer is none.
    """
    wanted = filters.parse(filter, filters.WAIT_FIELDS)
    if any(term.field in ("is", "claimed", "batch") for term in wanted.terms):
        raise UsageError(
            "a rule's filter can't use is:, claimed: or batch:",
            hint="They say what was done with a wait, not what it asks.",
        )
    if answer is None:
        raise UsageError("a rule needs an answer other than null")
    given = _as_json(answer)

    def decide(wait: WaitInfo) -> Any:
        facts = filters.wait_facts(wait, wait.opened_at)
        return given if wanted.matches(facts, wait.opened_at) else None

    return Rule(
        name or f"{wanted.spell() or 'every wait'} → {_text(given)}", decide, _names(compare)
    )


def read_rule(text: str, *, compare: Iterable[str] = (), folder: Path | None = None) -> Rule:
    """The rule that a text names.

    Args:
        text: JSON `{"filter": …, "answer": …, "compare": […]}`, a file of that (`.json`, `.toml`), or `module:function`
            or `file.py:function`.
        compare: Fields that count in place of those that the rule names.
        folder: Where files and modules are looked for; without it the working folder.

    Raises:
        UsageError, BadFilter: It can't be read; says what is wrong.
    """
    folder = folder if folder is not None else Path.cwd()
    text, compare = text.strip(), _names(compare)
    if text.startswith("{"):
        return _rule_of(_parsed(text.encode("utf-8"), ".json", "the rule"), "the rule", compare)
    if text.endswith((".json", ".toml")):
        path = folder / text
        return _rule_of(_parsed(_read(path), path.suffix, text), text, compare)
    module, colon, function = text.rpartition(":")
    if not colon or not module or not function.isidentifier():
        raise UsageError(
            f"{text[:80]!r} is not a rule",
            hint='{"filter": …, "answer": …}, a .json or .toml file of that, or module:function.',
        )
    return Rule(text, _function(module, function, folder), compare)


def back_test(
    client: Client,
    rule: Rule | Callable[[WaitInfo], Any],
    *,
    since: Duration | datetime = "30d",
    filter: str = "",
    programs: bool = False,
) -> BackTest:
    """Hold a rule against what was answered. Reads, and answers nothing.

    Args:
        client: Of the runtime whose waits they are. Each wait that passes `filter` is read in full, one call each.
        rule: A rule, or its function.
        since: Answered at most this long ago, or at this time or later.
        filter: Look at these waits only.
        programs: Count answers by programs too. Those by an escalation's default never count.

    Raises:
        BadFilter, BadDuration: One of them can't be read.
    """
    if isinstance(since, datetime):
        begin = since if since.tzinfo is not None else since.astimezone()
    else:
        now = datetime.now(UTC)  # noqa: TID251 - says which past is meant, decides nothing
        begin = now - timedelta(seconds=durations.seconds(since))
    scope = filters.parse(filter, filters.WAIT_FIELDS)
    listed = client.waits.list(status=WaitStatus.FULFILLED.value, resolved_since=begin, limit=200)
    passing = (
        wait
        for wait in listed
        if scope.matches(filters.wait_facts(wait, wait.opened_at), wait.opened_at)
    )
    found: list[WaitInfo] = []
    others = 0
    for wait in passing:
        if wait.mode in _PEOPLE or (programs and wait.mode is AnswerMode.PROGRAM):
            found.append(client.waits.get(wait.id) if wait.problem is None else wait)
        else:
            others += 1
    held = rule if isinstance(rule, Rule) else Rule(getattr(rule, "__name__", "the rule"), rule)
    tried = judge(held, found, since=begin)
    return tried.model_copy(update={"not_by_people": others})


def judge(rule: Rule, waits: Iterable[WaitInfo], *, since: datetime) -> BackTest:
    """Hold a rule against waits in full that are fulfilled; asks no one."""
    same = left_alone = unreadable = 0
    differences: list[Difference] = []
    failures: list[Failure] = []
    for wait in waits:
        if wait.problem is not None:
            unreadable += 1
            continue
        try:
            says = _as_json(rule.answer(_as_opened(wait)))
        except Exception as error:  # noqa: BLE001 - whatever a rule raises is a finding about the rule
            failures.append(Failure(wait_id=wait.id, error=f"{type(error).__name__}: {error}"))
            continue
        if says is None:
            left_alone += 1
        elif _agree(says, wait.answer, rule.compare):
            same += 1
        else:
            differences.append(_difference(wait, says))
    differences.sort(key=lambda one: (one.said_at or since, one.wait_id), reverse=True)
    return BackTest(
        rule=rule.name,
        since=since,
        compare=list(rule.compare),
        same=same,
        left_alone=left_alone,
        unreadable=unreadable,
        differences=differences,
        failures=failures,
    )


def _as_opened(wait: WaitInfo) -> WaitInfo:
    """The wait as who answers sees it: a rule that could read the answer would be right about all of them."""
    unknown: dict[str, Any] = {name: None for name, said in shown_fields(WaitInfo) if said.at_end}
    unknown |= {"status": WaitStatus.PENDING, "claim": None}
    return wait.model_copy(update=unknown, deep=True)


def _difference(wait: WaitInfo, says: Any) -> Difference:
    return Difference(
        wait_id=wait.id,
        session_id=wait.session_id,
        subject=wait.subject,
        said=wait.answer,
        said_by=wait.resolved_by.label if wait.resolved_by is not None else None,
        said_at=wait.resolved_at,
        rule_says=says,
    )


def _agree(one: Any, other: Any, compare: Sequence[str]) -> bool:
    if not compare:
        return _is_same(one, other)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    return all(_is_same(one.get(key, _MISSING), other.get(key, _MISSING)) for key in compare)


def _is_same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, true and 1 are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _as_json(value: Any) -> Any:
    """The JSON values of an answer.

    Raises:
        UsageError: It has none.
    """
    try:
        found = to_jsonable_python(value, by_alias=True, inf_nan_mode="constants")
        return jsonio.loads(json.dumps(found, ensure_ascii=False))
    except (PydanticSerializationError, BadJson, ValueError, RecursionError) as error:
        raise UsageError(f"the answer is not JSON: {error}") from error


def _names(compare: Iterable[str]) -> tuple[str, ...]:
    return (compare,) if isinstance(compare, str) else tuple(compare)


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


# --- rules that are read --------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(RULE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"the rule {path} can't be read: {error.strerror}") from error
    if len(raw) > RULE_BYTES_MAX:
        raise UsageError(f"the rule {path} has more than {RULE_BYTES_MAX} bytes")
    return raw


def _parsed(raw: bytes, suffix: str, what: str) -> Any:
    try:
        return jsonio.loads(raw) if suffix == ".json" else parse_toml(raw, what)
    except BadJson as error:
        raise UsageError(f"{what} is not JSON: {error.message}") from error


def _rule_of(parts: Any, what: str, compare: tuple[str, ...]) -> Rule:
    if not isinstance(parts, dict):
        raise UsageError(f"{what} is not an object", hint='{"filter": …, "answer": …}')
    unknown = sorted(parts.keys() - {"filter", "answer", "compare"})
    if unknown:
        raise UsageError(
            f"{what} has {unknown[0]!r}, which is not part of a rule",
            hint="A rule has filter, answer and compare.",
        )
    named = parts.get("compare", [])
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UsageError(f"{what}: compare must be a list of field names")
    if not isinstance(parts.get("filter"), str) or parts.get("answer") is None:
        raise UsageError(f"{what} needs a filter, which is a text, and an answer other than null")
    name = "" if what == "the rule" else what
    return rule(parts["filter"], parts["answer"], compare=compare or tuple(named), name=name)


def _function(module: str, name: str, folder: Path) -> Callable[[WaitInfo], Any]:
    found = getattr(_module(module, folder), name, None)
    if found is None:
        raise UsageError(f"{module} has no function {name}")
    if not callable(found) or inspect.iscoroutinefunction(found):
        is_what = "async" if callable(found) else "no function"
        raise UsageError(
            f"{module}:{name} is not a rule: it is {is_what}",
            hint="A rule is a function that takes a wait and gives an answer, or None.",
        )
    checked: Callable[[WaitInfo], Any] = found
    return checked


def _module(module: str, folder: Path) -> ModuleType:
    """A module by its name, found from the folder too, or by its file."""
    try:
        if not module.endswith(".py"):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return importlib.import_module(module)
        path = (folder / module).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise UsageError(f"there is no file {path}")
        made = importlib.util.module_from_spec(spec)
        # Its models look for the names in their annotations there.
        sys.modules.setdefault(path.stem, made)
        spec.loader.exec_module(made)
        return made
    except (UsageError, BadDefinition):
        raise
    except Exception as error:
        raise UsageError(f"{module} can't be imported: {type(error).__name__}: {error}") from error
