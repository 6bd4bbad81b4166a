"""Rules in files, with the calls and waits that they match: one declaration, one matcher, one parser.

Every condition of a rule must hold for an agent's call, or for a wait. A rule has one of

- an `action`: if it stands in `helmr.toml`, the gate decides a call by it before a person is asked;
- an `answer`, used only for comparison with people's past answers (`helmr.rules`).

The first rule that matches decides; no rule allows a call that touches the runtime's own directory. A file has one
rule, several in tables `[[rule]]`, or those of the gate:

```toml
[[gate.rule]]
name = "pushes"
tool = "Bash"
matches = {command = "git push*"}
action = "ask"
```

It imports filters and models only for a rule with a filter, because each hook matches a call in a new process.

Invariants: S-109 (first match; an unreadable rule prevents the start; an allowing rule matches exactly what it names).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import escape
from typing import TYPE_CHECKING, Any

from helmr.errors import UsageError
from helmr.gate import GateAction, GatedCall, json_hash
from helmr.gate.reach import SHELL_ARGUMENT, OwnFolder, is_below, real_path
from helmr.gate.shell_words import is_single, loose_parts
from helmr.wire.people import APPROVALS_MAX, PEOPLE_MAX, PERSON_MAX

if TYPE_CHECKING:
    from helmr.models import WaitInfo
    from helmr.person.filters import Filter

RULES_MAX = 500
GLOB_MAX = 1_000

ANNOTATION = "@"
"""Prefix of annotations among the arguments that a rule matches: `"@readOnlyHint" = "true"`."""

FOLDER = "{folder}"
"""Stands in a glob for the folder in which the agent's session began, and makes the argument a path.

Real paths are compared, symbolic links resolved. A path with `..` in it is in no folder, and nothing is in `/`."""

RESTRICTING = ("answerers", "not_by", "approvals", "signed")
"""Keys of a rule that say who answers, as a wait's options do."""

MATCHING = ("tool", "client", "folder", "matches", "filter")
"""Keys that say what a rule matches."""

OF_ACTION, OF_ANSWER = ("reason", *RESTRICTING), ("compare",)
"""Keys that go with one of the two things that a rule can say."""

KEYS = ("name", *MATCHING, "action", *OF_ACTION, "answer", *OF_ANSWER)
"""Keys of a rule's table."""

OF_GATE = tuple(key for key in KEYS if key not in ("filter", "answer", *OF_ANSWER))
"""Keys of a rule that decides a call, before there is a wait or an answer."""


@dataclass(frozen=True, slots=True)
class DeclaredRule:
    """One rule; all of its conditions must hold.

    Attributes:
        name: What entries and reports call it.
        action: Decision of the gate on a call; `ask` for a rule with an answer.
        tool: Globs of tools' names, one of which matches.
        client: A glob of the client's name.
        folder: A folder, with all that is below it, or a glob; empty for all.
        matches: Globs by argument, one of which must match; an empty one matches an argument that is missing or
            empty. For a wait without a call, the arguments are the initial values of its form.
        reason: Explanation of a denial for the agent.
        restriction: People who may answer its waits, as options of a wait (`RESTRICTING`); empty for anyone.
        filter: Filter that the wait must pass, in the console's grammar; None for all.
        answer: Its answer, as JSON; None if it has an action.
        compare: Fields of an answer that count; empty for the whole answer.
    """

    name: str
    action: GateAction = GateAction.ASK
    tool: tuple[str, ...] = ("*",)
    client: str = "*"
    folder: str = ""
    matches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reason: str = ""
    restriction: Mapping[str, Any] = field(default_factory=dict)
    filter: Filter | None = None
    answer: Any = None
    compare: tuple[str, ...] = ()

    def matches_call(self, call: GatedCall) -> bool:
        """Return True when the rule applies to this call; its filter does not count.

        For a shell, `allow` and an answer match only a single command of plain words, since `git status; rm -r .` also
        begins with `git status`. `ask` and `deny` match if one of several joined commands does.
        """
        if not any(fnmatchcase(call.tool, glob) for glob in self.tool):
            return False
        if not fnmatchcase(call.client, self.client) or not self._is_in_folder(call):
            return False
        return all(
            any(self._matches(call, name, glob) for glob in globs)
            and (call.input.get(name) or not self._lets_pass or _is_at_home(call, globs))
            for name, globs in self.matches.items()
        )

    def matches_wait(self, wait: WaitInfo, call: GatedCall) -> bool:
        """Return True when the rule applies to this wait, which asks about this call.

        Times of its filter count from the wait's opening. An action does not apply to a call that no client made.
        """
        if self.answer is None and not call.client:
            return False
        if self.filter is not None:
            from helmr.person import filters

            facts = {
                **filters.wait_facts(wait, wait.opened_at),
                **filters.evidence_facts(wait),
            }
            if not self.filter.matches(facts, wait.opened_at):
                return False
        return self.matches_call(call)

    @property
    def _lets_pass(self) -> bool:
        """True when it lets a call pass without asking people; it must then match exactly what it names."""
        return self.action is GateAction.ALLOW or self.answer is not None

    def _is_in_folder(self, call: GatedCall) -> bool:
        """Return True when the agent began in the rule's folder or, for `ask` and `deny`, is in it now."""
        if not self.folder:
            return True
        wanted = self.folder.rstrip("/") or "/"
        folders = (call.home,) if self._lets_pass else (call.home, call.folder)
        return any(
            one == wanted
            or one.startswith(wanted.rstrip("/") + "/")
            or fnmatchcase(one, self.folder)
            for one in folders
        )

    def _matches(self, call: GatedCall, name: str, glob: str) -> bool:
        given = call.input
        if name.startswith(ANNOTATION):
            given, name = call.annotations, name.removeprefix(ANNOTATION)
        value = given.get(name, "")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if not glob or name not in given:
            return not glob and not text
        if FOLDER in glob:
            return self._matches_path(call, text, glob)
        if name != SHELL_ARGUMENT:
            return fnmatchcase(text, glob)
        if self._lets_pass:
            return is_single(text, glob)
        return any(fnmatchcase(part, glob) for part in loose_parts(text))

    def _matches_path(self, call: GatedCall, text: str, glob: str) -> bool:
        """Return True when the agent's path matches the glob, with symbolic links of both resolved."""
        home = real_path(call.home, "")
        if home is None or home == "/":
            return False
        wanted = glob.replace(FOLDER, escape(home))
        if not self._lets_pass and fnmatchcase(text, glob.replace(FOLDER, escape(call.home))):
            return True
        path = real_path(text, call.folder)
        return path is not None and ".." not in text.split("/") and fnmatchcase(path, wanted)


