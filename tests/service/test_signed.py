"""Signed answers on real parts: who signs, every attack on a signature, and the file that proves it (S-115)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import BadRequest, BadSignature, Conflict, SignatureNeeded
from helmr.models import (
    AnswerLinkRequest,
    AnswerRequest,
    RevokeKeyRequest,
    SendReceipt,
    SigningKeyRequest,
    StartRequest,
    VoteReceipt,
    WaitInfo,
    WaitStatus,
)
from helmr.signing import fingerprint
from helmr.wire import ids
from helmr.wire.roles import Role
from helmr_runtime.catalog import Registry
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import RUNTIME, Principal
from helmr_runtime.core.people import RevokeSigningKey
from helmr_runtime.core.session_file import FileReader
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.security.people import read_people
from helmr_runtime.security.signed_answers import RecordedAnswer, recorded_answers
from helmr_runtime.security.sshsig import AllowedSigner, read_allowed_signers
from helmr_runtime.service import Caller, Service
from tests import signers
from tests.service import vote_tasks
from tests.service.stack import BOUND_S, Stack

pytestmark = pytest.mark.allows_blocking  # OpenSSH's programs

PEOPLE = read_people({name: {"groups": ["finance"]} for name in ("ada", "bo")}, "helmr.toml")
REGISTRY = Registry([vote_tasks.signed_refund], code_hash="signed")
YES = {"cents": 5, "why": "late"}
ADMIN = Caller(Principal("api_key", None, "local"), role=Role.ADMIN)


def caller(name: str) -> Caller:
    identity = Identity(id=name, groups=("finance",))
    return Caller(Principal("person", name), role=Role.OPERATOR, identity=identity)


def fresh(one: Caller = ADMIN) -> Caller:
    return replace(one, operation_id=ids.new_id(ids.OPERATION))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Those of ada and bo are registered."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: signers.make_key(folder, name) for name in ("ada", "bo", "other")}


@pytest.fixture
async def stack(tmp_path: Path, keys: Mapping[str, Path]) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, registry=REGISTRY, linger_s=5.0)
    stack.service = stack.make_service(people=PEOPLE)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    await stack.start(sessions_per_host=100)
    try:
        for name in ("ada", "bo"):
            request = SigningKeyRequest(key=signers.public(keys[name]))
            await stack.service.people.add_key(fresh(), name, request)
        yield stack
    finally:
        await stack.stop()


async def asked(service: Service, approvals: int = 1) -> WaitInfo:
    request = StartRequest(task="signed_refund", payload=approvals, result_timeout_s=BOUND_S)
    found = (await service.sessions.start(fresh(), request)).session.wait
    assert found is not None
    return await service.waits.get(found.id)


async def give(
    service: Service, wait: WaitInfo, by: str, signature: str | None, data: Any = YES
) -> Any:
    request = AnswerRequest(data=data, signature=signature)
    return await service.waits.answer(fresh(caller(by)), wait.id, request)


async def verified(
    stack: Stack, wait: WaitInfo, allowed: list[AllowedSigner] | None
) -> list[RecordedAnswer]:
    """What the session's file says of its answers."""
    pieces = [one async for one in await stack.service.session_files.export(wait.session_id)]
    reader = FileReader(b"".join(pieces).splitlines(keepends=True))
    return list(recorded_answers(reader.entries(), wait.session_id, allowed))


def allowed_of(keys: Mapping[str, Path], *names: str) -> list[AllowedSigner]:
    return read_allowed_signers(f"{name} {signers.public(keys[name])}" for name in names)


async def test_an_unsigned_answer_is_refused_and_says_with_which_keys_its_person_can_sign(
    stack: Stack, keys: Mapping[str, Path]
) -> None:
    wait = await asked(stack.service)
    assert (wait.signed, wait.is_restricted) == (True, True)
    with pytest.raises(SignatureNeeded) as refused:
        await give(stack.service, wait, "ada", None)
    key = " ".join(signers.public(keys["ada"]).split()[:2])
    assert (refused.value.facts["person"], refused.value.facts["keys"]) == ("ada", [key])
    receipt = await give(
        stack.service, wait, "ada", signers.sign_answer(keys["ada"], wait, YES, "ada")
    )
    assert isinstance(receipt, SendReceipt)
    ended = await stack.service.waits.get(wait.id)
    assert ended.signed_by == fingerprint(signers.public(keys["ada"]))


async def test_a_signature_over_anything_else_is_refused_and_nothing_is_stored(
    stack: Stack, keys: Mapping[str, Path]
) -> None:
    service, key = stack.service, keys["ada"]
    wait, other = await asked(service), await asked(service)
    before = await stack.reads.transcript(wait.session_id, after=0, limit=100)
    attacks = {
        "another key's": signers.sign_answer(keys["other"], wait, YES, "ada"),
        "another person's key": signers.sign_answer(keys["bo"], wait, YES, "ada"),
        "of another person": signers.sign_answer(key, wait, YES, "bo"),
        "over other data": signers.sign_answer(key, wait, {**YES, "cents": 6}, "ada"),
        "of another wait": signers.sign_answer(key, other, YES, "ada"),
        "of another question": signers.sign_answer(key, wait, YES, "ada", question_hash="0" * 32),
        "for git": signers.sign(key, signers.answer_message(wait, YES, "ada"), "git"),
        "no signature": "signed, ada",
    }
    for what, signature in attacks.items():
        try:
            await give(service, wait, "ada", signature)
        except BadSignature:
            continue
        pytest.fail(f"a signature {what} was taken")
    good = signers.sign_answer(key, wait, YES, "ada")
    for by in (fresh(), Caller(Principal("api_key", "key_1", "bot", "ada"), role=Role.OPERATOR)):
        with pytest.raises(BadSignature):
            await service.waits.answer(fresh(by), wait.id, AnswerRequest(data=YES, signature=good))
    with pytest.raises(BadSignature):
        await give(service, wait, "bo", good)
    assert await stack.reads.transcript(wait.session_id, after=0, limit=100) == before
    await give(service, wait, "ada", good)
    with pytest.raises(BadSignature):  # replayed
        await give(service, other, "ada", good)


