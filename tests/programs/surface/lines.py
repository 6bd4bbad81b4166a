"""The surface as lines, and what between two of them would break a user.

A line is one thing that a user may name: a class, a call, an argument of it, a command, an option, a route, a field of
a body or of a reply. `REQUIRED` stands behind what a caller must give. So a line that is gone breaks users, and so does
a new required argument of a call that was there; every other new line is an addition.
"""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from packaging.version import Version

from helmr import errors, features
from helmr.client import blocking, sync
from helmr_runtime.http.openapi import document
from tests.docs.test_cli_page import COMMANDS

REQUIRED = " required"
MODULES = ("helmr", "helmr.client", "helmr.testing", "helmr.experiments", "helmr.embedded")
"""Whose `__all__`, or whose public functions, the docs of the SDK show."""


def breaks(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """What of `after` breaks users of `before`, one line each."""
    old, new = {*before}, {*after}
    gone = [f"gone: {one}" for one in sorted(old - new) if one.removesuffix(REQUIRED) not in new]
    asked = [
        f"asked for now: {one}"
        for one in sorted(new - old)
        if one.endswith(REQUIRED)
        and {one.removesuffix(REQUIRED), _owner(one), _owner(one) + REQUIRED} & old
    ]
    return [one for one in gone if f"asked for now: {one[6:]}{REQUIRED}" not in asked] + asked


def _owner(line: str) -> str:
    """The call or the route that an argument is of; of a field of a part, that part."""
    words = line.removesuffix(REQUIRED).split(" ")
    if " body" not in line:
        return " ".join(words[:-1])
    above, _, part = words[-2].removesuffix("[]").rpartition(".")
    return " ".join([*words[:-2], above, part] if above else words[:-2])


# --- Python -----------------------------------------------------------------------------------------


def python() -> list[str]:
    """Public names, their methods and arguments; codes of errors with what they mean to programs."""
    found = set()
    for name in MODULES:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", None) or [
            one
            for one, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == name and one[0] != "_"
        ]
        for one in public:
            found |= {*_value(f"{name}.{one}", getattr(module, one))}
    of_features = {place.partition(":")[0] for _, (_, place) in features.client_parts()}
    parts = {sync.__name__, blocking.__name__, *of_features}
    for one, value in vars(sync).items():
        if inspect.isclass(value) and value.__module__ in parts and one[0] != "_":
            found |= {*_class(f"{sync.__name__}.{one}", value)}  # `client.waits` and the like
    for code, error in errors.all_codes().items():
        found.add(f"error {code} exit {error.exit_code} status {error.status}")
    return sorted(found)


def _value(name: str, value: Any) -> Iterator[str]:
    yield name
    if inspect.isclass(value):
        yield from _class(name, value)
    elif callable(value) and not isinstance(value, type):
        yield from _arguments(name, value)


def _class(name: str, found: type) -> Iterator[str]:
    if issubclass(found, enum.Enum):
        yield from (f"{name} = {one.value}" for one in found)
        return
    if not issubclass(found, BaseException):
        yield from _arguments(name, found)
    for one, value in inspect.getmembers(found):
        if one[0] == "_" or not _is_ours(found, one):
            continue
        yield f"{name}.{one}"
        if inspect.isroutine(value):
            yield from _arguments(f"{name}.{one}", value)


def _is_ours(found: type, name: str) -> bool:
    owner = next((one for one in found.__mro__ if name in vars(one)), object)
    return owner.__module__.partition(".")[0] in ("helmr", "helmr_runtime")


def _arguments(name: str, call: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return
    place = 0
    for one in parameters:
        if one.name[0] == "_" or one.name in ("self", "cls"):
            continue
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            yield f"{name} {'**' if one.kind is one.VAR_KEYWORD else '*'}{one.name}"
            continue
        by_place = one.kind is not one.KEYWORD_ONLY
        place += by_place
        where = f"{place}:" if by_place else ""
        yield f"{name} {where}{one.name}{REQUIRED if one.default is one.empty else ''}"


# --- HTTP -------------------------------------------------------------------------------------------


def http() -> list[str]:
    """Routes, what they take, and what they answer."""
    made = document(features.OPERATIONS, version="0")
    schemas: Mapping[str, Any] = made["components"]["schemas"]
    found = set()
    for path, methods in made["paths"].items():
        for method, row in methods.items():
            if isinstance(row, Mapping):
                found |= {*_route(f"{method.upper()} {path}", row, schemas)}
    return sorted(found)


def _route(name: str, row: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield name
    for one in row.get("parameters", ()):
        if one.get("in") != "path":
            needs = REQUIRED if one.get("required") else ""
            yield f"{name} {one['in']}:{one['name']}{needs}"
    for content in row.get("requestBody", {}).get("content", {}).values():
        yield from _fields(f"{name} body", content.get("schema", {}), schemas, asks=True)
    for status, answer in row.get("responses", {}).items():
        if status.startswith("2"):
            for content in answer.get("content", {}).values():
                yield from _fields(f"{name} reply", content.get("schema", {}), schemas, asks=False)


def _fields(
    name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any], *, asks: bool, deep: int = 3
) -> Iterator[str]:
    schema = schemas.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _fields(name, part, schemas, asks=asks, deep=deep)
    if deep and "items" in schema:
        yield from _fields(f"{name}[]", schema["items"], schemas, asks=asks, deep=deep - 1)
    for one, inner in schema.get("properties", {}).items():
        needs = REQUIRED if asks and one in schema.get("required", ()) else ""
        yield f"{name} {one}{needs}"
        if deep:
            yield from _fields(f"{name}.{one}", inner, schemas, asks=asks, deep=deep - 1)


# --- the command line ---------------------------------------------------------------------------------


def cli() -> list[str]:
    """Commands and their options."""
    options = {f"{name} {option}" for name, given in COMMANDS.items() for option in given}
    return sorted({*COMMANDS, *options})


SURFACES = {"python": python, "http": http, "cli": cli}


# --- records ------------------------------------------------------------------------------------------


def record_of(version: str) -> str:
    """What the folder of its record is called: patch versions and candidates share their minor version's."""
    one = Version(version)
    return f"{one.major}.{one.minor}"


def record_before(version: str, records: Iterable[str]) -> str:
    """The newest of these that is of an earlier minor version."""
    own = Version(record_of(version))
    return max((one for one in records if Version(one) < own), key=Version)
