"""Ends the processes of a runtime whose supervisor is gone: by a watching process, or at the next start.

A record in the data directory names them. It is written before Ray starts, so even a supervisor killed in its first
second leaves a record of what it started.

The watching process is this module, run by itself. It holds the reading end of a pipe whose writing end only the
supervisor has: the kernel closes it when the supervisor ends, also by SIGKILL. Nothing else ever comes through it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helmr.errors import Unavailable
from helmr.hash_seed import remove_folder
from helmr.private_file import write_private
from helmr_runtime.process.processes import OsProcess, RuntimeMark, end_all, is_running

logger = logging.getLogger(__name__)

RECORD_NAME = "processes.json"
RECORD_BYTES_MAX = 1024 * 1024
END_WITHIN_S = 8.0
RUN_DIR_PREFIX = "helmr-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """Record of the processes that one `up` started.

    Shape on disk: `{marker, supervisor: [pid, started], run_dir, processes: [[pid, started], …]}`.
    """

    mark: RuntimeMark
    supervisor: OsProcess
    processes: tuple[OsProcess, ...] = ()


def write_record(data_dir: Path, record: ProcessRecord) -> None:
    """Replace the record."""
    body = {
        "marker": record.mark.marker,
        "supervisor": [record.supervisor.pid, record.supervisor.started],
        "run_dir": str(record.mark.run_dir),
        "processes": [[one.pid, one.started] for one in record.processes],
    }
    write_private(data_dir / RECORD_NAME, json.dumps(body))


def read_record(data_dir: Path) -> ProcessRecord | None:
    """The record, None if there is none that can be read."""
    try:
        with (data_dir / RECORD_NAME).open() as file:
            body = json.loads(file.read(RECORD_BYTES_MAX))
        return ProcessRecord(
            mark=RuntimeMark(str(body["marker"]), Path(body["run_dir"])),
            supervisor=OsProcess(*map(int, body["supervisor"])),
            processes=tuple(
                OsProcess(int(pid), int(started)) for pid, started in body["processes"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_record(data_dir: Path) -> None:
    """Nothing is left."""
    (data_dir / RECORD_NAME).unlink(missing_ok=True)


def remove_run_dir(run_dir: Path) -> None:
    """Remove the temporary folder of a runtime (`helmr.hash_seed`); nothing else, whatever the record says."""
    if run_dir.name.startswith(RUN_DIR_PREFIX) and not run_dir.is_symlink():
        remove_folder(run_dir)


def end_leftovers(data_dir: Path) -> int:
    """End what an earlier `up` on this data directory has left; the caller holds its lock.

    Returns:
        How many processes there were.

    Raises:
        Unavailable: Some can't be ended.
    """
    record = read_record(data_dir)
    if record is None:
        return 0
    recorded: Iterable[OsProcess] = (record.supervisor, *record.processes)
    recorded = [one for one in recorded if is_running(one) and one.pid != os.getpid()]
    before = len(recorded)
    left = end_all(record.mark, recorded, within_s=END_WITHIN_S)
    if left:
        pids = ", ".join(str(one.pid) for one in left)
        raise Unavailable(
            f"processes of an earlier runtime on {data_dir} can't be ended: {pids}",
            hint="End them, then start again.",
        )
    remove_run_dir(record.mark.run_dir)
    forget_record(data_dir)
    return before


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
        """Pid of the watching process."""
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
        """Make it look once more for remaining processes, and wait for its end."""
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
