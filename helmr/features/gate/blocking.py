"""Grants and outcomes of agents' calls in the blocking client."""

from __future__ import annotations

from helmr.client.blocking import BlockingPart, blocking
from helmr.features.gate.client import AsyncGrants, AsyncOutcomes


class Grants(BlockingPart[AsyncGrants]):
    """Standing grants: a person's temporary permissions for one agent's session (S-107)."""

    list = blocking(AsyncGrants.list)
    page = blocking(AsyncGrants.page)
    get = blocking(AsyncGrants.get)
    create = blocking(AsyncGrants.create)
    revoke = blocking(AsyncGrants.revoke)


class Outcomes(BlockingPart[AsyncOutcomes]):
    """Approved calls of agents with unknown outcome (S-108)."""

    list = blocking(AsyncOutcomes.list)
    page = blocking(AsyncOutcomes.page)
    say = blocking(AsyncOutcomes.say)
