"""The whole OpenAPI document, walked by Schemathesis with and without a key: no 5xx, no surprise (S-46, S-64)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.allows_blocking]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
STREAMS = ("/v1/events", "/v1/sessions/{session_id}/events")
EXAMPLES = [1, pytest.param(6, marks=pytest.mark.long), pytest.param(48, marks=pytest.mark.soak)]
"""Of each operation, as many good ones as bad ones."""


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize(
    "has_key",
    [pytest.param(True, id="key"), pytest.param(False, marks=pytest.mark.long, id="no_key")],
)
async def test_no_route_answers_what_its_document_does_not_say(
    tmp_path: Path, has_key: bool, examples: int
) -> None:
    stack = Stack(tmp_path)
    await stack.start()
    try:
        await stack.started()
        document = (await stack.http.get("/v1/openapi.json")).json()
        headers = {"Authorization": f"Bearer {stack.key}"} if has_key else {}
        failures = await asyncio.to_thread(walk, document, stack.url, headers, examples)
        assert failures == []
    finally:
        await stack.stop()


def walk(document: dict[str, Any], url: str, headers: dict[str, str], examples: int) -> list[str]:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    failures: list[str] = []
    calls = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if operation.path in STREAMS:
            continue  # they never end
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            calls += _try(operation, mode, headers, failures, examples)
    assert calls > 150 * examples
    return failures


HELD_UP = ("POST /v1/prune", 503)
"""While a backup is read, which calls of the walk have begun; it is documented, and nobody's fault."""


def _try(
    operation: Any,
    mode: GenerationMode,
    headers: dict[str, str],
    failures: list[str],
    examples: int,
) -> int:
    calls = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        nonlocal calls
        response = case.call(headers=headers, timeout=40)
        calls += 1
        if (operation.label, response.status_code) == HELD_UP:
            return
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as error:
            failures.append(f"{operation.label}: {response.status_code}: {error.exceptions}"[:600])

    try:
        one()
    except Unsatisfiable:
        return calls  # nothing about this operation can be wrong
    return calls
