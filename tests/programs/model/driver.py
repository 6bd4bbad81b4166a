"""A Ray driver that goes through the runtime's actors: `python -m tests.programs.model.driver RESULT`.

Options come on its input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ray

from helmr.client import AsyncClient
from tests.programs.model.doors import through_client

SEEDS = range(300, 312)


def main(options: dict[str, Any]) -> dict[str, Any]:
    """What differs, and how the runtime was found."""
    ray.init(address=options["address"], log_to_driver=False, configure_logging=False)
    found_by: list[str] = []

    def make() -> AsyncClient:
        client = AsyncClient()
        found_by.append(client.endpoint.found_by)
        return client

    return {"differ": through_client(make, SEEDS), "found_by": found_by, "sequences": len(SEEDS)}


if __name__ == "__main__":
    answer = main(json.load(sys.stdin))
    Path(sys.argv[1]).write_text(json.dumps(answer))
