"""Of whatever a parser is given comes a value or the error that it documents, in bounded time and memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import examples
from tests.programs.fuzz.all_parsers import PARSERS
from tests.programs.fuzz.parsers import Parser
from tests.programs.fuzz.trying import try_one

pytestmark = pytest.mark.allows_blocking  # some read files


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@settings(max_examples=examples(60))
@given(data=st.data())
def test_a_value_or_the_documented_error(parser: Parser, data: Any) -> None:
    try_one(parser, data.draw(parser.inputs))
