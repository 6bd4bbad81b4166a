"""The gate: permission prompts of the agents that people already have, answered where every other wait is.

Here is a call that an agent wants to make, what names it, and the rules that may decide it before a person is asked.

They stand in `helmr.toml`; the first that matches decides, and a call that none matches is asked about:

```toml
[[gate.rule]]
name = "pushes"
tool = "Bash"
matches = {command = "git push*"}
action = "ask"
```

Invariants: S-103 (what names a call), S-109 (first match; a rule that can't be read refuses the start).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from glob import escape
from typing import Any

from helmr.errors import UsageError

CALL_TASK = "helmr.gate.call"
"""The built-in task: one call, one wait."""

AGENT_TASK = "helmr.gate.agent"
"""The built-in task of an agent's session: what was decided about its calls."""

RULED = "ruled"
"""The stream of an agent's session: what was decided about its calls."""

TASKS_MODULE = "helmr.gate.tasks"
"""Where both are; a runtime whose `helmr.toml` has a table `[gate]` loads it."""

RUN_TASK = "helmr.gate.run"
"""The built-in task of a headless run."""

RESTRICTED = "restricted"
"""Input stream of a headless run: who answers a call that it is to ask about."""

RUNS_MODULE = "helmr.gate.runs"
"""Where it is; loaded if the table says `runs = true`."""

CODEX = "codex"
"""The client that takes no changed input where it asks by its own prompt."""

FLOOD = "flood"
"""Key of a payload that is about an agent that asks too much, and holds how often it may ask."""

RULES_MAX = 500
GLOB_MAX = 1_000
NAME_MAX = 128


@dataclass(frozen=True, slots=True)
class GatedCall:
    """A call that an agent wants to make.

    Attributes:
        client: Which program asks, `claude-code`.
        agent: The agent's session, as the client names it.
        tool: The tool's name.
        input: What it is to be called with.
        call_id: The client's id of the call; empty where it has none.
        folder: Where the agent works.
        model: Which model it uses, if the client says so.
        annotations: What the tool's server says of it (`destructiveHint`, `readOnlyHint`): a claim, and no part of what
            names the call.
    """

    client: str
    agent: str
    tool: str
    input: Mapping[str, Any]
    call_id: str = ""
    folder: str = ""
    model: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """Of the sessions of all calls of one agent's session."""
        return agent_tag(self.client, self.agent)

    @property
    def is_fixed(self) -> bool:
        """The client takes no other input than it has asked about: Codex at its own prompt, which names no call."""
        return self.client == CODEX and not self.call_id

    @property
    def input_hash(self) -> str:
        """Of tool and input, by which a report without an id of its own finds the call.

        Codex says only at its prompt why it makes the call, and not in the report.
        """
        given = {**self.input}
        if self.is_fixed:
            given.pop("description", None)
        return input_hash(self.tool, given)

    def external_id(self, turn: int = 0) -> str:
        """Names the call's session. `turn` counts the same call asked again by a client that has no ids of calls."""
        named = [self.client, self.agent, self.call_id, self.tool, self.input]
        return f"gate:{_hash(named)}" + (f".{turn}" if turn else "")

    def to_json(self) -> dict[str, Any]:
        """The payload of the call's session."""
        found = {**asdict(self), "input": dict(self.input)}
        return found if self.annotations else {k: v for k, v in found.items() if k != "annotations"}


def call_metadata(call: GatedCall) -> dict[str, Any]:
    """The metadata of a call's session, by which reports find it."""
    return {
        "client": call.client,
        "agent": call.agent,
        "call_id": call.call_id,
        "tool": call.tool,
        "input_hash": call.input_hash,
    }


def gate_modules(table: Mapping[str, Any] | None) -> list[str]:
    """The modules of built-in tasks that the table `[gate]` turns on."""
    if table is None:
        return []
    return [TASKS_MODULE, *([RUNS_MODULE] if table.get("runs") else [])]


def call_of(payload: Mapping[str, Any]) -> GatedCall:
    """The call of such a payload."""
    names = GatedCall.__dataclass_fields__
    return GatedCall(**{name: value for name, value in payload.items() if name in names})


