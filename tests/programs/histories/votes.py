"""Votes in a history: whether so many people can have agreed, and whether anyone voted who was disabled.

Pure. A vote's call has the wait as its target, its person beside it and what they stand for as its value; it tells
`{outcome, have, need}`. What has no answer may have happened, so that only what is certain is held against the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tests.programs.histories.history import Kind

if TYPE_CHECKING:
    from tests.programs.histories.checker import Found, Operation

ENDED = "fulfilled"


def check_votes(writes: Mapping[Kind, Mapping[str, list[Operation]]], found: Found) -> None:
    """Every wait on which people voted, and every person who was disabled."""
    disabled, enabled = writes[Kind.DISABLE], writes[Kind.ENABLE]
    for wait, votes in sorted(writes[Kind.VOTE].items()):
        taken_back = writes[Kind.WITHDRAW].get(wait, [])
        _check_wait(wait, votes, taken_back, disabled, found)
        for vote in votes:
            person = vote.first.beside
            for out in disabled.get(person, ()):
                is_after = bool(vote.replies) and vote.began_ns > out.ended_ns
                back = [one for one in enabled.get(person, ()) if one.can_have_happened]
                may_be_back = any(
                    one.began_ns < vote.ended_ns and one.ended_ns > out.began_ns for one in back
                )
                if is_after and not may_be_back:
                    found.add("votes", f"{wait}: {person} voted after they were disabled")


def _check_wait(
    wait: str,
    votes: Sequence[Operation],
    taken_back: Sequence[Operation],
    disabled: Mapping[str, Sequence[Operation]],
    found: Found,
) -> None:
    enders = [one for one in votes if _outcome(one) == ENDED]
    if len(enders) > 1:
        found.add("votes", f"{wait} was ended by {len(enders)} votes")
    for vote in votes:
        if not vote.replies:
            continue
        told, person = vote.replies[0].told, vote.first.beside
        others = {one.first.beside for one in votes} - {person}
        changes = {
            one: [
                *(x for x in votes if x.first.beside == one),
                *(x for x in taken_back if x.first.beside == one),
                *disabled.get(one, ()),
            ]
            for one in others
        }
        most = 1 + sum(_may_stand(vote, changes[one]) for one in others)
        if told["outcome"] == ENDED:
            if most < told["need"]:
                found.add("votes", f"{wait}: {person} ended it, and at most {most} stood for that")
            continue
        least = 1 + sum(_stands(vote, changes[one]) for one in others)
        if not least <= told["have"] <= most:
            shown = f"{told['have']} are told, {least} to {most} are possible"
            found.add("votes", f"{wait}: {shown}")
        if told["have"] >= told["need"]:
            found.add("votes", f"{wait}: {told['have']} agreed, and it went on")
        if any(one.ended_ns < vote.began_ns for one in enders):
            found.add("votes", f"{wait}: {person} voted after it was ended")


def _outcome(vote: Operation) -> str | None:
    return vote.replies[0].told["outcome"] if vote.replies else None


def _is_for(change: Operation, vote: Operation) -> bool:
    return change.first.kind is Kind.VOTE and change.first.value == vote.first.value


def _may_stand(vote: Operation, changes: Sequence[Operation]) -> bool:
    """Someone can have stood for the same when this vote was counted: no later change of theirs is certain."""
    return any(
        _is_for(one, vote)
        and one.can_have_happened
        and one.began_ns < vote.ended_ns
        and not any(
            x.began_ns > one.ended_ns and x.ended_ns < vote.began_ns and not _is_for(x, vote)
            for x in changes
            if x.replies
        )
        for one in changes
    )


def _stands(vote: Operation, changes: Sequence[Operation]) -> bool:
    """Someone has certainly stood for the same: they had said so, and nothing else of theirs can have come since."""
    return any(
        _is_for(one, vote)
        and one.ended_ns < vote.began_ns
        and not any(
            x is not one
            and x.can_have_happened
            and x.began_ns < vote.ended_ns
            and x.ended_ns > one.began_ns
            and not _is_for(x, vote)
            for x in changes
        )
        for one in changes
    )
