"""Says what task code finds in its environment, and what the programs that it starts do."""

import os
import subprocess
import sys

from helmr import step, task

NAME = "HELMR_MASTER_KEYS"
LOOK = f"import os; print(os.environ.get({NAME!r}, ''), end='')"


@step
def look() -> list[str]:
    started = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    return [os.environ.get(NAME, ""), started.stdout]


@task
async def environment(payload: None) -> list[str]:
    return await look()
