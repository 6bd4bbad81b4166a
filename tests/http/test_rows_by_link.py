"""A list on the page behind an answer link: rows come and go by posting, and only the last button answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.console.flow import kinds
from tests.http.test_links import anybody, linked, path_of
from tests.service.stack import Stack


@pytest.fixture
async def orders(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime whose waits ask for lists."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=kinds.REGISTRY)
    try:
        await found.start(sessions_per_host=4)
        yield found
    finally:
        await found.stop()


def nonce_of(page: httpx.Response) -> str:
    return page.text.split('name="nonce" value="')[1].split('"')[0]


async def test_rows_are_added_by_posting_and_the_answer_has_them(orders: Stack) -> None:
    receipt = await orders.started("fill", {"kind": "rows"})
    wait_id = receipt["session"]["wait"]["id"]
    path = path_of(await linked(orders, wait_id))
    async with anybody(orders) as http:
        page = await http.get(path)
        form = {"r/items": "", "f/remark": "soon"}
        for row in (0, 1):
            pressed = {**form, "nonce": nonce_of(page), "do": "add - r/items"}
            page = await http.post(path, data=pressed)
            assert page.status_code == 200
            assert f'name="r/items" value="{",".join(map(str, range(row + 1)))}"' in page.text
            assert page.text.count("autofocus") == 1
            form |= {"r/items": ",".join(map(str, range(row + 1)))}
            form |= {f"f/items/#{row}/sku": f"A{row}", f"f/items/#{row}/qty": f"{row + 1}"}
        blind = await http.post(path, data={**form, "do": "add - r/items"})
        assert (blind.status_code, "check and send again" in blind.text) == (422, True)
        wait = (await orders.http.get(f"/v1/waits/{wait_id}")).json()
        assert wait["status"] == "pending", "a button of a list answers nothing"
        wrong = await http.post(path, data={**form, "nonce": nonce_of(page), "f/items/#1/qty": "x"})
        assert wrong.status_code == 422
        assert "Items 2 Qty" not in wrong.text
        assert "Please enter a whole number" in wrong.text
        sent = await http.post(path, data={**form, "nonce": nonce_of(wrong)})
        assert sent.status_code == 303
        recorded = (await http.get(path)).text
        assert "A1" in recorded
    records = (
        await orders.http.get(f"/v1/sessions/{receipt['session']['id']}/inputs/kind-rows")
    ).json()["items"]
    assert [record["data"] for record in records] == [
        {"items": [{"sku": "A0", "qty": 1}, {"sku": "A1", "qty": 2}], "remark": "soon"}
    ]
