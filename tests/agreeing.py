"""A runtime that knows people, and a task whose wait two of them must agree on; for tests of every screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import BaseModel

from helmr import escalation, streams, task
from helmr_runtime.catalog import Registry
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from tests.service.stack import Stack


class Agreement(BaseModel):
    """What two people say alike, but for the note."""

    decision: Literal["approve", "reject"]
    cents: int
    note: str | None = None


agreements = streams.input(
    "agreements", schema=Agreement, answerers=["group:finance"], comments=["note"]
)
leave = streams.input("leave", schema=bool)


@task
async def agree(payload: dict[str, Any]) -> list[object]:
    """Asks two of finance."""
    said = await agreements.wait(subject="Refund Ada?", approvals=2).unwrap()
    return [said.decision, said.cents, said.note]


@task
async def signs(payload: dict[str, Any]) -> list[object]:
    """Asks one of finance for a signed answer, with evidence that is signed too."""
    said = await agreements.wait(
        subject="Refund Bo?",
        body="Its lens is **cracked**.",
        facts={"paid": 40.0, "rate": 1e-7, "client": "Bo Žižka"},
        links=["https://tickets.example.com/4711"],
        diff=({"cents": 0}, {"cents": 4000}),
        signed=True,
    ).unwrap()
    return [said.decision, said.cents, said.note]


@task
async def escalates(payload: dict[str, Any]) -> bool:
    """Asks one person, and after two hours a group."""
    return await leave.wait(
        subject="Leave?",
        assignee="Cy",
        escalation=[escalation.assign("2h", to="group:finance")],
        timeout="1d",
    ).unwrap()


REGISTRY = Registry(
    [agree, escalates, signs], modules=["tests.agreeing"], code_hash="code-agreeing"
)
PEOPLE = read_people(
    {
        "domains": ["example.com"],
        "ana": {"email": "ana@example.com", "groups": ["finance"]},
        "bo": {"groups": ["finance"]},
        "cy": {"groups": ["sales"]},
    },
    "helmr.toml",
)
FIVE = {"decision": "approve", "cents": 5, "note": "It was late."}
THREE = {"decision": "approve", "cents": 3, "note": "Less is enough."}


def stack_of_people(folder: Path) -> Stack:
    """Not started."""
    stack = Stack(folder, registry=REGISTRY)
    stack.service = stack.make_service(people=PEOPLE)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    return stack


async def key_of(stack: Stack, person: str) -> str:
    """The secret of a key of their own."""
    response = await stack.http.post("/v1/api-keys", json={"person": person})
    assert response.status_code == 201, response.text
    return str(response.json()["secret"])


async def asks(stack: Stack, task: str = "agree") -> tuple[str, str]:
    """A session whose wait two must agree on: the ids of the wait and of the run."""
    receipt = await stack.started(task, {})
    return str(receipt["session"]["wait"]["id"]), str(receipt["run"]["id"])


async def votes(stack: Stack, person: str, wait_id: str, data: Any) -> dict[str, Any]:
    """This person's answer; the receipt."""
    headers = {"Authorization": f"Bearer {await key_of(stack, person)}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers) as http:
        response = await http.post(f"/v1/waits/{wait_id}/answer", json={"data": data})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
