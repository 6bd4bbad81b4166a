"""Limits in a history: whether so many steps can have gone on at once, and begun in a time (S-119).

Pure. A read of a session that calls under a limit has the limit as its target and tells `{at_once, per, within_ns,
steps}`. Of each step that is recorded, in order: `[key, opened_ns, tries]`, when its first try began by its transcript,
null if no clock tells, and of each try whose body began `[began_ns, ended_ns]`, null for one that died.

A try that died ended nobody knows when: it counts for the moment of its begin. A try after the first is not in the
transcript and counts for no beginning: how long its body took to begin, after that it might, only the first one's says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.programs.histories.history import Call
from tests.programs.limits import counting as limits
from tests.programs.limits.counting import most_at_once, most_within

if TYPE_CHECKING:
    from tests.programs.histories.checker import Found


def check_limits(reads: Mapping[str, Sequence[Call]], found: Found) -> None:
    """Every limit that was read."""
    for limit, shown in sorted(reads.items()):
        told = shown[0].told
        steps: dict[str, list[Any]] = {}
        for read in shown:
            for key, opened_ns, tries in read.told["steps"]:
                steps[key] = [opened_ns, tries]
                if not tries:
                    found.add("limits", f"{limit}: {key} is recorded and never ran")
        under_way = [
            limits.Call(key, began, ended if ended is not None else began + 1)
            for key, (_, tries) in steps.items()
            for began, ended in tries
        ]
        most = most_at_once(under_way)
        if most > told["at_once"]:
            found.add("limits", f"{limit}: {most} went on at once, {told['at_once']} may")
        opened = (at for at, _ in steps.values() if at is not None)
        begun = most_within(opened, told["within_ns"])
        if begun > told["per"]:
            found.add("limits", f"{limit}: {begun} began in its time, {told['per']} may")
