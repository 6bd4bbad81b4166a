"""Who acted, and who is at a wait; the base of all answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """How a field of an answer is put to people; stands beside its type.

    Attributes:
        label: What it is called where its facts are listed; None where it is shown in a way of its own.
        find: The word of the filter grammar that compares it (`helmr.filters`).
        at_end: It is known only once the thing is over.
    """

    label: str | None = None
    find: str | None = None
    at_end: bool = False


def shown_fields(model: type[BaseModel]) -> Iterator[tuple[str, Shown]]:
    """The fields of an answer that say how they are shown, in order."""
    for name, one in model.model_fields.items():
        for said in one.metadata:
            if isinstance(said, Shown):
                yield name, said


def shown_facts(of: BaseModel, *, at_end: bool = False) -> Iterator[tuple[str, str, Any]]:
    """The labelled fields that say something, as (field, label, value): of enums the word."""
    for name, said in shown_fields(type(of)):
        value = getattr(of, name)
        is_plain = value == type(of).model_fields[name].get_default(call_default_factory=True)
        if said.label is not None and said.at_end == at_end and not is_plain:
            yield name, said.label, value.value if isinstance(value, Enum) else value


class PrincipalInfo(Wire):
    """Who acted (S-51)."""

    type: str
    id: str | None = None
    name: str | None = None
    on_behalf_of: str | None = None

    @property
    def label(self) -> str:
        """The principal for people: `api_key local for ada`."""
        name = f"{self.type} {self.name}" if self.name else self.type
        return f"{name} for {self.on_behalf_of}" if self.on_behalf_of else name


class ClaimInfo(Wire):
    """Who is at a wait, and until when unless the claim is renewed (S-81)."""

    principal: PrincipalInfo
    on_behalf_of: str | None = None
    since: datetime
    until: datetime

    @property
    def label(self) -> str:
        """Who, for people: the person, else the key's name."""
        return self.on_behalf_of or self.principal.name or self.principal.label


class ClaimReceipt(Wire):
    """Answer of claiming and releasing: the claim as it is now."""

    wait_id: str
    claim: ClaimInfo | None = None


class AssignReceipt(Wire):
    """Answer of assigning a wait."""

    wait_id: str
    assignee: str | None = None
