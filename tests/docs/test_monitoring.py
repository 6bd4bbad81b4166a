"""The alert rules, the dashboard and the page about monitoring name metrics and labels that `/metrics` has."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from helmr_runtime.service.health import DegradedState
from tests.http.scrape import Scrape, scrape
from tests.service.stack import Stack, until

DOCS = Path(__file__).resolve().parents[2] / "docs"
RULES = DOCS / "monitoring" / "helmr-alerts.yml"
DASHBOARD = DOCS / "monitoring" / "helmr-dashboard.json"
PAGE = DOCS / "monitoring.md"
RUNBOOK = DOCS / "runbook.md"

NAME = re.compile(r"\bhelmr_[a-z_]+")
SELECTOR = re.compile(r"(helmr_[a-z_]+)\{([^}]*)\}")
LABEL = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
BY = re.compile(r"by \(([^)]*)\)")
OWN = {
    "helmr_host_memory_bytes": {"host"},
    "helmr_host_memory_max_bytes": {"host"},
    "helmr_limit_at_once": {"limit"},
    "helmr_limit_begun": {"limit"},
    "helmr_limit_closed": {"limit"},
    "helmr_limit_in_use": {"limit"},
    "helmr_limit_oldest_seconds": {"limit"},
    "helmr_limit_per": {"limit"},
    "helmr_limit_waiting": {"limit"},
    "helmr_notices_failing": {"target"},
    "helmr_notices_given_up_total": {"target"},
    "helmr_notices_waiting": {"target"},
    "helmr_schedule_times_total": {"outcome"},
}
"""What this test's runtime has none of: a process for its host, limits, notice targets, schedules; other tests have
them."""

BY_NUMBER = {
    DegradedState.NOT_READY: "helmr_ready == 0",
    DegradedState.LEDGER_FAILING: "helmr_ledger_failing == 1",
    DegradedState.QUEUE_OLD: "helmr_queue_oldest_seconds > 60",
}
"""States with an alert on what is behind them."""


@pytest.fixture
async def labels(tmp_path: Path) -> AsyncIterator[dict[str, set[str]]]:
    """The labels of each sample of a runtime in which everything has happened once."""
    stack = Stack(tmp_path)
    try:
        await stack.start()
        yield (await everything(stack)).labels | OWN
    finally:
        await stack.stop()


async def everything(stack: Stack) -> Scrape:
    await stack.started("by-link")
    answered = await stack.started()
    wait_id = answered["session"]["wait"]["id"]
    answer = {"data": {"decision": "approve"}}
    await stack.http.post(f"/v1/waits/{wait_id}/answer", json=answer)
    await stack.http.post("/v1/sessions", json={"task": "fail-once", "payload": None})
    wanted = {"helmr_runs_total", "helmr_steps_total", "helmr_waits_ended_total"}
    found: list[Scrape] = []

    async def is_there() -> bool:
        found.append(await scrape(stack))
        return wanted <= found[-1].labels.keys()

    await until(is_there)
    return found[-1]


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    loaded = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = loaded["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


async def test_each_expression_names_metrics_and_labels_that_there_are(
    labels: dict[str, set[str]],
) -> None:
    states = {state.value for state in DegradedState}
    for where, expression in expressions():
        names = set(NAME.findall(expression))
        assert names <= labels.keys(), where
        of_names = {label for name in names for label in labels[name]}
        for grouped in BY.findall(expression):
            assert set(grouped.replace(" ", "").split(",")) <= of_names, where
        for name, selector in SELECTOR.findall(expression):
            for label, _, value in LABEL.findall(selector):
                assert label in labels[name], where
                if name == "helmr_degraded":
                    assert set(value.split("|")) <= states, where
    for panel in panels():
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            (first, *_) = NAME.findall(target["expr"])
            assert shown <= labels[first], panel["title"]


def test_a_collector_scrapes_what_prometheus_scrapes_and_each_pipeline_has_its_parts() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    (prometheus,) = (one for one in map(yaml.safe_load, blocks) if "scrape_configs" in one)
    (collector,) = (one for one in map(yaml.safe_load, blocks) if "receivers" in one)
    (scraped,) = collector["receivers"]["prometheus"]["config"]["scrape_configs"]
    (wanted,) = prometheus["scrape_configs"]
    files = [one["authorization"].pop("credentials_file") for one in (scraped, wanted)]
    assert all(files)
    assert scraped == wanted
    pipelines = collector["service"]["pipelines"]
    assert pipelines.keys() == {"metrics", "traces"}
    for parts in pipelines.values():
        assert set(parts["receivers"]) <= collector["receivers"].keys()
        assert set(parts["exporters"]) <= collector["exporters"].keys()


def test_a_rule_has_what_prometheus_and_people_need() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert re.fullmatch(r"Helmr[A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_each_expression_is_one_of_prometheus() -> None:
    for where, expression in expressions():
        parsed = promql_parser.parse(expression)
        names = set(NAME.findall(parsed.prettify()))
        assert names == set(NAME.findall(expression)), where


def test_each_state_has_a_rule() -> None:
    for state in DegradedState:
        of_state = BY_NUMBER.get(state, state.value)
        assert any(of_state in rule["expr"] for rule in rules()), state


def test_each_rule_names_a_place_that_says_what_to_do() -> None:
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page in (RUNBOOK.name, PAGE.name)
        text = (DOCS / page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.M)
        anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
        assert anchor in anchors, rule["alert"]


def test_the_page_lists_each_state_with_what_to_do_and_no_others() -> None:
    _, _, page = PAGE.read_text(encoding="utf-8").partition("## Degraded states")
    table, _, _ = page.partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", table, re.M)
    assert [state for state, _, _ in rows] == [state.value for state in DegradedState]
    assert all(what for _, _, what in rows)


async def test_the_page_lists_each_metric_with_its_labels_and_no_others(
    labels: dict[str, set[str]],
) -> None:
    rows = re.findall(r"^\| `(helmr_\w+)` \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.M)
    listed = {name: set(re.findall(r"`(\w+)`", told)) for name, told in rows}
    real: dict[str, set[str]] = {}
    for name, found in labels.items():
        if not name.endswith("_created"):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            real.setdefault(family, set()).update(found - {"le"})
    assert listed == real


def test_a_panel_stands_beside_the_others() -> None:
    places = [
        (panel["gridPos"]["x"], panel["gridPos"]["y"], panel["gridPos"]["w"]) for panel in panels()
    ]
    assert len({place[:2] for place in places}) == len(places)
    assert all(x + w <= 24 for x, _, w in places)
    assert len({panel["id"] for panel in panels()}) == len(places)
