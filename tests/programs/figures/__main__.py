"""`python -m tests.programs.figures`: put what is on record on the page, and print it."""

from __future__ import annotations

import sys

from tests.programs.figures import record, table

if __name__ == "__main__":
    shown = table.rendered(record.read())
    table.put_on_page(shown)
    sys.stdout.write(shown)