def agent_tag(client: str, agent: str) -> str:
    """The tag of an agent's session: short enough for any name of one."""
    tag = f"{client}:{agent}"
    if len(tag) <= NAME_MAX and tag.isprintable():
        return tag
    return f"{client[:40]}:{hashlib.sha256(agent.encode()).hexdigest()}"


def input_hash(tool: str, given: Mapping[str, Any]) -> str:
    """Of a tool and what it is called with; numbers count by value, as in JSON."""
    return _hash([tool, given])


def _hash(value: Any) -> str:
    text = json.dumps(
        _by_value(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _by_value(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _by_value(one) for name, one in value.items()}
    return [_by_value(one) for one in value] if isinstance(value, list | tuple) else value


# --- rules ------------------------------------------------------------------------------------------


class GateAction(StrEnum):
    """What a rule does with a call."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


SHELL_ARGUMENT = "command"
"""The argument that a shell reads. What joins commands there is looked at: see `GateRule.matches_call`."""

ANNOTATION = "@"
"""What the name of an annotation begins with among the arguments that a rule matches: `"@readOnlyHint" = "true"`."""

FOLDER = "{folder}"
"""In a glob of an argument: the agent's folder. A path with `..` in it is in no folder."""

_JOINS = re.compile(r"&&|\|\||[;&|\n\r]")
_OPERATORS = re.compile(r"[;&|\n\r<>`]|\$\(|<\(|>\(")


@dataclass(frozen=True, slots=True)
class GateRule:
    """One rule; all that it says must hold of a call.

    Attributes:
        name: What entries and reports call it; its place if it was given none.
        action: What it does.
        tool: Globs of tools' names, one of which matches.
        client: A glob of the client's name.
        folder: A folder, with all that is below it, or a glob; empty for all.
        matches: Globs for each of these arguments, one of which matches; an empty one is for an argument that is
            missing or empty.
        reason: What the agent sees of a denial.
        restriction: Who answers what it asks, by the names of a wait's options (`RESTRICTING`); empty if anyone may.
    """

    name: str
    action: GateAction
    tool: tuple[str, ...] = ("*",)
    client: str = "*"
    folder: str = ""
    matches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reason: str = ""
    restriction: Mapping[str, Any] = field(default_factory=dict)

    def matches_call(self, call: GatedCall) -> bool:
        """Whether it decides this call.

        Of a shell's command `allow` matches a single one only: `git status; rm -r .` begins as `git status*` does, and
        is more than that. `ask` and `deny` match if one of several joined commands does.
        """
        if not any(fnmatchcase(call.tool, glob) for glob in self.tool):
            return False
        if not fnmatchcase(call.client, self.client) or not self._is_in_folder(call.folder):
            return False
        return all(
            any(self._matches(call, name, glob) for glob in globs)
            for name, globs in self.matches.items()
        )

    def _is_in_folder(self, folder: str) -> bool:
        if not self.folder:
            return True
        wanted = self.folder.rstrip("/") or "/"
        is_below = folder == wanted or folder.startswith(wanted.rstrip("/") + "/")
        return is_below or fnmatchcase(folder, self.folder)

    def _matches(self, call: GatedCall, name: str, glob: str) -> bool:
        given = call.input
        if name.startswith(ANNOTATION):
            given, name = call.annotations, name.removeprefix(ANNOTATION)
        value = given.get(name, "")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if not glob or name not in given:
            return not glob and not text
        if FOLDER in glob:
            if not call.folder or ".." in text.split("/"):
                return False
            glob = glob.replace(FOLDER, escape(call.folder.rstrip("/")))
        if name != SHELL_ARGUMENT:
            return fnmatchcase(text, glob)
        if self.action is GateAction.ALLOW:
            spelt = set(_OPERATORS.findall(glob))
            has_more = any(one not in spelt for one in _OPERATORS.findall(text.strip()))
            return not has_more and fnmatchcase(text.strip(), glob)
        parts = (text, *(part.strip() for part in _JOINS.split(text)))
        return any(fnmatchcase(part, glob) for part in parts)


@dataclass(frozen=True, slots=True)
class GateRules:
    """The rules of a runtime, in order, and the hash of what they were read from."""

    rules: tuple[GateRule, ...] = ()
    hash: str = ""

    def first(self, call: GatedCall) -> GateRule | None:
        """The rule that decides this call, if one does."""
        return next((rule for rule in self.rules if rule.matches_call(call)), None)


NO_RULES = GateRules()
RESTRICTING = ("answerers", "not_by", "approvals", "signed")
"""Keys of a rule that say who answers, as a wait's options do."""

RESTRICTION = "restriction"
"""Key of a call's payload that holds those of the rule which asks."""

PEOPLE_MAX, PERSON_CHARS_MAX, APPROVALS_MAX = 50, 200, 20
"""As of a wait: `helmr.people`, which loads more than a hook may."""

KEYS = ("name", "action", "tool", "client", "folder", "matches", "reason", *RESTRICTING)
"""Of a rule's table."""


def read_rules(table: Any, path: str) -> GateRules:
    """What the table `[gate]` of a file says.

    Raises:
        UsageError: A rule can't be read; says which, and what is wrong with it.
    """
    if not isinstance(table, dict) or set(table) - {"rule", "runs"}:
        unknown = sorted(set(table) - {"rule", "runs"}) if isinstance(table, dict) else []
        what = f"has {unknown[0]!r}, which it does not know" if unknown else "is no table"
        raise UsageError(f"{path}: [gate] {what}", hint="Rules stand in tables [[gate.rule]].")
    if not isinstance(table.get("runs", False), bool):
        raise UsageError(f"{path}: `runs` of [gate] is true or false")
    found = table.get("rule", [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{path}: rules of the gate are tables", hint="Write [[gate.rule]].")
    if len(found) > RULES_MAX:
        raise UsageError(f"{path}: {len(found)} rules of the gate; at most {RULES_MAX}")
    rules = tuple(_rule(one, number, path) for number, one in enumerate(found, start=1))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"{path}: two rules of the gate are named {twice!r}", hint="Give each its own name."
        )
    return GateRules(rules, _hash(found)[:16])


def _rule(found: Mapping[str, Any], number: int, path: str) -> GateRule:
    place = f"{path}: rule {number} of the gate"
    unknown = sorted(set(found) - set(KEYS))
    if unknown:
        raise UsageError(f"{place} has {unknown[0]!r}", hint=f"It takes {', '.join(KEYS)}.")
    try:
        action = GateAction(str(found.get("action")))
    except ValueError as error:
        actions = ", ".join(GateAction)
        raise UsageError(f"{place} needs an action", hint=f"It is one of {actions}.") from error
    matches = found.get("matches", {})
    if not isinstance(matches, dict):
        raise UsageError(
            f"{place}: matches is a table", hint='Write matches = {command = "git push*"}.'
        )
    texts = {name: found.get(name, "") for name in ("name", "folder", "reason")}
    texts["client"] = found.get("client", "*")
    for name, text in texts.items():
        _check_text(text, f"{place}: {name}")
    is_claim = bool(matches) and all(name.startswith(ANNOTATION) for name in matches)
    if action is GateAction.ALLOW and is_claim and found.get("tool", "*") == "*":
        raise UsageError(
            f"{place} allows whatever calls itself harmless",
            hint="Name the tools too: their server says what they claim.",
        )
    return GateRule(
        texts["name"] or f"rule {number}",
        action,
        _globs(found.get("tool", "*"), f"{place}: tool"),
        texts["client"],
        texts["folder"],
        {name: _globs(globs, f"{place}: matches.{name}") for name, globs in matches.items()},
        texts["reason"],
        _restriction(found, action, place),
    )


def _restriction(found: Mapping[str, Any], action: GateAction, place: str) -> dict[str, Any]:
    """Who answers, as far as the rule says it."""
    said = {name: found[name] for name in RESTRICTING if name in found}
    if said and action is not GateAction.ASK:
        raise UsageError(
            f"{place} asks no one", hint=f'{next(iter(said))} goes with action = "ask".'
        )
    for name in ("answerers", "not_by"):
        people = said.get(name, ["any"])
        if not isinstance(people, list) or not 1 <= len(people) <= PEOPLE_MAX:
            raise UsageError(
                f"{place}: {name} is a list of people and groups",
                hint=f'Write {name} = ["group:finance", "ada@example.com"].',
            )
        if not all(isinstance(one, str) and _is_name(one) for one in people):
            raise UsageError(f"{place}: {name} names what is no person or group")
    approvals = said.get("approvals", 1)
    if type(approvals) is not int or not 1 <= approvals <= APPROVALS_MAX:
        raise UsageError(f"{place}: approvals is a number from 1 to {APPROVALS_MAX}")
    people = said.get("answerers", ["group:"])
    if len(set(people)) < approvals and not any(one.strip().startswith("group:") for one in people):
        raise UsageError(
            f"{place}: {approvals} people are to agree, and answerers names {len(set(people))}"
        )
    if not isinstance(said.get("signed", False), bool):
        raise UsageError(f"{place}: signed is true or false")
    return said


def _is_name(text: str) -> bool:
    bare = text.strip().removeprefix("group:").removeprefix("person:")
    return 1 <= len(bare) <= PERSON_CHARS_MAX and bare.isprintable()


def _globs(found: Any, what: str) -> tuple[str, ...]:
    globs = [found] if isinstance(found, str) else found
    if not isinstance(globs, list) or not globs:
        raise UsageError(f"{what} is a text, or a list of some")
    for glob in globs:
        _check_text(glob, what)
    return tuple(globs)


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str) or len(text) > GLOB_MAX:
        raise UsageError(f"{what} is a text of at most {GLOB_MAX} characters")


def rules_toml(rules: Iterable[GateRule]) -> str:
    """The rules as a part of `helmr.toml`."""
    return "\n".join(_rule_toml(rule) for rule in rules)


def _rule_toml(rule: GateRule) -> str:
    lines = ["[[gate.rule]]", f"name = {json.dumps(rule.name)}"]
    if rule.client != "*":
        lines.append(f"client = {json.dumps(rule.client)}")
    if rule.tool != ("*",):
        lines.append(f"tool = {_spelt(rule.tool)}")
    if rule.folder:
        lines.append(f"folder = {json.dumps(rule.folder)}")
    for name, globs in rule.matches.items():
        key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
        lines.append(f"matches.{key} = {_spelt(globs)}")
    lines.append(f"action = {json.dumps(rule.action.value)}")
    if rule.reason:
        lines.append(f"reason = {json.dumps(rule.reason)}")
    lines += [f"{name} = {json.dumps(said)}" for name, said in rule.restriction.items()]
    return "\n".join(lines) + "\n"


def _spelt(globs: Sequence[str]) -> str:
    return json.dumps(globs[0] if len(globs) == 1 else list(globs))


def _shell(name: str, globs: str, action: GateAction) -> GateRule:
    spelt = tuple(one.strip() for one in globs.split("|"))
    return GateRule(name, action, ("Bash",), matches={SHELL_ARGUMENT: spelt})


_LEAVES_MACHINE = """
git push* | gh * | curl * | wget * | ssh * | scp * | rsync * | npm publish* | twine * | docker push* | kubectl * |
terraform * | aws * | gcloud * | az *
"""
_NOT_UNDONE = "rm * | sudo * | git reset --hard* | git clean* | dd * | mkfs* | shred *"
_ONLY_LOOKS = (
    "ls | ls * | pwd | git status | git status -s | git diff | git log | git log --oneline | wc *"
)
_INSIDE = f"{FOLDER}/*"

STARTER_RULES: tuple[GateRule, ...] = (
    _shell("leaves the machine", _LEAVES_MACHINE, GateAction.ASK),
    _shell("can't be undone", _NOT_UNDONE, GateAction.ASK),
    _shell("only looks", _ONLY_LOOKS, GateAction.ALLOW),
    GateRule("reads", GateAction.ALLOW, ("Read",), matches={"file_path": (_INSIDE,)}),
    GateRule("searches", GateAction.ALLOW, ("Glob", "Grep"), matches={"path": ("", _INSIDE)}),
    GateRule("keeps its list", GateAction.ALLOW, ("TodoWrite",)),
)
"""What `helmr gate install` writes: what only looks is allowed; people are asked for what leaves the machine or can't
be undone, and for all that no rule knows."""
