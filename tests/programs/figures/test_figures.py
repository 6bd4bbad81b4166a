"""The page shows what is on record, and what is on record was written by the commands."""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs.figures import record, table


def test_the_page_shows_what_is_on_record() -> None:
    shown = table.on_page(table.PAGE.read_text())
    assert shown == table.rendered(record.read()), "run `make figures`"


def test_the_readme_says_no_other_figures() -> None:
    shown = table.on_page(table.README.read_text())
    assert shown == table.summary(record.read()), "run `make figures`"


def test_a_figure_names_the_versions_that_it_was_measured_with(tmp_path: Path) -> None:
    """The first and the last, by date."""
    path = tmp_path / "figures.json"
    record.add("model", "make model", {"commands": 1}, path=path)
    [now] = record.read(path)["model"]
    assert (
        now.version
        == tomllib.loads((record.ROOT / "pyproject.toml").read_text())["project"]["version"]
    )
    old = replace(now, date="2026-11-26", version="0.1.0")
    between = replace(now, date="2026-11-27", version="0.2.0")
    assert table.versions([now]) == now.version
    assert table.versions([now, old, between]) == f"0.1.0 to {now.version}"
    for source, runs in record.read().items():
        assert f"| {table.versions(runs)} |" in table.rendered({source: runs})


def test_a_command_that_was_recorded_once_is_shown_as_it_was_typed(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    record.put("planted", "make planted PLANTED_ARGS=slow", {"planted": 2, "caught": 2}, path=path)
    assert "| planted | `make planted PLANTED_ARGS=slow` |" in table.rendered(record.read(path))


def test_figures_of_several_runs_are_added_and_a_campaign_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    figures = {"seeds": 3, "steps": 1_000, "cpu_s": 1_800, "faults": {"kill host": 2}, "broken": 0}
    record.add("simulation", "first", figures, path=path)
    record.add("simulation", "second", {**figures, "faults": {"cut": 1}}, path=path)
    record.put("planted", "all", {"planted": 30, "caught": 29}, path=path)
    record.put("planted", "all again", {"planted": 30, "caught": 30}, path=path)
    found = record.read(path)
    assert [run.command for run in found["simulation"]] == ["first", "second"]
    assert [run.command for run in found["planted"]] == ["all again"]
    shown = table.rendered(found)
    assert "| simulated seeds | 6 | simulation |" in shown
    assert "| processor time of it | 1.0 h | simulation |" in shown
    assert "| faults in it | 1 cut, 2 kill host | simulation |" in shown
    assert "| planted bugs caught | 30 of 30 | planted |" in shown
    assert f"| runs that stood still at the end | {table.NOT_YET} | histories |" in shown


def test_a_run_is_of_the_commit_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, head = tmp_path / "figures.json", iter(["before", "", "after", ""])
    monkeypatch.setattr(record, "_git", lambda *arguments: next(head))
    record.commit.cache_clear()
    parser = argparse.ArgumentParser()
    record.add_option(parser)
    assert parser.parse_args([]).record is False
    assert parser.parse_args(["--record"]).record is True
    record.put("planted", "all", {"planted": 30, "caught": 30}, path=path)
    record.commit.cache_clear()
    [run] = record.read(path)["planted"]
    assert run.commit == "before"


@pytest.mark.parametrize("source", table.COMMANDS)
def test_what_puts_figures_on_record_is_a_target_of_make(source: str) -> None:
    target = table.COMMANDS[source].split()[1]
    assert f"\n{target}: " in (record.ROOT / "Makefile").read_text()


def test_a_row_is_of_a_known_source() -> None:
    assert {row.source for row in table.ROWS} == set(table.COMMANDS)
