"""The console starts fast and loads no engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIRST_FRAME_S = 1.0

SCRIPT = """
import sys, time
from pathlib import Path
import helmr_console.start
from helmr_console.app import ConsoleApp
from helmr_console.console import Options
from helmr.client.aio import AsyncClient
from helmr.client.calls import Retry

loaded = sorted({"ray", "duckdb", "fastapi", "uvicorn", "runtime"} & set(sys.modules))
if loaded:
    sys.exit(f"the console loads {', '.join(loaded)}")

class Timed(ConsoleApp):
    def on_ready(self):
        self.call_after_refresh(self.first_frame)

    def first_frame(self):
        print(f"{time.monotonic() - began:.3f}")
        self.exit(0)

client = AsyncClient(url="http://127.0.0.1:9", key="hlmr_x", retry=Retry(tries_max=1))
began = time.monotonic()
Timed(client, Options(state_folder=Path(sys.argv[1]))).run(headless=True, size=(120, 36))
"""


def test_first_frame_is_there_within_a_second_and_no_engine_is_loaded(
    project_root: Path, tmp_path: Path
) -> None:
    """The best of three: two shared cores are slow now and then for reasons that are not ours."""
    times = []
    for _ in range(3):
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            cwd=project_root,
            check=False,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert result.returncode == 0, result.stderr
        times.append(float(result.stdout.split()[-1]))
    sys.stdout.write(f"first frame after {min(times):.3f} s\n")
    assert min(times) < FIRST_FRAME_S
