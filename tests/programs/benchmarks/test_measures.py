"""Percentiles, medians over rounds, and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.programs.benchmarks import report
from tests.programs.benchmarks.measures import Measured, percentile, summarize


def measured(**parts: object) -> Measured:
    usual = {
        "operations": 10,
        "wanted": 10,
        "elapsed_s": 2.0,
        "server_cpu_s": 0.1,
        "load_cpu_s": 0.02,
        "pss_bytes": 50_000_000,
    }
    return Measured(**{**usual, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "found"), [(0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(share: float, found: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == found


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_at_least_that_share_does_not_pass_a_percentile(values: list[float], share: float) -> None:
    limit = percentile(values, share)
    assert limit in values
    assert sum(value <= limit for value in values) >= share * len(values)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0), ([1.0], 1.1)])
def test_what_has_no_percentile_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no "):
        percentile(values, share)


def test_rounds_are_summed_up_by_their_medians() -> None:
    rounds = [
        measured(elapsed_s=elapsed_s, visible_s=[elapsed_s / 100] * 10, extra={"x": elapsed_s})
        for elapsed_s in (1.0, 2.0, 10.0)
    ]
    found = summarize("a", 1, "helmr", rounds)
    assert (found.rounds, found.elapsed_s, found.rate_per_s) == (3, 2.0, 5.0)
    assert found.visible_p50_ms == found.visible_p99_ms == pytest.approx(20)
    assert found.acknowledged_p50_ms is None
    assert (found.server_cpu_ms, found.load_cpu_ms, found.pss_mb) == (
        pytest.approx(10),
        pytest.approx(2),
        pytest.approx(50),
    )
    assert found.extra == {"x": 2.0}


def test_a_case_that_was_left_says_how_far_it_came() -> None:
    found = summarize("e", 1000, "helmr", [measured(operations=7, wanted=1000)])
    assert "7 of 1000, time was up" in report.row(found, None)


def test_a_case_of_which_nothing_ended_has_figures_too() -> None:
    found = summarize("e", 1000, "helmr", [measured(operations=0, wanted=1000)])
    assert found.rate_per_s == 0
    other = summarize("e", 1000, "other", [measured()])
    assert report.row(other, found)[-2] == report.NONE


def test_who_can_not_do_a_case_says_so_in_its_table() -> None:
    found = [summarize("h", 9, "helmr", [measured()])]
    reasons = {("h", 9, "other"): "has no server", ("j", 1, "other"): "has no command"}
    text = report.markdown(found, {"h": "restart", "j": "command"}, {}, reasons)
    restart, command = text.split("## j, 1: command")
    assert "| other  | has no server" in restart
    assert "has no command" in command
    assert "helmr" not in command


def test_ratios_are_those_of_rate_and_cpu() -> None:
    base = summarize("a", 1, "helmr", [measured()])
    other = summarize("a", 1, "other", [measured(elapsed_s=4.0, server_cpu_s=0.3)])
    assert report.row(other, base)[-2:] == ["0.50", "3.00"]
    assert report.row(base, base)[-2:] == ["1.00", "1.00"]
    assert report.row(other, None)[-2:] == [report.NONE, report.NONE]


def test_each_case_is_a_table_with_ratios_against_helmr(tmp_path: Path) -> None:
    found = [
        summarize("a", 1, "helmr", [measured()]),
        summarize("a", 1, "other", [measured(elapsed_s=1.0, extra={"seen": 3.0})]),
    ]
    text = report.markdown(found, {"a": "hot"}, {"machine": "two cores"})
    assert "- machine: two cores" in text
    assert "## a, 1: hot" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[-1].split("|")][-3:-1] == ["2.00", "1.00"]
    assert "other: seen 3.0" in text
    report.write(tmp_path / "new", text, {"summaries": [one.to_json() for one in found]})
    assert (tmp_path / "new" / "bench.md").read_text() == text
    assert len(json.loads((tmp_path / "new" / "bench.json").read_text())["summaries"]) == 2
