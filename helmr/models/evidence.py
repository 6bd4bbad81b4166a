"""The evidence of a wait: facts, links, a diff and files that its person sees above its text.

Every face has the same text. All of it is session text. As Markdown, each character that Markdown could read as a
command is escaped, and the diff's fence is longer than any in it; it comes before the body, so an unclosed fence there
can't take it in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from helmr.models.attachments import Attachment
from helmr.models.common import Wire
from helmr.wire.durations import spell_bytes

FACTS_MAX: Final = 50
FACT_NAME_MAX: Final = 64
FACT_VALUE_MAX: Final = 500
LINKS_MAX: Final = 20
LINK_LABEL_MAX: Final = 100
LINK_URL_MAX: Final = 1_000
DIFF_CHARS_MAX: Final = 32 * 1024
DIFF_SIDE_CHARS_MAX: Final = 64 * 1024
DIFF_SIDE_LINES_MAX: Final = 2_000
"""Most lines of a text to compare: the time of a comparison grows with their square."""

FactValue = str | int | float | bool | None

_PUNCTUATION: Final = re.compile(r"([!-/:-@\[-`{-~])")
_FENCES: Final = re.compile("`{3,}")


class EvidenceLink(Wire):
    """A link to something that helps to decide: a trace, a ticket, a dashboard."""

    model_config = ConfigDict(extra="allow", frozen=True)

    label: str
    url: str


class Evidence(Wire):
    """Facts, links, a diff and files that a wait shows beside its text (S-70).

    Parts that this version does not know are kept: the question hash covers them.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    facts: dict[str, FactValue] = Field(default_factory=dict)
    links: list[EvidenceLink] = Field(default_factory=list)
    diff: str | None = None
    """A unified diff."""
    attachments: list[Attachment] = Field(default_factory=list)
    """Files of the session, served to those who may see the wait."""

    @model_serializer(mode="wrap")
    def _without_new_parts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out parts that evidence did not have at first: clients that hash it know none that is empty."""
        found: dict[str, Any] = serialize(self)
        if not self.attachments:
            found.pop("attachments", None)
        return found

    def recorded(self) -> dict[str, Any]:
        """Return it as `wait.opened` records it, without empty parts."""
        return {
            name: value
            for name, value in self.model_dump().items()
            if value is not None and value not in ({}, [])
        }

    def with_links(self, more: Sequence[EvidenceLink]) -> Evidence:
        """Return it with further links below its own."""
        return self.model_copy(update={"links": [*self.links, *more]})

    @property
    def text(self) -> str:
        """All of it as plain text; the caller makes it safe."""
        found = [f"{name}: {value_text(value)}" for name, value in self.facts.items()]
        found += [f"{one.label}: {one.url}" for one in self.links]
        if self.diff is not None:
            found += ["diff:", *(f"  {line}" for line in self.diff.split("\n"))]
        found += [f"file: {one.name} ({_kind_of(one)})" for one in self.attachments]
        return "\n".join(found)

    @property
    def markdown(self) -> str:
        """All of it as Markdown: a table of facts and links, and a block of code."""
        return "\n\n".join("\n".join(block) for block in self._blocks())

    def _blocks(self) -> Iterator[list[str]]:
        rows = [(name, _escaped(value_text(value))) for name, value in self.facts.items()]
        rows += [(one.label, f"<{one.url}>") for one in self.links]
        rows += [(one.name, _escaped(_kind_of(one))) for one in self.attachments]
        if rows:  # not a list, which would take in a body that is indented
            cells = (f"| {_escaped(name)} | {shown} |" for name, shown in rows)
            yield ["| Fact | Value |", "| --- | --- |", *cells]
        if self.diff is not None:
            longest = max(map(len, _FENCES.findall(self.diff)), default=2)
            fence = "`" * (longest + 1)
            yield [f"{fence}diff", self.diff, fence]


def value_text(value: FactValue) -> str:
    """A fact's value for people: yes and no, else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _kind_of(one: Attachment) -> str:
    return f"{one.type}, {spell_bytes(one.size)}"


def above(evidence: Evidence | None, text: str | None) -> str:
    """Return the evidence and, below it, a text in Markdown; empty if there is neither."""
    return "\n\n".join(part for part in (evidence.markdown if evidence else "", text) if part)


def _escaped(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)
