"""`python -m tests.programs.figures`: put what is on record on both pages, and print it."""

from __future__ import annotations

import sys

from tests.programs.figures import record, table

if __name__ == "__main__":
    found = record.read()
    shown = table.rendered(found)
    table.put_on_page(shown)
    table.put_on_page(table.summary(found), table.README)
    sys.stdout.write(shown)
