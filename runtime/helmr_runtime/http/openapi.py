"""The OpenAPI document: exactly the statuses that a route may answer with, problems included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from helmr.models import Problem
from helmr_runtime.http.problems import documented
from helmr_runtime.security.roles import operation_at

_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
METHODS = ("get", "post", "put", "patch", "delete")


def document(routers: Iterable[APIRouter], *, version: str) -> dict[str, Any]:
    """The document of these routers' routes."""
    everything = APIRouter(generate_unique_id_function=_operation_name)
    for router in routers:
        everything.include_router(router)
    made = get_openapi(
        title="Helmr",
        version=version,
        summary="Durable sessions of agent tasks that stop for people",
        routes=everything.routes,
    )
    schemas = made["components"]["schemas"]
    for name in _FRAMEWORK_SCHEMAS:
        schemas.pop(name, None)
    schemas.update(_problem_schemas())
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                _complete(operation, needs_key=_needs_key(method, path))
    return made


def _operation_name(route: APIRoute) -> str:
    return route.name


def _without_null(parameter: dict[str, Any]) -> None:
    """A parameter may be absent, but no text of it is null."""
    schema = parameter["schema"]
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["anyOf"]
        schema.update(options[0])


def _needs_key(method: str, path: str) -> bool:
    return operation_at(method.upper(), path).needs_key


def _complete(operation: dict[str, Any], *, needs_key: bool) -> None:
    responses = operation["responses"]
    validation = responses.get("422", {}).get("content", {}).get("application/json", {})
    if "HTTPValidationError" in str(validation.get("schema")):
        del responses["422"]  # the framework's own; here such a request is 400
    common = (401, 403, 429, 500, 503) if needs_key else (403, 500)
    for status, response in documented(*common).items():
        responses.setdefault(str(status), response)
    for parameter in operation.get("parameters", ()):
        _without_null(parameter)
    operation["responses"] = dict(sorted(responses.items()))
    operation["security"] = [{"key": []}] if needs_key else []


def _problem_schemas() -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    return {**inner, "Problem": schema}
