"""Actions of operators on schedules."""

from __future__ import annotations

from helmr.models import ScheduleInfo
from helmr_console.actions import Action, ActionContext, ActionScope

SCOPE = "Schedules"


def _selected(context: ActionContext) -> ScheduleInfo | None:
    return context.thing if isinstance(context.thing, ScheduleInfo) else None


def _needs_one(context: ActionContext) -> str:
    return "" if _selected(context) is not None else "no schedule is selected"


def _needs_one_with_code(context: ActionContext) -> str:
    one = _selected(context)
    is_gone = one is not None and one.status == "gone"
    return "its code or task is gone: it can start nothing" if is_gone else _needs_one(context)


def _needs_one_of_its_own(context: ActionContext) -> str:
    one = _selected(context)
    in_code = "the code declares it: remove schedule= from its task to delete it; P pauses it"
    return in_code if one is not None and one.declared_in == "code" else _needs_one(context)


# fmt: off
ACTIONS = (
    Action("schedules", ActionScope.SYSTEM, ("s",), "Schedules",
           "What starts sessions by the clock: next due, last outcome.", 20),
    Action("schedule.pause", SCOPE, ("P",), "Pause or resume",
           "Pause the schedule, across restarts too, or resume it; asks first.", 20, writes=True,
           reason=_needs_one),
    Action("schedule.run", SCOPE, ("R",), "Run now",
           "Start a session as the schedule does, now; asks first.", 25, writes=True,
           reason=_needs_one_with_code),
    Action("schedule.new", SCOPE, ("n",), "New",
           "Make a schedule: pick the task, then fill in when it is due.", 30, writes=True),
    Action("schedule.delete", SCOPE, ("X",), "Delete",
           "Delete the schedule; asks for its name. Sessions that it has started stay.", 35, writes=True,
           dangerous=True, reason=_needs_one_of_its_own),
)
# fmt: on
