"""Actions of operators on grants, and on calls of unknown outcome."""

from __future__ import annotations

from helmr.models import GatedCallInfo
from helmr_console.actions import Action, ActionContext, ActionScope
from helmr_console.features.gate.views import GrantNow

GRANTS = "Grants"
OUTCOMES = "Unknown outcomes"


def _needs_one_in_force(context: ActionContext) -> str:
    if not isinstance(context.thing, GrantNow):
        return "no grant is selected"
    return "" if context.thing.counts else "it allows nothing any more"


def _needs_call(context: ActionContext) -> str:
    return "" if isinstance(context.thing, GatedCallInfo) else "no call is selected"


# fmt: off
ACTIONS = (
    Action("grants", ActionScope.SYSTEM, ("g",), "Grants",
           "What people have allowed agents for a while.", 22),
    Action("outcomes", ActionScope.SYSTEM, ("o",), "Unknown outcomes",
           "Approved calls of agents of which no one knows what became.", 23),
    Action("grant.revoke", GRANTS, ("X",), "Revoke",
           "Revoke the grant: the agent's next call is asked about; asks first.", 20, writes=True,
           reason=_needs_one_in_force),
    Action("outcome.say", OUTCOMES, ("a",), "Say",
           "Say what became of the call, as far as you have found out; asks first.", 20, writes=True,
           reason=_needs_call),
)
# fmt: on
