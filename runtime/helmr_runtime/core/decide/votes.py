"""Votes: the answers to a wait that several people must agree on, while too few do (S-113).

A person's newest vote is their only one. A deputy's vote is that of both people, the deputy and the delegator: another
that names either of the two replaces it (S-142). The answer that gives a proposal enough votes ends the wait as any
answer does, in `inputs`; until then each vote is an entry of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from helmr.wire.people import person_key
from helmr_runtime.core.claims import claim_ended
from helmr_runtime.core.commands import AnswerWait, WithdrawVote, carrier
from helmr_runtime.core.drafts import DecisionContext
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.core.run import Wait, mode_of


def is_vote(wait: Wait, data: Any) -> bool:
    """Several people must agree on this answer; a refusal needs one."""
    return wait.approvals > 1 and not wait.restriction.is_refusal(data)


def tally(
    wait: Wait, people: Collection[str], data: Any, disabled: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Count the votes with this one added: `{proposal, have, need, voters}`; `voters` are the other people.

    Votes of disabled people do not count, even before they are taken back.

    Args:
        wait: The wait.
        people: Whom the vote names: the person, and the one whose deputy they are.
        data: The answer.
        disabled: Ids of disabled people.
    """
    proposal = wait.restriction.proposal(data)
    others = _without(wait, {*people, *map(person_key, disabled)})
    same = len({seq for seq, one in others.values() if one == proposal})
    return {
        "proposal": proposal,
        "have": same + 1,
        "need": wait.approvals,
        "voters": {one: seq for one, (seq, _) in others.items()},
    }


def _without(wait: Wait, people: Collection[str]) -> dict[str, tuple[int, str]]:
    """Return the votes that name none of these people."""
    out = {vote[0] for one, vote in wait.votes.items() if one in people}
    return {one: vote for one, vote in wait.votes.items() if vote[0] not in out}


def voted(wait: Wait, command: AnswerWait, said: Mapping[str, Any]) -> Draft:
    """The entry of a vote that does not end the wait; `said` is of the person and of the tally."""
    mode = mode_of(command.principal)
    body = {
        "wait_id": wait.id,
        "data": command.data,
        **replace(command.details, mode=mode).recorded(),
        **said,
    }
    return replace(carrier(EntryKind.WAIT_VOTED, body, command, run_id=wait.run_id), op=wait.op)


def withdrawn(wait: Wait, command: WithdrawVote) -> Draft:
    """The entry of a vote that is taken back."""
    person = person_key(command.person)
    left = replace(wait, votes=_without(wait, {person}))
    body = {
        "wait_id": wait.id,
        "person": person,
        "reason": command.reason,
        "have": left.standing(),
        "need": wait.approvals,
        "voters": {one: seq for one, (seq, _) in left.votes.items()},
    }
    draft = carrier(EntryKind.WAIT_VOTE_WITHDRAWN, body, command, run_id=wait.run_id)
    return replace(draft, op=wait.op)


def claim_given_back(
    wait: Wait, command: AnswerWait, context: DecisionContext
) -> tuple[Draft, ...]:
    """Return the end of the voter's own claim, so that the next person can answer (S-81)."""
    claims = context.claims
    claim = claims.live(wait.id, context.now) if claims is not None else None
    if claims is None or claim is None or not claim.is_of(command.principal):
        return ()
    return (claim_ended(claims.wait, claim, "released", command.principal, context.now),)
