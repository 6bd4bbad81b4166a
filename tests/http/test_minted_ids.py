"""What a runtime mints names its cell, in each kind of id that leaves it (S-129)."""

from __future__ import annotations

import json
import re

from helmr.wire import ids
from tests.service.stack import Stack

MINTED = (ids.SESSION, ids.RUN, ids.WAIT, ids.RECORD, ids.API_KEY)


async def test_what_a_runtime_mints_names_its_cell(stack: Stack) -> None:
    texts = [
        json.dumps(
            (await stack.http.post("/v1/api-keys", json={"role": "sender", "name": "a"})).json()
        )
    ]
    for _ in range(3):
        started = await stack.started()
        session_id = started["session"]["id"]
        texts.append(json.dumps(started))
        found = (await stack.http.get(f"/v1/sessions/{session_id}/transcript")).json()
        texts.append(json.dumps(found))
    minted = {
        one
        for text in texts
        for one in re.findall(rf"\b(?:{'|'.join(MINTED)})_[0-9a-z]{{26}}\b", text)
    }
    assert {one.split("_")[0] for one in minted} >= {ids.SESSION, ids.RUN, ids.WAIT, ids.API_KEY}
    assert {one: ids.to_uuid(one).bytes[-1] for one in minted} == dict.fromkeys(minted, ids.CELL)
