"""`python -m helmr.cli`."""

from __future__ import annotations

from helmr.cli.start import main

main()
