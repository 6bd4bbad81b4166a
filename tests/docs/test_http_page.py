"""The HTTP page and the OpenAPI document name the same routes, parameters and fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from pydantic import BaseModel

from helmr import features
from helmr.models import (
    EntryInfo,
    NoteRequest,
    PrincipalInfo,
    RecordInfo,
    RunInfo,
    SessionInfo,
    WaitInfo,
)
from helmr.wire.operation import Operation
from helmr.wire.roles import Need
from helmr_runtime.features import FEATURES
from helmr_runtime.http.app import GatewayApp
from helmr_runtime.http.settings import HttpSettings
from tests.docs import tables

METHODS = ("get", "post", "put", "patch", "delete")
# Told once for all routes.
COMMON = {"Operation-Id"}
OBJECTS: dict[str, type[BaseModel]] = {
    "session": SessionInfo,
    "run": RunInfo,
    "wait": WaitInfo,
    "record": RecordInfo,
    "entry": EntryInfo,
    "principal": PrincipalInfo,
}


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "http.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document is made from the routes alone; no service is called."""
    settings = HttpSettings(admin_key_hash="0" * 64, version="0")
    return GatewayApp(MagicMock(features=FEATURES), settings).document


def routes(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    }


def place(page: str, route: str) -> str:
    """The table row or the paragraph that tells of a route."""
    found = [line for line in page.split("\n") if f"`{route}`" in line]
    assert len(found) == 1, f"{route} is told {len(found)} times"
    at = page.index(f"`{route}`")
    return found[0] if found[0].startswith("|") else page[at : page.index("\n\n", at)]


def taken(operation: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """Query parameters, headers and body fields."""
    names = {p["name"] for p in operation.get("parameters", []) if p["in"] != "path"} - COMMON
    for content in operation.get("requestBody", {}).get("content", {}).values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        schema = document["components"]["schemas"].get(name, content["schema"])
        names |= set(schema.get("properties", {}))
    return names


@pytest.mark.parametrize("name", tables.PAGES)
def test_tables_are_as_the_operations_say(name: str) -> None:
    text = (tables.DOCS / name).read_text(encoding="utf-8")
    assert tables.shown(text) == text, f"docs/{name} is older than its tables: {tables.COMMAND}"


def test_a_new_operation_is_a_row_of_both_pages() -> None:
    """And of no other table than that of its noun."""
    row = Operation(
        "runs.touch", "POST /v1/runs/{run_id}/touch", Need.STEER, "Touch a run.", body=NoteRequest,
        reply=RunInfo,
    )  # fmt: skip
    for name in ("http.md", "security.md"):
        text = (tables.DOCS / name).read_text(encoding="utf-8")
        now = tables.shown(text, (*features.OPERATIONS, row)).splitlines()
        new = [line for line in now if line not in text.splitlines()]
        assert [line.split(" | ")[0] for line in new] == [f"| `{row.route}`"]


def test_the_page_has_every_route_and_no_other(page: str, document: dict[str, Any]) -> None:
    told = set(re.findall(rf"`((?:{'|'.join(METHODS).upper()}) /[^`\s]*)`", page))
    assert told == set(routes(document))


def test_each_route_is_told_with_what_it_takes(page: str, document: dict[str, Any]) -> None:
    missing = {
        route: lacks
        for route, operation in routes(document).items()
        if (lacks := {n for n in taken(operation, document) if f"`{n}" not in place(page, route)})
    }
    assert missing == {}


def test_a_row_names_nothing_that_its_route_does_not_take(
    page: str, document: dict[str, Any]
) -> None:
    surplus = {}
    for route, operation in routes(document).items():
        row = place(page, route)
        if row.startswith("|"):
            named = set(re.findall(r"`([A-Za-z_-]+)`", row.split("|")[2]))
            surplus[route] = named - taken(operation, document)
    assert {route: names for route, names in surplus.items() if names} == {}


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_objects_are_told_with_their_fields(page: str, name: str) -> None:
    fields = OBJECTS[name].model_fields
    row = next(line for line in page.split("\n") if line.startswith(f"| {name} | `"))
    named = [field.alias or key for key, field in fields.items()]
    computed = OBJECTS[name].model_computed_fields
    assert re.findall(r"`(\w+)`", row) == [*named, *computed]
