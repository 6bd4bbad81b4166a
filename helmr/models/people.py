"""Who acted, and who is at a wait; the base of all answers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


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
