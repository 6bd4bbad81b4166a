"""All of them, by name."""

from __future__ import annotations

from tests.programs.fuzz.file_parsers import FILES
from tests.programs.fuzz.parsers import PURE

PARSERS = (*PURE, *FILES)
