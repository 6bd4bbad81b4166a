"""The record of what a runtime has started, in its data directory, and the end of what it left.

The record is written before Ray starts, so that also a supervisor killed in its first second leaves
a name for what it began.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helmr.errors import Unavailable
from helmr.temporary import remove_folder
from helmr_runtime.process.processes import Process, RuntimeMark, end_all, is_running

logger = logging.getLogger(__name__)

RECORD_NAME = "processes.json"
RECORD_BYTES_MAX = 1024 * 1024
END_WITHIN_S = 8.0
RUN_DIR_PREFIX = "helmr-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one `up` has started.

    Shape on disk: `{marker, supervisor: [pid, started], run_dir, processes: [[pid, started], …]}`.
    """

    mark: RuntimeMark
    supervisor: Process
    processes: tuple[Process, ...] = ()


def write_private(path: Path, text: str) -> None:
    """Replace a file that only this user may read, in one step."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(
        missing_ok=True
    )  # of an earlier process with this pid, or a link that somebody left
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)  # half of it, on a full disk
        raise


def write_record(data_dir: Path, record: Record) -> None:
    """Replace the record."""
    body = {
        "marker": record.mark.marker,
        "supervisor": [record.supervisor.pid, record.supervisor.started],
        "run_dir": str(record.mark.run_dir),
        "processes": [[one.pid, one.started] for one in record.processes],
    }
    write_private(data_dir / RECORD_NAME, json.dumps(body))


def read_record(data_dir: Path) -> Record | None:
    """The record, None if there is none that can be read."""
    try:
        with (data_dir / RECORD_NAME).open() as file:
            body = json.loads(file.read(RECORD_BYTES_MAX))
        return Record(
            mark=RuntimeMark(str(body["marker"]), Path(body["run_dir"])),
            supervisor=Process(*map(int, body["supervisor"])),
            processes=tuple(Process(int(pid), int(started)) for pid, started in body["processes"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_record(data_dir: Path) -> None:
    """Nothing is left."""
    (data_dir / RECORD_NAME).unlink(missing_ok=True)


def remove_run_dir(run_dir: Path) -> None:
    """Remove the temporary folder of a runtime (`helmr.temporary`); nothing else, whatever the record says."""
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
    recorded: Iterable[Process] = (record.supervisor, *record.processes)
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
