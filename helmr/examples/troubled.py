"""Tasks that have what operators meet in bad weeks: code that takes its process down, steps that last.

Not to copy from: they are here to be looked at, together with what `helmr.examples.seed` starts.
"""

from __future__ import annotations

import asyncio
import os
import signal

from pydantic import BaseModel

from helmr import TaskContext, step, streams, task

retune = streams.input("retune", schema=float)
lines = streams.output("lines", schema=str)


class Import(BaseModel):
    """A file to import."""

    file: str
    rows: int = 1000


class Report(BaseModel):
    """A report to compute; `seconds` is how long its one step takes."""

    name: str
    seconds: float = 600.0


@step
async def open_file(job: Import) -> int:
    """Read the header; the number of rows."""
    return job.rows


@task(id="nightly-import")
async def nightly_import(job: Import, ctx: TaskContext) -> int:
    """Parse a file in the task itself, with a parser that kills its process: blocked at the third crash."""
    rows = await open_file(job)
    await lines.append(f"{rows} rows in {job.file}")
    os.kill(os.getpid(), signal.SIGKILL)  # what a bug in a native parser looks like from outside
    return rows


@step(timeout="1h")
async def compute(report: Report) -> str:
    """Take long."""
    await asyncio.sleep(report.seconds)
    return report.name


@task(id="slow-report")
async def slow_report(report: Report) -> str:
    """Stay live for as long as the step takes."""
    return await compute(report)
