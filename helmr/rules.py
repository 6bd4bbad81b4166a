"""Rules that would answer waits, back-tested on people's past answers: how often they agree, and where they differ.

A rule is a declaration of conditions and an answer (`helmr.matching`), or a Python function that takes a wait and
returns an answer, or None to leave the wait alone. This module answers no wait: it compares rules with past answers,
and actions of the gate's rules with people's decisions on agents' calls.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_core import PydanticSerializationError, to_jsonable_python

from helmr.client.profiles import parse_toml
from helmr.errors import BadDefinition, BadJson, UsageError
from helmr.gate import CALL_TASK, FLOOD, GateAction, GatedCall, call_of
from helmr.gate.claude_code import decision_of
from helmr.matching import DeclaredRules, rules_of
from helmr.models import AnswerMode, WaitInfo, WaitStatus, shown_fields
from helmr.models.common import Wire
from helmr.person import filters
from helmr.person.forms import form_of, tool_call
from helmr.wire import durations, jsonio, safe_text
from helmr.wire.durations import Duration

if TYPE_CHECKING:
    from helmr.client import Client

RULE_BYTES_MAX = 1024 * 1024
SHOWN_MAX = 50
"""Most differences that a notebook lists; the object has all."""

_PEOPLE = (AnswerMode.PERSON, AnswerMode.LINK)
_MISSING = object()

NO_CALL = GatedCall("", "", "", {})
"""The call of a wait without one, when no rule looks at arguments."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that would answer waits.

    Attributes:
        name: Its name in reports.
        answer: Returns the answer to a wait as it was when it opened, as JSON values or as types that pydantic
            converts to JSON; None leaves the wait alone. Or declared rules, of which the first match answers.
        compare: Fields of an answer that count; empty for the whole answer.
    """

    name: str
    answer: Callable[[WaitInfo], Any] | DeclaredRules
    compare: tuple[str, ...] = ()

    def says(self, wait: WaitInfo, call: GatedCall | None) -> Saying | None:
        """Return its verdict on a wait as it was when it opened; `call` is the agent's call behind the wait."""
        if not isinstance(self.answer, DeclaredRules):
            found = _as_json(self.answer(wait))
            return None if found is None else Saying(self.name, found, self.compare)
        if call is None:
            call = _asked_by_task(wait) if self.answer.match_values else NO_CALL
        one = self.answer.first_of_wait(wait, call)
        if one is None or (one.answer is None and one.action is GateAction.ASK):
            return None
        if one.answer is None:
            return Saying(one.name, one.action.value, action=one.action)
        return Saying(one.name, one.answer, one.compare)


@dataclass(frozen=True, slots=True)
class Saying:
    """A rule's verdict on a wait: an answer, or an action of the gate."""

    rule: str
    value: Any
    compare: tuple[str, ...] = ()
    action: GateAction | None = None

    def is_as(self, answer: Any, call: GatedCall | None) -> bool:
        """Return True when people said the same; an action is compared with the decision that the agent got."""
        if self.action is None or call is None:
            return _agree(self.value, answer, self.compare)
        return decision_of(call, answer).is_allowed == (self.action is GateAction.ALLOW)


class Difference(Wire):
    """A wait that people answered differently from the rule."""

    wait_id: str
    session_id: str
    subject: str | None = None
    said: Any = None
    said_by: str | None = None
    said_at: datetime | None = None
    rule: str | None = None
    """Name of the rule that differs, of several."""
    rule_says: Any = None


class Failure(Wire):
    """A wait at which the rule failed."""

    wait_id: str
    error: str


class BackTest(Wire):
    """The result of a rule on past waits.

    `same`, `differences`, `failures` and `left_alone` add up to the waits that were compared. `not_by_people` counts
    answers by programs and by defaults of escalations, which were not.
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
        """The number of waits that the rule answers."""
        return self.same + len(self.differences)

    @property
    def agreement(self) -> float | None:
        """The share of its answers that people gave too, from 0 to 1; None if it has none."""
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
    """Return a rule that gives the same answer to all waits that pass a filter.

    Args:
        filter: As in the console; `due` and `age` count from the wait's opening.
        answer: JSON, not null.
        compare: Fields of an answer that count; empty for the whole answer.
        name: Its name in reports.

    Raises:
        BadFilter: The filter can't be read.
        UsageError: The filter compares something that is not recorded, or the answer is invalid.
    """
    found = {"filter": filter, "answer": _as_json(answer), "compare": list(_names(compare))}
    return _declared(rules_of(found, "the rule"), name)


def read_rule(text: str, *, compare: Iterable[str] = (), folder: Path | None = None) -> Rule:
    """Return the rule that a text names.

    Args:
        text: JSON `{"filter": …, "answer": …, "compare": […]}` with any keys of `helmr.matching`, a file of that or of
            several (`.json`, `.toml`, also `helmr.toml`), or `module:function` or `file.py:function`.
        compare: Fields that count instead of the rule's own.
        folder: Folder to look for files and modules in; by default the working folder.

    Raises:
        UsageError, BadFilter: It can't be read; the message says why.
    """
    folder = folder if folder is not None else Path.cwd()
    text, compare = text.strip(), _names(compare)
    if text.startswith("{"):
        parts = _parsed(text.encode("utf-8"), ".json", "the rule")
        return _declared(rules_of(parts, "the rule"), compare=compare)
    if text.endswith((".json", ".toml")):
        path = folder / text
        return _declared(rules_of(_parsed(_read(path), path.suffix, text), text), text, compare)
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
    """Compare a rule with past answers. It reads waits, and answers none.

    Args:
        client: Client of the runtime. It reads each wait that passes `filter` in full, with one call each.
        rule: A rule, or its function.
        since: Only answers at most this old, or given at this time or later.
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
    asked = {one.id: asked_call(client, one.session_id) for one in found if one.task == CALL_TASK}
    calls = {wait_id: call for wait_id, call in asked.items() if call is not None}
    tried = judge(held, found, since=begin, calls=calls)
    return tried.model_copy(update={"not_by_people": others})


