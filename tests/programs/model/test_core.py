"""The core against the naive model, over thousands of random sequences with a clock that may be late."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from helmr.models import SendOutcome
from helmr_runtime.core.decide import inputs
from tests.programs.model import naive
from tests.programs.model.commands import COMMANDS, Command, Generator, kinds
from tests.programs.model.compare import report
from tests.programs.model.core_door import in_core
from tests.programs.model.random_code import LATE

SEQUENCES = 300
SEQUENCES_LONG = 10_000

ENDED = {"wait.fulfilled", "wait.timed_out", "wait.cancelled", "run.failed", "run.cancelled"}
"""Entries whose kind the model makes of how something ended."""

ANY_CORRELATION = 40
"""Sequences in which some record meets a wait for another correlation id."""


def test_the_core_does_what_the_contract_says() -> None:
    for seed in range(SEQUENCES):
        assert in_core(Generator(seed, LATE).sequence(COMMANDS)) is None, report(
            seed, LATE, COMMANDS, in_core
        )


def test_a_message_that_came_while_a_forks_run_waited_starts_the_next_one() -> None:
    """Whatever of the origin's transcript, before that run, the fork has not (seed 39492)."""
    code = [["wait", "numbers", "b", 30_000, None]]
    public = {"session": "s0", "stream": "numbers"}
    sequence = [
        Command("start", {"task": "runs", "code": [["output", 0]], "tokens": []}),
        *(Command("create_public", public) for _ in range(6)),
        Command("run", {"session": "s0", "code": code}),
        Command("fork", {"session": "s0", "op": 1, "answer": ()}),
        Command("send", {"session": "s1", "stream": "chat", "data": 1}),
        Command("advance", {"ms": 30_000}),
    ]
    reached: Counter[str] = Counter()
    assert in_core(sequence, reached) is None
    assert reached["entry:run.created"] == 5  # two and their copies, and that one


def test_no_reason_of_an_admin_is_enough_on_behalf_of_one_who_may_not() -> None:
    """The starter is named by `not_by` (seed 308)."""
    who = {"answerers": [], "not_by": ["starter"], "approvals": 2}
    start = {"task": "runs", "code": [["wait", "chat", None, None, None, who]], "tokens": []}
    reached: Counter[str] = Counter()
    for by in ("ada", "bob"):
        answer = {"wait": "s0.w0", "data": 1, "by": by, "why": "on leave"}
        sequence = [Command("start", {**start, "me": "ada"}), Command("answer", answer)]
        assert in_core(sequence, reached) is None
    assert reached["answer not_an_answerer"] == 1
    assert reached["answer fulfilled"] == 1


def test_a_core_that_mixes_up_correlation_ids_is_found_and_shown_in_a_few_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def takes(wait: object, stream: str, correlation_id: str | None) -> bool:
        return getattr(wait, "stream", None) == stream

    monkeypatch.setattr(inputs, "takes", takes)
    seeds = iter(range(ANY_CORRELATION))
    found = next(told for seed in seeds if (told := report(seed, LATE, COMMANDS, in_core)))
    assert found.startswith("seed ")
    assert len(re.findall(r"^  [a-z_]+\(", found, re.MULTILINE)) <= 5


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_command_outcome_refusal_and_entry_is_reached() -> None:
    reached: Counter[str] = Counter()
    for seed in range(SEQUENCES, SEQUENCES + SEQUENCES_LONG):
        assert in_core(Generator(seed, LATE).sequence(COMMANDS), reached) is None, report(
            seed, LATE, COMMANDS, in_core
        )
    text = Path(naive.__file__).read_text(encoding="utf-8")
    refusals = set(re.findall(r'Refused\("(\w+)"\)', text))
    met = {name.partition(" ")[2] for name in reached}
    assert refusals | {one.value for one in SendOutcome} <= met
    written = set(re.findall(r'self\.log\(\s*(?:\w+|self\.\w+\[.*\]),\s*"([a-z_.]+)"', text))
    assert len(written) > 20
    assert {f"entry:{kind}" for kind in written | ENDED} <= set(reached)
    taken = {
        kind
        for kind in kinds()
        for word in ("ok", "fulfilled", "completed", "withdrawn")
        if f"{kind} {word}" in reached
    }
    assert taken == set(kinds())