def _is_at_home(call: GatedCall, globs: Iterable[str]) -> bool:
    """Return True when the agent's current folder, which stands for a missing path, is inside `{folder}`."""
    if not any(FOLDER in glob for glob in globs):
        return True
    home, now = real_path(call.home, ""), real_path(call.folder, "")
    return home not in (None, "/") and now is not None and is_below(now, home)


@dataclass(frozen=True, slots=True)
class DeclaredRules:
    """Rules in order.

    Attributes:
        hash: Hash of their source.
        own: The runtime's data directory, which no rule and no grant lets an agent touch; None if unknown.
    """

    rules: tuple[DeclaredRule, ...] = ()
    hash: str = ""
    own: OwnFolder | None = None

    @property
    def match_values(self) -> bool:
        """True when a rule looks at a tool or its arguments."""
        return any(rule.matches or rule.tool != ("*",) for rule in self.rules)

    def first(self, call: GatedCall) -> DeclaredRule | None:
        """Return the rule that decides this call, if any; a rule of ours replaces one that would allow too much."""
        found = next((rule for rule in self.rules if rule.matches_call(call)), None)
        if found is None or found.action is not GateAction.ALLOW:
            return found
        return self.kept_from(call) or found

    def kept_from(self, call: GatedCall) -> DeclaredRule | None:
        """Return our rule for a call that no rule or grant may allow: it asks a person or corrects the agent."""
        if self.own is None:
            return None
        own = self.own.resolved()
        if own.is_named(call):
            return OWN_NAMED
        return OWN_SEARCHED if own.is_searched(call) else None

    def first_of_wait(self, wait: WaitInfo, call: GatedCall) -> DeclaredRule | None:
        """Return the first rule that applies to this wait, if any."""
        return next((rule for rule in self.rules if rule.matches_wait(wait, call)), None)


NO_RULES = DeclaredRules()

OWN_NAMED = DeclaredRule("the runtime's own directory", GateAction.ASK)
"""No rule allows a call that names it."""

OWN_SEARCHED = DeclaredRule(
    "a search over the runtime's own directory",
    GateAction.DENY,
    reason="The runtime's own directory, with its keys, is below that folder. Name the folders and files that you "
    "mean in place of one that holds it.",
)
"""No rule allows it; the reason has the agent name its folders more precisely."""


# --- read -----------------------------------------------------------------------------------------


def read_rules(table: Any, path: str) -> DeclaredRules:
    """Read the rules in the table `[gate]` of a file.

    Raises:
        UsageError: A rule can't be read; the message names the rule and its fault.
    """
    if not isinstance(table, dict) or set(table) - {"rule", "runs"}:
        unknown = sorted(set(table) - {"rule", "runs"}) if isinstance(table, dict) else []
        what = f"has {unknown[0]!r}, which it does not know" if unknown else "is no table"
        raise UsageError(f"{path}: [gate] {what}", hint="Rules stand in tables [[gate.rule]].")
    if not isinstance(table.get("runs", False), bool):
        raise UsageError(f"{path}: `runs` of [gate] is true or false")
    return _rules(table.get("rule", []), path, " of the gate", OF_GATE)


