"""The OpenAPI document is made from the table of operations and pydantic's schemas.

It lists exactly the statuses that an operation may answer with, problems included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter

from helmr.models import (
    Problem,
)
from helmr.wire import ids
from helmr.wire.operation import EVENTS, PATH_IDS, Media, Operation
from helmr_runtime.http.problems import MEDIA_TYPE as PROBLEM_TYPE

Schema = dict[str, Any]

OPENAPI = "3.1.0"
JSON_TYPE = "application/json"
REFERENCE = "#/components/schemas/{model}"

CHAPTERS = {
    "session_files": "session files",
    "public_tokens": "access",
    "api_keys": "access",
    "claims": "waits",
    "links": "waits",
    "backups": "backup",
    "pruning": "ledger",
}
"""Tags of operations that the service has under another noun than clients."""

PATH_TEXTS: Mapping[str, Schema] = {
    "stream": {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
    "secret": {"description": "What the link or callback URL ends with, or a public token."},
}
"""Only documented: the service checks ids and names, with better errors."""

OPERATION_ID: Schema = {
    "name": "Operation-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": ids.pattern(ids.OPERATION)},
    "description": "Makes the call repeatable: the same id with the same request gets the first receipt for "
    "24 hours, with another one 409.",
}
LAST_EVENT_ID: Schema = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Where to go on; wins over `after`.",
}
ACCEPT: Schema = {
    "name": "accept",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "With the Arrow type, the answer is an IPC stream.",
}


def document(rows: Iterable[Operation[Any]], *, version: str) -> Schema:
    """The document of these operations."""
    shown = [row for row in rows if row.is_documented]
    shapes, components = _shapes(shown)
    paths: dict[str, Schema] = {}
    for row in shown:
        at = paths.setdefault(row.path, {})
        at[row.method.lower()] = _operation(row, shapes, components)
    for row in shown:
        if row.query is not None:
            components.pop(row.query.__name__, None)  # its fields stand in the operation
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Helmr",
            "summary": "Durable sessions of agent tasks that stop for people",
            "version": version,
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _shapes(rows: Iterable[Operation[Any]]) -> tuple[dict[tuple[str, str], Schema], Schema]:
    """The schema of each row's body, query and reply, and the components that they refer to."""
    wanted: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = []
    for row in rows:
        if row.body is not None:
            wanted.append(((row.name, "body"), "validation", TypeAdapter(row.body)))
        if row.query is not None:
            wanted.append(((row.name, "query"), "validation", TypeAdapter(row.query)))
        if not isinstance(row.reply, Media):
            shape: Any = row.reply
            wanted.append(((row.name, "reply"), "serialization", TypeAdapter(shape)))
    wanted.append((("", "problem"), "validation", TypeAdapter(Problem)))
    made, found = TypeAdapter.json_schemas(wanted, ref_template=REFERENCE)
    shapes = {key: schema for (key, _), schema in made.items()}
    return shapes, found.get("$defs", {})


def _operation(
    row: Operation[Any], shapes: Mapping[tuple[str, str], Schema], components: Schema
) -> Schema:
    noun = row.served_at[0]
    said: Schema = {
        "tags": [row.tag or CHAPTERS.get(noun, noun)],
        "summary": row.summary.removesuffix("."),
        "operationId": row.name,
    }
    if row.description:
        said["description"] = row.description
    parameters = list(_parameters(row, shapes, components))
    if parameters:
        said["parameters"] = parameters
    if row.body is not None:
        content = {JSON_TYPE: {"schema": shapes[row.name, "body"]}}
        said["requestBody"] = {"content": content}
        if row.is_body_needed:
            said["requestBody"]["required"] = True
    said["responses"] = dict(sorted(_responses(row, shapes).items()))
    said["security"] = [{"key": []}] if row.needs_key else []
    return said


def _parameters(
    row: Operation[Any], shapes: Mapping[tuple[str, str], Schema], components: Schema
) -> Iterable[Schema]:
    for name in row.path_names:
        named = row.names.get(name)
        if named is not None:
            text: Schema = {"pattern": named.pattern, "maxLength": named.chars_max}
        elif name in PATH_IDS:
            text = {"pattern": ids.pattern(PATH_IDS[name])}
        else:
            text = PATH_TEXTS.get(name, {})
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", **text},
        }
    if row.query is not None:
        yield from _query_parameters(row, shapes, components)
    if row.takes_operation_id:
        yield OPERATION_ID
    if EVENTS in (row.reply, row.also):
        yield LAST_EVENT_ID
    elif row.also is not None:
        yield ACCEPT


def _query_parameters(
    row: Operation[Any], shapes: Mapping[tuple[str, str], Schema], components: Schema
) -> Iterable[Schema]:
    model = components[shapes[row.name, "query"]["$ref"].rpartition("/")[2]]
    for name, schema in model["properties"].items():
        parameter = {
            "name": name,
            "in": "query",
            "required": name in model.get("required", ()),
            "schema": _without_null(schema),
        }
        if "description" in schema:
            parameter["description"] = schema["description"]
        yield parameter


def _without_null(schema: Schema) -> Schema:
    """The schema of a parameter without null: it may be absent, but no text is null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**kept, **options[0]}


def _responses(row: Operation[Any], shapes: Mapping[tuple[str, str], Schema]) -> dict[str, Schema]:
    problems = {PROBLEM_TYPE: {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
    said: dict[str, Schema] = {
        str(status): {"description": HTTPStatus(status).phrase, "content": problems}
        for status in row.refusals
    }
    content = _content(row, shapes)
    said[str(row.status)] = {"description": _success(row), "content": content}
    for status, description in row.others.items():
        said[str(status)] = {"description": description}
        if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.SEE_OTHER):
            said[str(status)]["content"] = content
    if (
        row.need.value == "tools"
    ):  # JSON-RPC has errors of its own, which come with statuses of HTTP
        message = {JSON_TYPE: {"schema": {"type": "object"}}}
        for refused in ("400", "404"):
            said[refused] = {**said[refused], "content": {**problems, **message}}
    return said


def _success(row: Operation[Any]) -> str:
    if isinstance(row.reply, Media):
        return row.reply.description
    return "Records, or an event stream" if row.also is EVENTS else "Successful Response"


def _content(row: Operation[Any], shapes: Mapping[tuple[str, str], Schema]) -> Schema:
    if isinstance(row.reply, Media):
        return {row.reply.content_type: {"schema": {"type": "string"}}}
    content: Schema = {JSON_TYPE: {"schema": shapes[row.name, "reply"]}}
    if row.also is not None:
        binary = {} if row.also is EVENTS else {"format": "binary"}
        content[row.also.content_type] = {"schema": {"type": "string", **binary}}
    return content
