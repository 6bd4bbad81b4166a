"""A problem's `type` leads to where the gateway explains its code."""

from __future__ import annotations

import re

import httpx

from helmr.errors import HelmrError, all_codes
from tests.service.stack import Stack


async def test_the_type_of_a_problem_leads_to_its_code(stack: Stack) -> None:
    missing = await stack.http.get("/v1/waits/wait_01h455vb4pex5vsknk084sn02q")
    no_route = await stack.http.get("/v1/nothing")
    assert missing.json()["type"] == "/errors#wait_not_found"
    assert no_route.json()["type"] == "/errors#not_found"
    async with httpx.AsyncClient() as http:  # without a key
        page = await http.get(httpx.URL(stack.url).join(missing.json()["type"]))
    assert page.status_code == 200
    assert "script-src" not in page.headers["content-security-policy"]
    anchors = re.findall(r'<tr id="(\w+)">', page.text)
    assert anchors == sorted(all_codes())
    assert f"<td>{HelmrError.meaning()}</td>" in page.text
    assert not re.search(r"\]\(|S-\d", page.text)
