"""Bugs as patches, and what catches each: `python -m tests.programs.planted`."""
