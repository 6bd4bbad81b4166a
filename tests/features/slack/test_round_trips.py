"""An answer filled in in Slack is the answer that the page reads from the same entries."""

from __future__ import annotations

import random
from typing import Any

import pytest

from helmr.errors import SchemaMismatch
from helmr.features.slack.asking import can_show
from helmr.features.slack.reading import answer_of, errors_of
from helmr.person.card import card_of, form_for
from helmr.person.forms.model import json_text
from helmr_runtime.http.answer_page.fields import build_form, decode_form, first_values
from helmr_runtime.security.schemas import data_schema
from tests.features.slack.schemas import schema
from tests.features.slack.typist import NOW, Slack, Typist, is_empty, page_values, wait

SEEDS = 300
CHUNKS = 6


def asked(seed: int) -> tuple[random.Random, dict[str, Any]] | None:
    """A form of this seed that Slack can ask."""
    rng = random.Random(seed)
    made = schema(rng)
    return None if can_show(build_form(made).model) else (rng, made)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_slack_reads_what_the_page_reads(chunk: int) -> None:
    seen = wrong = 0
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        found = asked(seed)
        if found is None:
            continue
        rng, made = found
        form, typist = build_form(made), Typist(rng)
        values = page_values(typist, form)
        decoded = decode_form(build_form(made, values=values), values)
        slack = Slack(card_of(wait(schema=made), NOW))
        slack.fill(typist.wishes)
        press = slack.press(typist.wishes)
        said = answer_of(press, form_for(wait(schema=made)))
        assert bool(said.errors) == bool(decoded.problems), (seed, said, decoded)
        seen += not said.errors
        wrong += bool(said.errors)
        if not said.errors:
            assert json_text(said.data) == json_text(decoded.value), seed
        ids = {one["block_id"] for one in slack.inputs()}
        assert set(said.errors) <= ids, seed
        assert len(said.errors) <= len(decoded.problems)
        # Slack itself refuses an empty block that is not optional: only where the page refuses too.
        state = slack.state(typist.wishes)["values"]
        stuck = [
            one
            for one in slack.inputs()
            if not one["optional"] and is_empty(state[one["block_id"]][one["element"]["action_id"]])
        ]
        assert not stuck or decoded.problems, (seed, stuck)
    assert seen > 20
    assert wrong > 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_an_untouched_form_is_sent_as_the_page_sends_it(chunk: int) -> None:
    seen = 0
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        found = asked(seed)
        if found is None:
            continue
        rng, made = found
        typist = Typist(rng)
        values = page_values(typist, build_form(made))
        decoded = decode_form(build_form(made, values=values), values)
        if decoded.problems or decoded.value is None:
            continue
        initial = decoded.value
        asks = wait(schema=made, initial=initial)
        if can_show(form_for(asks)):
            continue
        form = build_form(made, initial=initial)
        first = first_values(form)
        untouched = decode_form(build_form(made, initial=initial, values=first), first)
        slack = Slack(card_of(asks, NOW))
        said = answer_of(slack.press(), form_for(asks))
        assert bool(said.errors) == bool(untouched.problems), (seed, said, untouched)
        if not said.errors:
            seen += 1
            assert json_text(said.data) == json_text(untouched.value), seed
    assert seen > 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_the_schema_refuses_stands_at_a_block_of_the_view(chunk: int) -> None:
    refused = 0
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        found = asked(seed)
        if found is None:
            continue
        rng, made = found
        typist = Typist(rng)
        page_values(typist, build_form(made))
        asks = wait(schema=made)
        slack = Slack(card_of(asks, NOW))
        slack.fill(typist.wishes)
        press = slack.press(typist.wishes)
        said = answer_of(press, form_for(asks))
        if said.errors or not slack.inputs():
            continue
        try:
            data_schema(made).check(said.data)
        except SchemaMismatch as error:
            refused += 1
            shown = errors_of(error, press, form_for(asks))
            assert shown
            assert set(shown) <= {one["block_id"] for one in slack.inputs()}, seed
    assert refused > 3


def test_the_generator_makes_forms_that_slack_cannot_ask() -> None:
    whys = {can_show(build_form(schema(random.Random(seed))).model)[:12] for seed in range(300)}
    assert len(whys) > 1
