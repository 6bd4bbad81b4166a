"""The gate: permission prompts of the agents that people already have, answered where every other wait is.

Here is a call that an agent wants to make, and what names it. Rules that may decide it before a person is asked are in
`helmr.matching`.

Invariants: S-103 (what names a call).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

CALL_TASK = "helmr.gate.call"
"""The built-in task: one call, one wait."""

AGENT_TASK = "helmr.gate.agent"
"""The built-in task of an agent's session: what was decided about its calls."""

TAG = "gate"
"""Tag of every wait of the gate."""

CLIENT_TAG, TOOL_TAG = "client:", "tool:"
"""Prefixes of the tags that name a call's client and tool."""

RULED = "ruled"
"""Stream of an agent's session: the decisions about its calls."""

TASKS_MODULE = "helmr.gate.tasks"
"""Module of both tasks; a runtime whose `helmr.toml` has a table `[gate]` loads it."""

RUN_TASK = "helmr.gate.run"
"""The built-in task of a headless run."""

RESTRICTED = "restricted"
"""Input stream of a headless run: people who may answer a call that it asks about."""

RUNS_MODULE = "helmr.gate.runs"
"""Module of that task; loaded if the table says `runs = true`."""

CODEX = "codex"
"""The client that takes no changed input at its own prompt."""

FLOOD = "flood"
"""Key of a payload about an agent that asks too much; holds how often it may ask."""

RESTRICTION = "restriction"
"""Key of a call's payload: people who may answer it, by the rule that asks."""

UNTIL = "until"
"""Key of a call's payload: the time after which its client decides alone; deferred calls have none."""

NAME_MAX = 128

VALUES_MAX = 5_000
"""JSON values of a call's input: each takes a place in a form, and time for which others wait."""


class GateAction(StrEnum):
    """Effects of a rule on a call."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class GatedCall:
    """A call that an agent wants to make.

    Attributes:
        client: Program that asks, `claude-code`.
        agent: The agent's session, as the client names it.
        tool: The tool's name.
        input: Arguments of the call.
        call_id: The client's id of the call; empty where it has none.
        folder: Current folder of the agent.
        model: Model that it uses, if the client says so.
        annotations: Claims of the tool's server (`destructiveHint`, `readOnlyHint`); they are no part of the call's
            identity.
        start: The folder in which the agent's session began; empty where that is `folder`, or not known.
    """

    client: str
    agent: str
    tool: str
    input: Mapping[str, Any]
    call_id: str = ""
    folder: str = ""
    model: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""

    @property
    def home(self) -> str:
        """The agent's folder: where its session began."""
        return self.start or self.folder

    @property
    def tag(self) -> str:
        """Tag on the sessions of all calls of one agent's session."""
        return agent_tag(self.client, self.agent)

    @property
    def is_fixed(self) -> bool:
        """True if the client takes no changed input: Codex at its own prompt, which names no call."""
        return self.client == CODEX and not self.call_id

    @property
    def input_hash(self) -> str:
        """Hash of tool and input, by which a report without an id of its own finds the call.

        Codex says only at its prompt why it makes the call, and not in the report.
        """
        given = {**self.input}
        if self.is_fixed:
            given.pop("description", None)
        return input_hash(self.tool, given)

    def external_id(self, turn: int = 0) -> str:
        """Names the call's session. `turn` counts the same call asked again by a client that has no ids of calls."""
        named = [self.client, self.agent, self.call_id, self.tool, self.input]
        return f"gate:{json_hash(named)}" + (f".{turn}" if turn else "")

    def to_json(self) -> dict[str, Any]:
        """The payload of the call's session."""
        found = {**asdict(self), "input": dict(self.input)}
        unsaid = [name for name in ("annotations", "start") if not found[name]]
        return {name: value for name, value in found.items() if name not in unsaid}


def call_metadata(call: GatedCall) -> dict[str, Any]:
    """The metadata of a call's session, by which reports find it."""
    return {
        "client": call.client,
        "agent": call.agent,
        "call_id": call.call_id,
        "tool": call.tool,
        "input_hash": call.input_hash,
    }


def asked_line(call: GatedCall, *, is_headed: bool = False) -> str:
    """Say who asks, where and with what, and what its server says of the tool: a line of Markdown.

    Args:
        call: The call.
        is_headed: Client and home stand above the line, which is empty if there is nothing else to say.
    """
    folder = call.folder.replace("`", "")
    claims = ", ".join(f"{name}: {value}" for name, value in sorted(call.annotations.items()))
    said = [f"Its server says of the tool: {claims}."] if claims else []
    if is_headed:
        here = [f"It works in `{folder}` now."] if call.folder != call.home else []
        model = [f"Its model is {call.model}."] if call.model else []
        return " ".join([*here, *model, *said])
    parts = [f"Asked by {call.client}", f"in `{folder}`" if folder else ""]
    parts.append(f"with {call.model}" if call.model else "")
    return " ".join([" ".join(filter(None, parts)) + ".", *said])


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


def has_many_values(given: Any) -> bool:
    """True if the value holds more than `VALUES_MAX` values; stops counting there."""
    left, seen = [given], 0
    while left:
        one = left.pop()
        inside = one.values() if isinstance(one, Mapping) else one
        seen += 1
        if seen + len(left) > VALUES_MAX:
            return True
        if isinstance(one, Mapping | list | tuple):
            if len(one) > VALUES_MAX:
                return True
            left += inside
    return False


def input_hash(tool: str, given: Mapping[str, Any]) -> str:
    """Hash a tool and its input; numbers count by value, as in JSON."""
    return json_hash([tool, given])


def json_hash(value: Any) -> str:
    """Hash a JSON value, whatever the order of its keys; numbers count by value."""
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


def is_own_tag(tag: str) -> bool:
    """True for a tag that the gate gives: rules and filters use it, and the question shows the same."""
    return tag == TAG or tag.startswith((CLIENT_TAG, TOOL_TAG))
