"""What a path means, and what is said of it: encoded slashes, OPTIONS, the documented statuses."""

from __future__ import annotations

import pytest

from tests.http.test_access_tokens import echo
from tests.http.test_sessions import code_of
from tests.service.stack import Stack


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
async def test_an_encoded_slash_is_no_slash(stack: Stack, slash: str) -> None:
    session = await echo(stack)
    assert (await stack.http.get(f"/v1/sessions/{session}/transcript")).status_code == 200
    for path in (
        f"/v1/sessions/{session}{slash}transcript",
        f"/v1{slash}sessions",
        f"/v1/sessions/{session}/inputs/words{slash}x",
    ):
        answer = await stack.http.get(path)
        assert (answer.status_code, code_of(answer)) == (404, "not_found"), path
    query = await stack.http.get("/v1/sessions", params={"tag": "a/b"})
    assert query.status_code == 200


async def test_options_allows_what_the_path_takes(stack: Stack) -> None:
    session = await echo(stack)
    for path, allowed in (
        (f"/v1/sessions/{session}/inputs/words", "GET, OPTIONS, POST"),
        (f"/v1/sessions/{session}/outputs/echoes", "GET, OPTIONS"),
    ):
        answer = await stack.http.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, allowed)


async def test_every_route_with_a_key_documents_429(stack: Stack) -> None:
    document = (await stack.http.get("/v1/openapi.json")).json()
    operations = [
        (method, path, one)
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    ]
    assert len(operations) > 30
    lacking = [
        (m, p) for m, p, one in operations if one["security"] and "429" not in one["responses"]
    ]
    assert lacking == []
