"""A small process that ends what a runtime has started when its supervisor is gone, however it went.

It holds the reading end of a pipe whose writing end only the supervisor has: the kernel closes it
when the supervisor ends, also by SIGKILL. Nothing else ever comes through the pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from helmr_runtime.process.orphans import END_WITHIN_S, read_record, remove_run_dir
from helmr_runtime.process.processes import RuntimeMark, end_all


class Watchdog:
    """The supervisor's side.

    Args:
        data_dir: Where the record of the runtime is.
        mark: Of the runtime.
    """

    def __init__(self, data_dir: Path, mark: RuntimeMark) -> None:
        self._data_dir = data_dir
        self._mark = mark
        self._pipe: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the watching process."""
        return self._process.pid if self._process is not None else None

    @property
    def is_alive(self) -> bool:
        """It watches."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the watching process, or another one if it was killed."""
        if self._pipe is not None:
            os.close(self._pipe)
        reading, self._pipe = os.pipe()
        command = [sys.executable, "-P", "-m", __name__, str(reading)]
        self._process = subprocess.Popen(
            [*command, str(self._data_dir), self._mark.marker, str(self._mark.run_dir)],
            pass_fds=(reading,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is not meant for it
        )
        os.close(reading)

    def dismiss(self, *, timeout_s: float) -> None:
        """Let it look once more for what is left, and wait for its end."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def main(pipe: int, data_dir: Path, mark: RuntimeMark) -> None:
    """Wait for the supervisor's end, then end everything that belongs to its runtime."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    while os.read(pipe, 1):
        pass
    record = read_record(data_dir)
    is_mine = record is not None and record.mark == mark
    end_all(mark, record.processes if record and is_mine else (), within_s=END_WITHIN_S)
    remove_run_dir(mark.run_dir)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), RuntimeMark(sys.argv[3], Path(sys.argv[4])))
