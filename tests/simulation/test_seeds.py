"""A seed is a whole history: event by event the same, whatever the machine and the interpreter do meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.test_simulation import simulate

SEEDS = ("11", "12", "13", "14")


def digests(root: Path, hash_seed: str, *arguments: str) -> dict[str, str]:
    """By seed, what its events come to, in a process with its own addresses and its own hashes of texts."""
    chosen = [argument for seed in SEEDS for argument in ("--seed", seed)]
    hashed = {"PYTHONHASHSEED": hash_seed}
    ran = simulate(root, *chosen, "--digests", "--no-shrink", *arguments, environment=hashed)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = (line.split(maxsplit=1) for line in ran.stdout.splitlines())
    return {seed: told for seed, told in lines if " after " in told}


@pytest.mark.parametrize("feed_pause_s", ["0.05", "0.2", "1.0"])
def test_a_seed_is_the_same_events_each_time(project_root: Path, feed_pause_s: str) -> None:
    arguments = ("--steps", "2500", "--feed-pause", feed_pause_s)
    first = digests(project_root, "1", *arguments)
    again = digests(project_root, "2", *arguments, "--unsettled")
    assert set(first) == set(SEEDS)
    assert len(set(first.values())) == len(SEEDS)
    assert again == first


def test_what_happens_is_written_as_lines(project_root: Path, tmp_path: Path) -> None:
    traces = [tmp_path / "one", tmp_path / "again"]
    for trace in traces:
        simulate(project_root, "--seed", "11", "--steps", "500", "--trace", str(trace))
    one, again = (trace.read_text().splitlines() for trace in traces)
    assert any("session.created" in line for line in one)
    assert len(one) > 500
    assert one == again
