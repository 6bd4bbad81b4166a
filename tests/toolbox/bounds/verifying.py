"""How long `helmr verify` takes for a whole ledger (S-67)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Verified:
    """One run of the command."""

    entries: int
    took_s: float
    cpu_s: float


def verified(data_dir: Path) -> Verified:
    """Run it as an operator does; it has to find nothing."""
    command = ("verify", "--json", "--data-dir", str(data_dir))
    before, began_s = os.times(), time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "helmr.cli", *command], capture_output=True, text=True, check=True
    )
    after, took_s = os.times(), time.monotonic() - began_s
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return Verified(json.loads(ran.stdout)["entries"], took_s, cpu_s)
