"""The only way to write: a permit that the gate hands out for one action of the table, with the client in it.

Nothing else in the console calls a method of the client that changes something. Read-only mode and a stale picture
give no permit.
"""

from __future__ import annotations

from dataclasses import dataclass

from helmr.client.aio import AsyncClient
from helmr_console.actions import BY_ID, ActionContext


class NotPermitted(Exception):
    """The action can't be done now; the text says why."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The gate let this action through: `client` sends it, with an operation id, so that repeats are safe (S-61)."""

    action_id: str
    client: AsyncClient


def permit(action_id: str, context: ActionContext, client: AsyncClient) -> Permit:
    """Let a writing action through, or say why not.

    Raises:
        Refused: With the reason that the footer's key gives too.
    """
    action = BY_ID[action_id]
    if not action.writes:
        raise NotPermitted(f"{action_id} is not an action that writes")
    reason = action.refusal(context)
    if reason:
        raise NotPermitted(reason)
    return Permit(action_id, client)