def rules_of(found: Any, what: str, *, keys: Sequence[str] = KEYS) -> DeclaredRules:
    """The rules of a file, in any of its forms: one rule, tables `[[rule]]`, or those of the gate.

    Args:
        found: Contents of the file.
        what: Name of the file in messages.
        keys: Keys that a rule may have.

    Raises:
        UsageError, BadFilter: A rule can't be read; the message names the rule and its fault.
    """
    if not isinstance(found, dict):
        raise UsageError(f"{what} is not an object", hint='{"filter": …, "answer": …}')
    if "gate" in found:
        return read_rules(found["gate"], what)
    if "rule" not in found:
        return DeclaredRules((_rule(found, "", what, keys),), json_hash(found)[:16])
    if len(found) > 1:
        other = next(name for name in found if name != "rule")
        raise UsageError(f"{what} has {other!r} beside its rules")
    return _rules(found["rule"], what, "", keys)


def _rules(found: Any, path: str, of: str, keys: Sequence[str]) -> DeclaredRules:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        name = "gate.rule" if of else "rule"
        raise UsageError(f"{path}: rules{of} are tables", hint=f"Write [[{name}]].")
    if len(found) > RULES_MAX:
        raise UsageError(f"{path}: {len(found)} rules{of}; at most {RULES_MAX}")
    rules = tuple(
        _rule(one, f"rule {number}", f"{path}: rule {number}{of}", keys)
        for number, one in enumerate(found, start=1)
    )
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"{path}: two rules{of} are named {twice!r}", hint="Give each its own name."
        )
    return DeclaredRules(rules, json_hash(found)[:16])


def _rule(found: Mapping[str, Any], name: str, place: str, keys: Sequence[str]) -> DeclaredRule:
    unknown = sorted(set(found) - set(keys))
    if unknown:
        hint = f"It takes {', '.join(keys)}."
        if unknown[0] in KEYS:
            hint += " It decides a call before there is a wait."
        raise UsageError(f"{place} has {unknown[0]!r}, which is not part of it", hint=hint)
    action = _action(found, place, may_answer="answer" in keys)
    matches = found.get("matches", {})
    if not isinstance(matches, dict):
        raise UsageError(
            f"{place}: matches is a table", hint='Write matches = {command = "git push*"}.'
        )
    texts = {key: found.get(key, "") for key in ("name", "folder", "reason")}
    texts["client"] = found.get("client", "*")
    for key, text in texts.items():
        _check_text(text, f"{place}: {key}")
    is_claim = bool(matches) and all(key.startswith(ANNOTATION) for key in matches)
    if action is GateAction.ALLOW and is_claim and found.get("tool", "*") == "*":
        raise UsageError(
            f"{place} allows whatever calls itself harmless",
            hint="Name the tools too: their server says what they claim.",
        )
    rule = DeclaredRule(
        texts["name"] or name,
        action,
        _globs(found.get("tool", "*"), f"{place}: tool"),
        texts["client"],
        texts["folder"],
        {key: _globs(globs, f"{place}: matches.{key}") for key, globs in matches.items()},
        texts["reason"],
        _restriction(found, action, place),
        _filter(found, place),
        found.get("answer"),
        _compare(found, place),
    )
    return rule if rule.name else replace(rule, name=_spelt_rule(found))


def _action(found: Mapping[str, Any], place: str, *, may_answer: bool) -> GateAction:
    """Return the rule's action; `ask` if it has an answer, which never answers a wait by itself."""
    if "answer" in found or (may_answer and "action" not in found):
        if "action" in found:
            raise UsageError(f"{place} has an action and an answer", hint="It says one of them.")
        if found.get("answer") is None:
            raise UsageError(f"{place} needs an answer other than null, or an action")
        if not any(key in found for key in MATCHING):
            raise UsageError(f"{place} needs a filter, or another of {', '.join(MATCHING)}")
        others = [key for key in OF_ACTION if key in found]
        if others:
            raise UsageError(f"{place}: {others[0]} goes with an action, not with an answer")
        return GateAction.ASK
    if "compare" in found:
        raise UsageError(f"{place}: compare goes with an answer, not with an action")
    try:
        return GateAction(str(found.get("action")))
    except ValueError as error:
        actions = ", ".join(GateAction)
        raise UsageError(f"{place} needs an action", hint=f"It is one of {actions}.") from error