async def test_a_revoked_key_signs_nothing_also_where_no_one_has_heard_of_it(
    stack: Stack, keys: Mapping[str, Path]
) -> None:
    service, ada = stack.service, caller("ada")
    wait, later = await asked(service), await asked(service)
    known = await service.people_view.known()
    signed = AnswerRequest(data=YES, signature=signers.sign_answer(keys["ada"], wait, YES, "ada"))
    once = fresh(ada)
    first = await service.waits.answer(once, wait.id, signed)
    hers = fingerprint(signers.public(keys["ada"]))
    fact = RevokeSigningKey(principal=RUNTIME, person="ada", fingerprint=hers)
    await stack.reads.fact(fact)
    service.people_view._known = known  # a gateway that has not heard of it
    service.people_view.forget = lambda **_: None  # type: ignore[method-assign]
    assert hers in [one.fingerprint for one in await service.people_view.signing_keys("ada")]
    with pytest.raises(BadSignature, match="revoked"):
        await give(service, later, "ada", signers.sign_answer(keys["ada"], later, YES, "ada"))
    assert (await service.waits.get(later.id)).status is WaitStatus.PENDING
    assert await service.waits.answer(once, wait.id, signed) == first, "asked again"


async def test_a_repeated_answer_has_its_receipt_after_its_key_was_revoked(
    stack: Stack, keys: Mapping[str, Path]
) -> None:
    service = stack.service
    wait, once = await asked(service), fresh(caller("ada"))
    signed = AnswerRequest(data=YES, signature=signers.sign_answer(keys["ada"], wait, YES, "ada"))
    first = await service.waits.answer(once, wait.id, signed)
    revoke = RevokeKeyRequest(fingerprint=fingerprint(signers.public(keys["ada"])), reason="lost")
    info = await service.people.revoke_key(fresh(), "ada", revoke)
    assert info.signing_keys[0].revoked_at is not None
    assert await service.waits.answer(once, wait.id, signed) == first
    with pytest.raises(SignatureNeeded) as refused:
        await give(service, await asked(service), "ada", None)
    assert refused.value.facts["keys"] == []
    request = SigningKeyRequest(key=signers.public(keys["ada"]))
    with pytest.raises(Conflict):
        await service.people.add_key(fresh(), "ada", request)


async def test_a_person_whose_name_is_a_pattern_can_have_no_key(stack: Stack) -> None:
    people = read_people({"domains": ["example.com"]}, "helmr.toml")
    service = stack.make_service(people=people)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    for name in ("*@example.com", "a,b@example.com", "!a@example.com"):
        with pytest.raises(BadRequest, match="pattern"):
            await service.people.add_key(fresh(), name, SigningKeyRequest(key=key))


async def test_a_link_shows_that_its_answer_is_signed_and_takes_none(stack: Stack) -> None:
    wait = await asked(stack.service)
    link = await stack.service.links.create(fresh(), wait.id, AnswerLinkRequest(person="ada"))
    path = f"/v1/links/{link.url.rpartition('/')[2]}"
    async with stack.client(Accept="text/html") as http:
        shown = await http.get(path)
        assert "<form" not in shown.text
        assert "signed by the person who gives it" in shown.text
        assert (await http.post(path, json={"data": YES})).status_code == 403


async def test_two_people_sign_and_the_sessions_file_says_who_signed_what(
    stack: Stack, keys: Mapping[str, Path]
) -> None:
    service = stack.service
    wait = await asked(service, 2)
    voted = await give(service, wait, "ada", signers.sign_answer(keys["ada"], wait, YES, "ada"))
    assert isinstance(voted, VoteReceipt)
    [vote] = (await service.waits.get(wait.id)).votes
    assert vote.signed_by == fingerprint(signers.public(keys["ada"]))
    other = {**YES, "why": "it was"}
    await give(service, wait, "bo", signers.sign_answer(keys["bo"], wait, other, "bo"), other)
    both = await verified(stack, wait, allowed_of(keys, "ada", "bo"))
    assert [(one.said, one.person, one.principal, one.problem) for one in both] == [
        ("vote", "ada", "ada", None),
        ("answer", "bo", "bo", None),
    ]
    one_of_them = await verified(stack, wait, allowed_of(keys, "bo"))
    assert [one.principal for one in one_of_them] == [None, "bo"]
    assert "not a key of ada" in str(one_of_them[0].problem)
    swapped = read_allowed_signers(
        [f"ada {signers.public(keys['bo'])}", f"bo {signers.public(keys['ada'])}"]
    )
    assert all(one.problem for one in await verified(stack, wait, swapped))
    unnamed = await verified(stack, wait, None)
    assert [(one.key, one.principal) for one in unnamed] == [
        (fingerprint(signers.public(keys[name])), None) for name in ("ada", "bo")
    ]
