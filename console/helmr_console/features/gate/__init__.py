"""The gate in the console: lists of the System area with grants and calls of unknown outcome, and their entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helmr.client.aio import AsyncClient
from helmr.features import gate
from helmr.gate.grants import matches_text
from helmr.models import GatedCallInfo, GrantInfo
from helmr.person.review.words import short_id
from helmr_console.entry_lines import EntryLook
from helmr_console.feature import Feature, SystemList
from helmr_console.features.gate import views
from helmr_console.features.gate.actions import ACTIONS
from helmr_console.link import first

GRANTS = "grants"
OUTCOMES = "outcomes"
SHOWN_MAX = 200
"""Most of each, the newest."""


async def _read_grants(client: AsyncClient) -> Mapping[str, GrantInfo]:
    return {one.id: one for one in await first(client.grants.list(), SHOWN_MAX)}


async def _read_unknown(client: AsyncClient) -> Mapping[str, GatedCallInfo]:
    return {one.session_id: one for one in await first(client.outcomes.list(), SHOWN_MAX)}


def _id(body: Mapping[str, Any]) -> str:
    return short_id(str(body.get("grant_id", "")))


def _allowed(body: Mapping[str, Any]) -> str:
    scope = body.get("scope")
    if not isinstance(scope, Mapping):
        return "?"
    allows = matches_text(scope.get("matches") or {})
    return f"{scope.get('tool')} of {scope.get('client')}:{scope.get('agent')}, {allows}"


ENTRIES = {
    "grant.created": EntryLook(
        "grant", "accent", lambda body: f"{_id(body)} allows {_allowed(body)}", is_act=True
    ),
    "grant.revoked": EntryLook(
        "grant", "warning", lambda body: f"{_id(body)} revoked", is_act=True
    ),
}

FEATURE = Feature(
    face=gate.FEATURE,
    actions=ACTIONS,
    lists=(
        SystemList(
            name=GRANTS,
            action="grants",
            opens="what agents are granted",
            read=_read_grants,
            line=views.grants_line,
            screen="helmr_console.features.gate.screens:GrantsScreen",
        ),
        SystemList(
            name=OUTCOMES,
            action="outcomes",
            opens="their calls of unknown outcome",
            read=_read_unknown,
            line=views.unknown_line,
            screen="helmr_console.features.gate.screens:UnknownOutcomesScreen",
        ),
    ),
    entries=ENTRIES,
)
