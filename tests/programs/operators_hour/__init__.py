"""An operator's hour: a hundred waits answered through the real console, before and after the desk, and in lines.

`python -m tests.programs.operators_hour --help`; docs/operators-hour.md has what it measured.
"""
