"""The page of what is lost says no other seconds than the measured ones and those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helmr.client import Retry
from helmr_runtime.core.shared_log import LEASE_S
from helmr_runtime.directory.hosts import PoolTimings

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "what-is-lost.md").read_text("utf-8")
PERFORMANCE = (DOCS / "performance.md").read_text("utf-8")

MEASURED = {
    "a host (": "kill host",
    "the ledger": "kill ledger",
    "the directory": "kill directory",
    "the gateway": "kill gateway",
    "everything, and": "kill everything, `helmr up`",
    "a runtime in one process, and": "one process: kill it, `helmr up --in-process`",
}
"""Rows of the page, by how they begin, and of the table of `make availability`."""


def row_of(text: str, begin: str) -> list[str]:
    [row] = re.findall(rf"^\| {re.escape(begin)}.*\|$", text, re.M)
    return [cell.strip(" *") for cell in row.strip("|").split("|")]


@pytest.mark.parametrize(("begin", "fault"), MEASURED.items())
def test_a_process_takes_the_seconds_that_were_measured(begin: str, fault: str) -> None:
    section = PAGE.split("\n## A process of one machine\n")[1].split("\n## ")[0]
    said = [float(one) for one in re.findall(r"([\d.]+) s\b", row_of(section, begin)[2])]
    median, longest = map(float, row_of(PERFORMANCE, f"{fault} |")[-1].split(" / "))
    assert said in ([median], [median, longest], [round(median, 1), round(longest, 1)])
    assert median == longest or len(said) == 2


def test_the_stopped_ones_are_within_what_was_measured() -> None:
    low, high = map(float, re.findall(r"([\d.]+) to ([\d.]+) s; the watchdog at once", PAGE)[0])
    each = [
        row_of(PERFORMANCE, f"stop {one} |")[-1].split(" / ")
        for one in ("gateway", "ledger", "directory", "host")
    ]
    times = [float(time) for pair in each for time in pair]
    assert (low, high) == (round(min(times), 1), round(max(times), 1))


def test_bounds_are_those_of_the_code() -> None:
    assert f"for up to {Retry().total_s:.0f} s with the same operation id" in PAGE
    assert Retry().follow_s is None
    assert f"up to {PoolTimings().silent_max_s:.0f} s for its sessions" in PAGE
    assert f"the old lease lapses ({LEASE_S:.0f} s)" in PAGE


def test_a_restart_is_the_units() -> None:
    [said] = re.findall(r"systemd (\d) s later \(`(RestartSec=\d)`\)", PAGE)
    assert said[1] == f"RestartSec={said[0]}"
    assert said[1] in (DOCS / "deployment" / "helmr.service").read_text("utf-8").splitlines()