def _filter(found: Mapping[str, Any], place: str) -> Filter | None:
    if "filter" not in found:
        return None
    if not isinstance(found["filter"], str):
        raise UsageError(f"{place} needs a filter that is a text")
    return rule_filter(found["filter"])


def rule_filter(text: str) -> Filter:
    """A filter of waits that a rule may have.

    Raises:
        BadFilter: It can't be read.
        UsageError: It compares something that is not recorded.
    """
    from helmr.person import filters

    wanted = filters.parse(text, filters.RULE_FIELDS)
    if any(term.field in ("is", "claimed", "batch") for term in wanted.terms):
        raise UsageError(
            "a rule's filter can't use is:, claimed: or batch:",
            hint="They say what was done with a wait, not what it asks.",
        )
    return wanted


def _compare(found: Mapping[str, Any], place: str) -> tuple[str, ...]:
    named = found.get("compare", [])
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UsageError(f"{place}: compare must be a list of field names")
    return tuple(named)


def _spelt_rule(found: Mapping[str, Any]) -> str:
    """Return a name for a rule without one: `stream:refund → {"decision": "approve"}`."""
    given = {key: found[key] for key in MATCHING if key in found}
    wanted = given.pop("filter", "")
    if given:
        wanted = f"{wanted} {_short(given)}".strip()
    says = found["action"] if "action" in found else _short(found["answer"])
    return f"{wanted or 'every wait'} → {says}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _restriction(found: Mapping[str, Any], action: GateAction, place: str) -> dict[str, Any]:
    """Return the rule's options that say who may answer, checked."""
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
    if not text.strip().startswith("group:") and ":" in bare and "@" not in bare:
        return False
    return 1 <= len(bare) <= PERSON_MAX and bare.isprintable()


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


# --- written --------------------------------------------------------------------------------------


def rules_toml(rules: Iterable[DeclaredRule]) -> str:
    """Return rules of the gate as text for `helmr.toml`."""
    return "\n".join(_rule_toml(rule) for rule in rules)


def _rule_toml(rule: DeclaredRule) -> str:
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


def _shell(name: str, globs: str, action: GateAction) -> DeclaredRule:
    spelt = tuple(one.strip() for one in globs.split("|"))
    return DeclaredRule(name, action, ("Bash",), matches={SHELL_ARGUMENT: spelt})


_LEAVES_MACHINE = """
git push* | gh * | curl * | wget * | ssh * | scp * | rsync * | npm publish* | twine * | docker push* | kubectl * |
terraform * | aws * | gcloud * | az *
"""
_NOT_UNDONE = "rm * | sudo * | git reset --hard* | git clean* | dd * | mkfs* | shred *"
_LISTS_OF_FILES = "wc *--f*"
"""`wc --files0-from=FILE`, and any abbreviation of it, prints the contents of FILE as names of missing files."""
_ONLY_LOOKS = (
    "ls | ls * | pwd | git status | git status -s | git diff | git log | git log --oneline | wc *"
)
_INSIDE = (FOLDER, f"{FOLDER}/*")
_OPENS = ("Read", "Edit", "MultiEdit", "Write", "NotebookEdit")
_WRITES = _OPENS[1:]

STARTER_RULES: tuple[DeclaredRule, ...] = (
    DeclaredRule(
        "the runtime's directory",
        GateAction.DENY,
        _OPENS,
        matches={"file_path": (".helmr/*", "*/.helmr/*")},
        reason="It holds the runtime's keys.",
    ),
    DeclaredRule(
        "these rules",
        GateAction.DENY,
        _WRITES,
        matches={"file_path": ("helmr.toml", "*/helmr.toml")},
        reason="A person changes what agents may do.",
    ),
    _shell("leaves the machine", _LEAVES_MACHINE, GateAction.ASK),
    _shell("can't be undone", _NOT_UNDONE, GateAction.ASK),
    _shell("prints a list of files", _LISTS_OF_FILES, GateAction.ASK),
    _shell("only looks", _ONLY_LOOKS, GateAction.ALLOW),
    DeclaredRule("reads", GateAction.ALLOW, ("Read",), matches={"file_path": _INSIDE}),
    DeclaredRule("searches", GateAction.ALLOW, ("Grep",), matches={"path": ("", *_INSIDE)}),
    DeclaredRule(
        "lists",
        GateAction.ALLOW,
        ("Glob",),
        matches={"path": ("", *_INSIDE), "pattern": _INSIDE},
    ),
    DeclaredRule("keeps its list", GateAction.ALLOW, ("TodoWrite",)),
)
"""The rules that `helmr gate init` writes. Read-only calls are allowed. People are asked about calls that leave the
machine, can't be undone or match no rule. Agents may not touch the runtime's directory or the rules themselves."""
