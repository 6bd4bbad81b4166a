"""One input given to one parser, and what came of it."""

from __future__ import annotations

from typing import Any

from tests.programs.fuzz.bounds import bounded
from tests.programs.fuzz.parsers import Parser, size_of

READ, REFUSED = "read", "refused"


def try_one(parser: Parser, given: Any) -> str:
    """`READ` or `REFUSED`; what else the parser raises goes on."""
    with bounded(size_of(given)):
        try:
            parser.read(given)
        except parser.refusals:
            return REFUSED
    return READ
