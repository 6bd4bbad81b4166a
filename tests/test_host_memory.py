"""What bounds a host: its own memory as the kernel counts it, and what the machine or its control group has."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from helmr.platform import anonymous_bytes, machine_bytes
from helmr_runtime.host_status import bound_bytes

MIB = 1024 * 1024
MACHINE = 8 * 1024 * MIB
UNLIMITED_V1 = "9223372036854771712"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine of 8 GiB, without control groups."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal:  {MACHINE // 1024} kB\nMemFree:  1 kB\n")
    return folder


def limit(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_what_is_allocated_counts_once_it_is_touched() -> None:
    before = anonymous_bytes()
    block = mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    assert anonymous_bytes() - before < 16 * MIB
    for at in range(0, len(block), mmap.PAGESIZE):
        block[at] = 1
    assert 56 * MIB < anonymous_bytes() - before < 80 * MIB
    block.close()


def test_swapped_memory_counts(proc: Path) -> None:
    (proc / "self/status").write_text(
        "Name:\tpython\nVmRSS:\t 900 kB\nRssAnon:\t 300 kB\nRssFile:\t 600 kB\nVmSwap:\t 100 kB\n"
    )
    assert anonymous_bytes(proc) == 400 * 1024


def test_without_control_groups_it_is_the_machine(proc: Path, tmp_path: Path) -> None:
    assert machine_bytes(proc, tmp_path / "none") == MACHINE


@pytest.mark.parametrize(
    ("line", "file", "expected"),
    [
        ("0::/app/one", "app/one/memory.max", 512 * MIB),
        ("0::/app/one", "app/memory.max", 512 * MIB),
        ("0::/not/seen/from/here", "memory.max", 512 * MIB),
        ("4:memory:/app", "memory/app/memory.limit_in_bytes", 512 * MIB),
        ("7:cpu,memory:/app", "memory/memory.limit_in_bytes", 512 * MIB),
        ("4:cpu:/app", "cpu/app/memory.limit_in_bytes", MACHINE),
    ],
    ids=["own", "around", "container", "first version", "first version's root", "another"],
)
def test_the_smallest_limit_of_its_control_groups_counts(
    proc: Path, tmp_path: Path, line: str, file: str, expected: int
) -> None:
    (proc / "self/cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    cgroups = tmp_path / "cgroup"
    limit(cgroups / file, str(512 * MIB))
    assert machine_bytes(proc, cgroups) == expected


@pytest.mark.parametrize("text", ["max", UNLIMITED_V1, ""])
def test_what_limits_nothing_does_not_count(proc: Path, tmp_path: Path, text: str) -> None:
    (proc / "self/cgroup").write_text("0::/app\n")
    limit(tmp_path / "cgroup/app/memory.max", text)
    assert machine_bytes(proc, tmp_path / "cgroup") == MACHINE


def test_the_default_is_a_quarter() -> None:
    assert bound_bytes(None, at_start=60 * MIB, machine=MACHINE) == 2048 * MIB
    assert bound_bytes(300 * MIB, at_start=60 * MIB, machine=MACHINE) == 300 * MIB


def test_a_host_that_starts_above_its_bound_may_have_twice_what_it_starts_with() -> None:
    assert bound_bytes(300 * MIB, at_start=301 * MIB, machine=MACHINE) == 602 * MIB


def test_this_machine_has_memory() -> None:
    assert machine_bytes() > 100 * MIB
