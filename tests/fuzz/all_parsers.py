"""All of them, by name."""

from __future__ import annotations

from tests.fuzz.file_parsers import FILES
from tests.fuzz.parsers import PURE

PARSERS = (*PURE, *FILES)