def asked_call(client: Client, session_id: str) -> GatedCall | None:
    """Return the agent's call that a session of the gate asks about; None if it asks about something else."""
    entries = client.sessions.open(session_id).transcript(limit=5)
    payload = next((one.body["payload"] for one in entries if "payload" in one.body), None)
    return call_of(payload) if isinstance(payload, dict) and FLOOD not in payload else None


def _asked_by_task(wait: WaitInfo) -> GatedCall:
    """Return the call to match for a wait from outside the gate: its tool's call, or its form's initial values."""
    form = form_of(wait.json_schema, initial=wait.initial) if wait.json_schema else None
    call = tool_call(form) if form is not None else None
    if call is not None:
        return GatedCall("", "", call.tool, call.asked)
    return GatedCall("", "", "", wait.initial if isinstance(wait.initial, dict) else {})


def judge(
    rule: Rule,
    waits: Iterable[WaitInfo],
    *,
    since: datetime,
    calls: Mapping[str, GatedCall] | None = None,
) -> BackTest:
    """Compare a rule with fulfilled waits that were read in full, without a client.

    Args:
        rule: The rule.
        waits: As they are now.
        since: The earliest answer that counts.
        calls: By wait, the agents' calls that they are about.
    """
    same = left_alone = unreadable = 0
    differences: list[Difference] = []
    failures: list[Failure] = []
    for wait in waits:
        if wait.problem is not None:
            unreadable += 1
            continue
        call = (calls or {}).get(wait.id)
        try:
            says = rule.says(_as_opened(wait), call)
        except Exception as error:  # noqa: BLE001 - whatever a rule raises is a finding about the rule
            failures.append(Failure(wait_id=wait.id, error=f"{type(error).__name__}: {error}"))
            continue
        if says is None:
            left_alone += 1
        elif says.is_as(wait.answer, call):
            same += 1
        else:
            differences.append(_difference(wait, says, rule))
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
    """Return the wait as its answerer saw it; a rule that could read the answer would always agree."""
    unknown: dict[str, Any] = {name: None for name, said in shown_fields(WaitInfo) if said.at_end}
    unknown |= {"status": WaitStatus.PENDING, "claim": None}
    return wait.model_copy(update=unknown, deep=True)


def _difference(wait: WaitInfo, says: Saying, rule: Rule) -> Difference:
    return Difference(
        wait_id=wait.id,
        session_id=wait.session_id,
        subject=wait.subject,
        said=wait.answer,
        said_by=wait.resolved_by.label if wait.resolved_by is not None else None,
        said_at=wait.resolved_at,
        rule=says.rule if says.rule != rule.name else None,
        rule_says=says.value,
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
    """Return an answer as JSON values.

    Raises:
        UsageError: It has no JSON form.
    """
    try:
        found = to_jsonable_python(value, by_alias=True, inf_nan_mode="constants")
        return jsonio.loads(json.dumps(found, ensure_ascii=False))
    except (PydanticSerializationError, BadJson, ValueError, RecursionError) as error:
        raise UsageError(f"the answer is not JSON: {error}") from error


def _names(compare: Iterable[str]) -> tuple[str, ...]:
    return (compare,) if isinstance(compare, str) else tuple(compare)


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


def _declared(found: DeclaredRules, name: str = "", compare: tuple[str, ...] = ()) -> Rule:
    """Return declared rules as one rule, in which the first match decides.

    Raises:
        UsageError: An answer is not JSON.
    """
    declared = [
        replace(one, answer=_as_json(one.answer), compare=compare or one.compare)
        for one in found.rules
    ]
    if len(declared) == 1:
        name = name or declared[0].name
        declared = [replace(declared[0], name=name)]
    named = dict.fromkeys(field for one in declared for field in one.compare)
    return Rule(name or "the rule", DeclaredRules(tuple(declared), found.hash), tuple(named))


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
    """Import a module by its file, or by its name, also from the folder."""
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
        # Its models resolve the names in their annotations there.
        sys.modules.setdefault(path.stem, made)
        spec.loader.exec_module(made)
        return made
    except (UsageError, BadDefinition):
        raise
    except Exception as error:
        raise UsageError(f"{module} can't be imported: {type(error).__name__}: {error}") from error
