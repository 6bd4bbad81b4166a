"""`python -m tests.programs.simulated_pair`: as `python -m tests.programs.simulation`, of pairs."""

from __future__ import annotations

import sys

from tests.programs.simulated_pair.pair import simulate_pair
from tests.programs.simulated_pair.planted import planted
from tests.programs.simulated_pair.probes import unreached
from tests.programs.simulation.__main__ import Kind, main

PAIR = Kind(
    "pairs", "simulate-pairs", "tests.programs.simulated_pair", simulate_pair, planted, unreached
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], PAIR))
