"""Drives a task's coroutine tree along its journal (S-30…S-34), on a loop and thread of its own."""

from helmr_runtime.replay.driver import Host, RunDriver
from helmr_runtime.replay.ends import Mismatch, Raised, Returned, RunEnd, StepEnd, Unreadable
from helmr_runtime.replay.replay_log import Outcome, Script, make_script

__all__ = [
    "Host",
    "Mismatch",
    "Outcome",
    "Raised",
    "Returned",
    "RunDriver",
    "RunEnd",
    "Script",
    "StepEnd",
    "Unreadable",
    "make_script",
]
