"""Restricted waits and votes, in the words of every screen (S-112, S-113). Pure.

People who may not answer a restricted wait can read it. Where several people must agree, the next form starts from the
newest proposal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from helmr.models import VoteInfo, WaitInfo, WaitStatus
from helmr.person.forms import MISSING, Form, form_of, plain, redacted
from helmr.wire.people import answered_by, person_key
from helmr.wire.safe_text import one_line

NAME_CELLS = 80
SAID_CELLS = 400
"""Width of a voter's answer; `helmr wait get` shows all of it."""
WHO_CELLS = 4_000


def tally(wait: WaitInfo) -> str:
    """`1 of 2`: so many agree on a pending wait that takes several; empty for any other."""
    if wait.approvals < 2 or wait.status is not WaitStatus.PENDING:
        return ""
    return f"{wait.have} of {wait.approvals}"


def why_not(wait: WaitInfo, me: str | None) -> str:
    """Explain why this person can't answer; empty if they can, or if the wait takes no answers. Safe.

    Args:
        wait: The wait as this person reads it from the gateway: an entry doesn't know who may answer.
        me: The person's name at the gateway.
    """
    if not (wait.is_restricted and wait.takes_answers) or wait.can_answer:
        return ""
    words = answered_by(wait.answerers, wait.not_by, wait.approvals, signed=wait.signed)
    by = one_line(words, WHO_CELLS)
    if wait.can_answer is None and wait.is_mine is not None:
        return f"your groups are not known now, sign in with `helmr login`: it is answered {by}"
    if wait.can_answer is None:
        return f"you have not signed in as a person: it is answered {by}"
    return "" if _has_voted(wait, me) else f"you may not answer: it is answered {by}"


def who_may(wait: WaitInfo) -> str:
    """Name the people who may answer a restricted wait: `2 people: group finance`; empty for any other."""
    if not wait.is_restricted:
        return ""
    said = answered_by(wait.answerers, wait.not_by, wait.approvals, signed=wait.signed)
    return said.removeprefix("by ")


def is_for_others(wait: WaitInfo) -> bool:
    """True if a review skips the wait: this person may not answer it, or has voted and others must agree."""
    return wait.is_restricted and wait.can_answer is False


def agreed(wait: WaitInfo, form: Form, me: str | None) -> list[str]:
    """Return the votes, newest first, then the effect of an answer by this person. Safe.

    Where one answer is enough, only lines that it will be signed and for whom it is, if so, and who is away.
    """
    signed = ["your answer is signed with your key"] if wait.signed and wait.takes_answers else []
    more = ["you have voted: another answer replaces yours"] if _has_voted(wait, me) else []
    said, people = standing(wait, form, _as_json), [*acting(wait), *away(wait)]
    return [*said, *more, *signed, *people] if said else [*signed, *people]


def acting(wait: WaitInfo) -> list[str]:
    """Return a line that says for whom this person answers as a deputy; nothing if they answer as themselves. Safe."""
    if not wait.deputy_for:
        return []
    names = [one_line(name, NAME_CELLS) for name in wait.deputy_for]
    if len(names) == 1:
        return [f"you answer for {names[0]}, as their deputy"]
    return [f"you are the deputy of {_joined(wait.deputy_for)}: `helmr wait answer --deputy-for`"]


def away(wait: WaitInfo) -> list[str]:
    """Return a line for each person of the wait who is away, with the deputy and the end. Safe."""
    return [
        f"{one_line(one.person, NAME_CELLS)} is away until {one.until:%Y-%m-%d %H:%M} UTC: "
        f"{one_line(one.deputy, NAME_CELLS)} answers"
        for one in wait.away
    ]


def standing(wait: WaitInfo, form: Form, spell: Callable[[Any], str] | None = None) -> list[str]:
    """Return the count of votes and each stance, newest first; nothing where one answer is enough. Safe.

    Args:
        wait: The wait as read from the gateway.
        form: Form of its schema, which knows the secrets of an answer.
        spell: Writes an answer; `in_words` if not given.
    """
    count = tally(wait)
    if not count:
        return []
    said = _stances(wait, form, spell or in_words)
    if not said and wait.voters:
        said = [f"{_joined(wait.voters)} voted"]
    return [f"{count} agree: {said[0]}" if said else f"{count} agree", *said[1:]]


def own_vote(wait: WaitInfo, form: Form, me: str) -> str:
    """Return this person's vote in words; empty if it is not known. Safe."""
    own = (vote.data for vote in wait.votes if person_key(me) in map(person_key, vote.people))
    return next((in_words(redacted(form, data)) for data in own), "")


def in_words(data: Any) -> str:
    """An answer as a person says it: `pay, 120000`. Safe."""
    return one_line(", ".join(_leaves(data)) or "an empty answer", SAID_CELLS)


def _leaves(data: Any) -> Iterator[str]:
    if isinstance(data, dict | list):
        for one in data.values() if isinstance(data, dict) else data:
            yield from _leaves(one)
    elif data is not None and data != "":
        yield plain(data)


def initial_of(wait: WaitInfo) -> Any:
    """Return the form's initial value: the newest proposal without its voter's comments; `MISSING` for none.

    A form leaves its decision open, whatever its initial value says.
    """
    first = wait.initial if wait.initial is not None else MISSING
    if not wait.votes:
        return first
    newest = wait.votes[-1].data
    if not isinstance(newest, dict):
        return newest
    own = first if isinstance(first, dict) else {}
    kept = {name: value for name, value in newest.items() if name not in wait.comments}
    return kept | {name: own[name] for name in wait.comments if name in own}


def proposal_of(wait: WaitInfo) -> Any:
    """Return the base for answers given in parts: the newest proposal, if it is an object; else `MISSING`.

    Leaves out its voter's comments and the decision, which the words must state.
    """
    found = initial_of(wait)
    if not wait.votes or not isinstance(found, dict):
        return MISSING
    decision = form_of(wait.json_schema, initial=found).decision
    return {
        name: value for name, value in found.items() if decision is None or name != decision.name
    }


def begun_from(wait: WaitInfo) -> str:
    """`from what bo stands for: {"cents": 5}`, of what `proposal_of` says. Safe."""
    shown = json.dumps(redacted(form_of(wait.json_schema), proposal_of(wait)), ensure_ascii=False)
    by = one_line(wait.votes[-1].label, NAME_CELLS)
    return f"begun from what {by} stands for: {one_line(shown, SAID_CELLS)}"


def _as_json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


def _stances(wait: WaitInfo, form: Form, spell: Callable[[Any], str]) -> list[str]:
    """`ada and bo stand for {"cents": 5}` for each proposal; nothing unless it is known what all voters said."""
    if {person_key(one) for vote in wait.votes for one in vote.people} != set(wait.voters):
        return []
    by_proposal: dict[str, list[VoteInfo]] = {}
    for vote in reversed(wait.votes):
        by_proposal.setdefault(vote.proposal, []).append(vote)
    found = []
    for votes in by_proposal.values():
        people = _joined([vote.label for vote in reversed(votes)])
        shown = spell(redacted(form, votes[0].data))
        verb = "stands" if len(votes) == 1 else "stand"
        found.append(f"{people} {verb} for {one_line(shown, SAID_CELLS)}")
    return found


def _has_voted(wait: WaitInfo, me: str | None) -> bool:
    return me is not None and person_key(me) in wait.voters


def _joined(people: list[str]) -> str:
    names = [one_line(name, NAME_CELLS) for name in people]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
