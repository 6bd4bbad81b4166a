"""Drives a task's coroutine tree along its journal (S-30…S-34), on a loop and thread of its own."""

from helmr_runtime.replay.driver import RunDriver, RunEvent, RunHost
from helmr_runtime.replay.ends import Mismatch, Raised, Returned, RunEnd, StepEnd, Unreadable
from helmr_runtime.replay.replay_log import Outcome, ReplayLog, make_replay_log

__all__ = [
    "Mismatch",
    "Outcome",
    "Raised",
    "ReplayLog",
    "Returned",
    "RunDriver",
    "RunEnd",
    "RunEvent",
    "RunHost",
    "StepEnd",
    "Unreadable",
    "make_replay_log",
]
