"""Whose day a seed is: kinds of users, by what they ask how often and of which tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind of command comes, and each task.

    Attributes:
        commands: Weights by kind.
        tasks: Weights by id; without one, all tasks alike.
        faults: Weights of what goes wrong; without one, those of every day (`faults.KINDS`).
    """

    commands: Mapping[str, int]
    tasks: Mapping[str, int] | None = None
    faults: Mapping[str, int] | None = None


EVERYONE = Mix(
    {
        "start": 22,
        "send": 26,
        "deliver": 4,
        "answer": 22,
        "complete": 8,
        "make_token": 4,
        "cancel_token": 2,
        "cancel_run": 3,
        "cancel_session": 1,
        "close": 3,
        "retry": 8,
        "start_run": 4,
        "note": 2,
        "share": 3,
        "public_send": 8,
        "rewind": 5,
        "amend": 9,
        "fork": 3,
        "pause": 1,
        "resume": 2,
        "run_schedule": 1,
        "again": 10,
        "link": 4,
        "answer_link": 6,
        "revoke_link": 2,
        "claim": 3,
        "release": 1,
        "assign": 2,
        "vote": 14,
        "withdraw": 1,
        "disable": 1,
        "enable": 2,
    }
)
MIXES: Mapping[str, Mix] = {
    "operator": Mix(
        {
            "start": 16,
            "answer": 24,
            "answer_batch": 6,
            "claim": 16,
            "release": 4,
            "assign": 6,
            "link": 8,
            "answer_link": 8,
            "revoke_link": 2,
            "note": 3,
            "amend": 3,
            "complete": 3,
            "again": 8,
        },
        {"ask": 4, "patient": 4, "agent": 3, "token": 2, "follows": 2},
    ),
    "chat user": Mix(
        {
            "start": 8,
            "send": 50,
            "deliver": 10,
            "public_send": 14,
            "share": 5,
            "close": 4,
            "start_run": 4,
            "cancel_run": 2,
            "answer": 4,
            "again": 14,
        },
        {"listens": 5, "take": 4, "goes_on": 3},
    ),
    "agent": Mix(
        {
            "start": 18,
            "answer": 26,
            "answer_link": 8,
            "link": 3,
            "rewind": 6,
            "amend": 8,
            "fork": 6,
            "cancel_run": 3,
            "cancel_session": 2,
            "retry": 4,
            "complete": 3,
            "again": 6,
        },
        {"agent": 8, "helper": 1, "thinks": 2, "deadly": 1},
    ),
    "admin": Mix(
        {
            "prune": 40,
            "start": 18,
            "close": 14,
            "cancel_session": 6,
            "answer": 12,
            "send": 8,
            "rewind": 6,
            "amend": 5,
            "fork": 5,
            "retry": 3,
            "complete": 4,
            "make_token": 3,
            "cancel_run": 3,
            "share": 3,
            "link": 3,
            "answer_link": 3,
            "again": 8,
        },
        {"goes_on": 2, "listens": 3, "thinks": 3, "take": 2, "token": 3, "agent": 6, "follows": 2},
    ),
    "approver": Mix(
        {
            "start": 14,
            "vote": 54,
            "withdraw": 4,
            "disable": 3,
            "enable": 7,
            "answer": 3,
            "claim": 3,
            "rewind": 3,
            "amend": 2,
            "fork": 2,
            "cancel_run": 2,
            "note": 2,
            "again": 8,
        },
        {"pays": 5, "agrees": 3, "ask": 1},
    ),
    "scheduler": Mix(
        {
            "pause": 4,
            "resume": 8,
            "run_schedule": 8,
            "answer": 16,
            "retry": 6,
            "cancel_run": 3,
            "close": 3,
            "start": 5,
            "fork": 2,
            "again": 8,
        },
        {"sleeper": 2, "watches": 2, "rounds": 1},
    ),
    "tenant": Mix(
        {
            "start": 34,
            "answer": 22,
            "send": 6,
            "retry": 5,
            "start_run": 3,
            "cancel_run": 5,
            "cancel_session": 2,
            "rewind": 4,
            "amend": 3,
            "fork": 3,
            "again": 8,
        },
        {"calls": 5, "hurries": 4, "asks_often": 4, "few": 4, "agent": 1, "deadly": 1},
    ),
    "partner": Mix(
        {"start": 20, "make_token": 6, "answer": 40, "complete": 6, "again": 6},
        {"token": 3, "helper": 2},
        {"cut": 10, "slow host": 10, "slow": 4},
    ),
}
"""The days of those who use a part of it.

A partner completes tokens around the deadlines of their waits, over connections that are slow and end. No process
dies on that day: a session that a late call left to a host would be taken from it with the host.
"""

PEOPLE: Mapping[str, tuple[str, ...]] = {
    "ada": ("finance",),
    "bo": ("finance",),
    "cy": ("finance", "legal"),
    "dan": (),
}
"""Who there is, and their groups."""

SPECIAL = 0.5
"""So many seeds are one such day."""


def mix_of(random: Random, day: str | None = None) -> tuple[str, Mix]:
    """Whose day it is, unless someone says so."""
    if day is not None:
        return day, MIXES[day]
    if random.random() >= SPECIAL:
        return "everyone", EVERYONE
    name = random.choice(list(MIXES))
    return name, MIXES[name]
