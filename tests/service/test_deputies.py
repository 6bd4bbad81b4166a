"""Deputies on real parts: who makes them, what they answer and see, and an end that no one has heard of (S-142)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import (
    BadRequest,
    BadSignature,
    DelegationNotFound,
    NotAnAnswerer,
    PersonNotFound,
    RoleDenied,
    SignatureNeeded,
)
from helmr.models import (
    AnswerRequest,
    AssignRequest,
    DelegateRequest,
    DelegationInfo,
    DisableRequest,
    ListQuery,
    SendReceipt,
    SigningKeyRequest,
    StartRequest,
    VoteReceipt,
    WaitInfo,
    WaitsQuery,
    WaitStatus,
)
from helmr.signing import SignedFor
from helmr.wire import ids
from helmr.wire.roles import Role
from helmr_runtime.catalog import Registry
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import EndDelegation
from helmr_runtime.core.session_file import FileReader
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.security.signed_answers import recorded_answers
from helmr_runtime.security.sshsig import read_allowed_signers
from helmr_runtime.service import Caller, Service
from tests import signers
from tests.service import inbox_tasks, vote_tasks
from tests.service.stack import BOUND_S, Stack, until

PEOPLE = read_people(
    {
        "ada": {"groups": ["finance"], "email": "ada@example.com"},
        "fay": {"groups": ["finance"]},
        "bo": {},
        "cy": {"role": "viewer", "groups": ["finance"]},
        "eve": {"groups": ["finance"], "role": "admin"},
    },
    "helmr.toml",
)
REGISTRY = Registry(
    [vote_tasks.refund, vote_tasks.deputies_sign, vote_tasks.no_deputies, inbox_tasks.ask],
    modules=["tests.service.vote_tasks", "tests.service.inbox_tasks"],
    code_hash="code-deputies",
)
AUDITORS = Path(__file__).parents[2] / "docs" / "auditors.md"
ADMIN = Caller(Principal("api_key", None, "local"), role=Role.ADMIN)
YES = {"cents": 5, "why": "late"}


def fresh(one: Caller) -> Caller:
    return replace(one, operation_id=ids.new_id(ids.OPERATION))


def as_(name: str) -> Caller:
    person = PEOPLE.get(name)
    names = tuple(person.names - {name})
    identity = Identity(id=name, names=names, groups=person.groups)
    return Caller(Principal("person", name), role=PEOPLE.role_of(person), identity=identity)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=PEOPLE)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    yield stack
    await stack.stop()


async def asked(service: Service, task: str = "refund", payload: Any = 1) -> WaitInfo:
    request = StartRequest(task=task, payload=payload, result_timeout_s=BOUND_S)
    found = (await service.sessions.start(fresh(as_("eve")), request)).session.wait
    assert found is not None
    return found


def request(service: Service, deputy: str = "bo", **more: Any) -> DelegateRequest:
    until_ = service.now() + timedelta(days=14)
    return DelegateRequest(**{"deputy": deputy, "ends_at": until_, **more})


async def delegated(
    service: Service, delegator: str = "ada", deputy: str = "bo", **more: Any
) -> DelegationInfo:
    by = as_(delegator)
    return await service.people.delegate(fresh(by), delegator, request(service, deputy, **more))


async def give(service: Service, wait: WaitInfo, by: str, **more: Any) -> Any:
    sent = AnswerRequest(**{"data": YES, **more})
    return await service.waits.answer(fresh(as_(by)), wait.id, sent)


async def test_a_person_or_an_admin_makes_a_deputy_and_either_of_the_two_ends_it(
    stack: Stack,
) -> None:
    people, now = stack.service.people, stack.service.now
    mine = await delegated(stack.service, "ada", "bo", streams=["refunds", "refunds"])
    assert (mine.delegator, mine.deputy, mine.streams) == ("ada", "bo", ["refunds"])
    assert (mine.made_by.id, mine.ended_at, mine.scope) == ("ada", None, "streams refunds")
    by_mail = request(stack.service, "bo", reason="ill")
    theirs = await people.delegate(fresh(ADMIN), "ada@example.com", by_mail)
    assert (theirs.delegator, theirs.reason, theirs.scope) == ("ada", "ill", "all waits")
    found = await people.delegations(ListQuery())
    assert [one.id for one in found.items] == [mine.id, theirs.id]
    for name in ("ada", "bo"):
        assert [one.id for one in (await people.get(name)).delegations] == [mine.id, theirs.id]
    assert (await people.get("fay")).delegations == []
    refused: tuple[tuple[Caller, str, DelegateRequest, type[Exception]], ...] = (
        (as_("bo"), "ada", request(stack.service), RoleDenied),
        (as_("fay"), "ada", request(stack.service), RoleDenied),
        (ADMIN, "ada", request(stack.service), BadRequest),
        (as_("eve"), "ada", request(stack.service, "eve", reason="mine"), BadRequest),
        (as_("ada"), "ada", request(stack.service, "ada"), BadRequest),
        (as_("ada"), "ada", request(stack.service, "zoe"), PersonNotFound),
        (as_("ada"), "ada", request(stack.service, ends_at=now()), BadRequest),
        (as_("ada"), "ada", request(stack.service, ends_at=now() + timedelta(91)), BadRequest),
    )
    for by, delegator, said, error in refused:
        with pytest.raises(error):
            await people.delegate(fresh(by), delegator, said)
    with pytest.raises(RoleDenied, match="ada or bo or an admin"):
        await people.undelegate(fresh(as_("fay")), mine.id)
    ended = await people.undelegate(fresh(as_("bo")), mine.id)
    assert ended.ended_at is not None
    assert (await people.undelegate(fresh(as_("ada")), mine.id)) == ended
    with pytest.raises(DelegationNotFound):
        await people.undelegate(fresh(ADMIN), ids.new_id(ids.DELEGATION))
    assert [one.id for one in (await people.delegations(ListQuery())).items] == [theirs.id]


async def test_a_deputys_answer_is_recorded_with_both_names_and_lists_say_so(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service)
    with pytest.raises(NotAnAnswerer):
        await give(service, wait, "bo")
    made = await delegated(service)
    receipt = await give(service, wait, "bo")
    assert isinstance(receipt, SendReceipt)
    assert receipt.deputy_for == "ada"
    found = await service.waits.get(wait.id)
    assert found.resolved_by is not None
    assert found.resolved_by.label == "bo for ada"
    for name in ("ada", "bo"):
        answered = WaitsQuery(status=WaitStatus.FULFILLED, answered_by=name)
        assert [one.id for one in (await service.waits.list(ADMIN, answered)).items] == [wait.id]
    page = await stack.reads.transcript(wait.session_id, after=0, limit=100)
    [ended] = [one for one in page["items"] if one["kind"] == "wait.fulfilled"]
    assert ended["body"]["delegation"]["id"] == made.id


async def test_the_deputys_inbox_has_the_waits_and_says_for_whom_and_who_is_away(
    stack: Stack,
) -> None:
    service, can, mine = stack.service, WaitsQuery(can_answer=True), WaitsQuery(mine=True)

    async def listed(name: str, query: WaitsQuery) -> list[str]:
        found = (await service.waits.list(as_(name), query)).items
        assert (await service.waits.count(as_(name), query)).count >= len(found)
        return [one.id for one in found]

    wait, none = await asked(service), await asked(service, "no_deputies", None)
    given = await asked(service, "ask", {"subject": "Given"})
    await service.claims.assign(fresh(ADMIN), given.id, AssignRequest(assignee="ada"))
    assert await listed("bo", can) == [given.id]
    assert await listed("bo", mine) == []
    made = await delegated(service, streams=["refunds"])
    assert await listed("bo", can) == [wait.id, given.id]
    assert await listed("bo", mine) == [wait.id, none.id]
    shown = await service.waits.shown(as_("bo"), wait.id)
    assert (shown.can_answer, shown.deputy_for, shown.is_mine) == (True, ["ada"], True)
    [away] = shown.away
    assert (away.person, away.deputy, away.until) == ("ada", "bo", made.ends_at)
    refuses = await service.waits.shown(as_("bo"), none.id)
    assert (refuses.can_answer, refuses.deputy_for) == (False, [])
    await service.people.undelegate(fresh(as_("ada")), made.id)
    assert await listed("bo", can) == [given.id]
    await delegated(service, tags=["other"])
    assert await listed("bo", can) == [given.id]
    await delegated(service)
    assert await listed("bo", mine) == [wait.id, none.id, given.id]
    assigned = await service.waits.shown(as_("fay"), given.id)
    assert [(one.person, one.deputy) for one in assigned.away] == [("ada", "bo")]


async def test_a_vote_of_a_deputy_is_that_of_both(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service, payload=2)
    await delegated(service)
    vote = await give(service, wait, "bo")
    assert isinstance(vote, VoteReceipt)
    assert (vote.have, vote.deputy_for) == (1, "ada")
    found = await service.waits.get(wait.id)
    assert found.voters == ["bo", "ada"]
    assert [(one.person, one.deputy_for, one.label) for one in found.votes] == [
        ("bo", "ada", "bo for ada")
    ]
    assert (await service.waits.shown(as_("ada"), wait.id)).can_answer is False
    again = await give(service, wait, "ada")
    assert (again.have, again.deputy_for) == (1, None)
    assert (await give(service, wait, "fay")).outcome == "fulfilled"


async def test_disabling_the_delegator_takes_the_deputys_vote_back(stack: Stack) -> None:
    service = stack.service
    wait, other = await asked(service, payload=2), await asked(service)
    await delegated(service)
    await give(service, wait, "bo")
    await service.people.disable(fresh(ADMIN), "ada", DisableRequest(reason="left"))
    assert (await service.waits.get(wait.id)).voters == []
    assert (await service.people.delegations(ListQuery())).items == []
    with pytest.raises(NotAnAnswerer):
        await give(service, other, "bo")


async def test_the_delegator_counts_only_with_a_role_that_may_answer(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service)
    reason = request(service, "bo", reason="away")
    await service.people.delegate(fresh(ADMIN), "cy", reason)
    with pytest.raises(NotAnAnswerer):
        await give(service, wait, "bo")


async def test_an_ended_delegation_answers_nothing_also_where_no_one_has_heard_of_it(
    stack: Stack,
) -> None:
    service = stack.service
    first, wait = await asked(service), await asked(service)
    made = await delegated(service)
    once = fresh(as_("bo"))
    answered = await service.waits.answer(once, first.id, AnswerRequest(data=YES))
    await stack.reads.fact(EndDelegation(principal=ADMIN.principal, delegation_id=made.id))
    old = [one for one in await stack.reads.delegations() if one.id == made.id]
    service.people_view._delegations = [replace(one, ended_at=None) for one in old]
    service.people_view._deputies = None
    service.people_view.forget = lambda **_: None  # type: ignore[method-assign]
    with pytest.raises(NotAnAnswerer):
        await give(service, wait, "bo")
    with pytest.raises(NotAnAnswerer, match="has ended"):
        await give(service, wait, "bo", deputy_for="ada")
    assert (await service.waits.get(wait.id)).status is WaitStatus.PENDING
    again = await service.waits.answer(once, first.id, AnswerRequest(data=YES))
    assert again == answered, "asked again"


async def test_a_deputy_of_several_says_for_whom(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service, payload=2)
    await delegated(service)
    await delegated(service, "fay")
    with pytest.raises(NotAnAnswerer, match="deputy of ada and of fay"):
        await give(service, wait, "bo")
    shown = await service.waits.shown(as_("bo"), wait.id)
    assert sorted(shown.deputy_for) == ["ada", "fay"]
    assert (await give(service, wait, "bo", deputy_for="ada@example.com")).deputy_for == "ada"
    second = await give(service, wait, "bo", deputy_for="fay")
    assert (second.have, second.deputy_for) == (1, "fay"), "one human"


@pytest.mark.allows_blocking  # OpenSSH's programs
async def test_a_deputy_signs_both_names_and_the_delegation(stack: Stack, tmp_path: Path) -> None:
    service = stack.service
    keys = {name: signers.make_key(tmp_path, name) for name in ("bo", "fay")}
    for name, key in keys.items():
        registered = SigningKeyRequest(key=signers.public(key))
        await service.people.add_key(fresh(ADMIN), name, registered)
    made = await delegated(service)
    wait = await service.waits.get((await asked(service, "deputies_sign", None)).id)
    assert (wait.signed, wait.deputies) == (True, True)
    with pytest.raises(SignatureNeeded) as needed:
        await give(service, wait, "bo")
    assert needed.value.facts["delegation"] == made.id
    acting = SignedFor(made.id, "ada")

    def signed(**more: Any) -> str:
        return signers.sign_answer(keys["bo"], wait, YES, "bo", **more)

    for wrong in (
        signed(),
        signed(signed_for=SignedFor(ids.new_id(ids.DELEGATION), "ada")),
        signed(signed_for=SignedFor(made.id, "fay")),
    ):
        with pytest.raises(BadSignature):
            await give(service, wait, "bo", deputy_for="ada", signature=wrong)
    good = signed(signed_for=acting)
    with pytest.raises(BadSignature):
        await give(service, wait, "bo", signature=good)
    with pytest.raises(NotAnAnswerer):
        await give(service, wait, "bo", signature=signed())
    await give(service, wait, "bo", deputy_for="ada", signature=good)
    own = signers.sign_answer(keys["fay"], wait, YES, "fay")
    assert (await give(service, wait, "fay", signature=own)).outcome == "fulfilled"
    pieces = [one async for one in await service.session_files.export(wait.session_id)]
    reader = FileReader(b"".join(pieces).splitlines(keepends=True))
    allowed = read_allowed_signers(f"{name} {signers.public(key)}" for name, key in keys.items())
    found = list(recorded_answers(reader.entries(), wait.session_id, allowed))
    assert [(one.person, one.deputy_for, one.problem) for one in found] == [
        ("bo", "ada", None),
        ("fay", None, None),
    ]
    assert proven_without_helmr(tmp_path, b"".join(pieces), keys) == ["bo", "fay"]


def proven_without_helmr(folder: Path, file: bytes, keys: Mapping[str, Path]) -> list[str]:
    """Whose signatures OpenSSH finds good, by the program of the auditors' page."""
    [program], [commands] = (
        re.findall(rf"^```{kind}\n(.*?)^```$", AUDITORS.read_text(), flags=re.M | re.S)
        for kind in ("python", "sh")
    )
    (folder / "take_apart.py").write_text(program)
    allowed = [f"{name} {signers.public(key)}\n" for name, key in keys.items()]
    (folder / "allowed_signers").write_text("".join(allowed))
    (folder / "review.jsonl").write_bytes(file)
    words = ["sh", "-e", "-c", commands]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return re.findall(r"signature for (\w+) with", done.stdout)


async def test_a_delegation_begins_when_it_says(stack: Stack) -> None:
    service = stack.service
    wait = await asked(service)
    later: datetime = service.now() + timedelta(seconds=2)
    await delegated(service, starts_at=later)
    with pytest.raises(NotAnAnswerer, match="begins at"):
        await give(service, wait, "bo", deputy_for="ada")
    await until(lambda: service.now() >= later)
    assert (await give(service, wait, "bo")).deputy_for == "ada"
