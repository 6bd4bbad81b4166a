"""Signed answers by hand: a key registered, answers signed by a real agent, a session file that proves them (S-115)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr.signing import SshSigner, ToSign, fingerprint
from helmr_runtime.core.session_file import FileReader, FileWriter
from helmr_runtime.security.file_signatures import sign
from tests import signers
from tests.agreeing import asks, key_of, stack_of_people
from tests.cli.conftest import Said, process
from tests.cli.test_next import Person
from tests.console.flow.terminal import Terminal
from tests.service.stack import RING, Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

AUDITORS = Path(__file__).parents[2] / "docs" / "auditors.md"
ANSWER = ("decision=approve", "cents:=5", "note=It was late.")
Changed = Callable[[dict[str, Any]], None]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "data").mkdir()
    found = stack_of_people(tmp_path / "data")
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return signers.make_key(tmp_path, "ana", passphrase="")


@pytest.fixture
def agent(tmp_path: Path, key: Path) -> Iterator[dict[str, str]]:
    """The environment of Ana, whose agent has the key; it lies nowhere else that is looked at."""
    home = tmp_path / "home"
    home.mkdir()
    with signers.agent(tmp_path, key) as env:
        yield {**env, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}


async def runs(stack: Stack, secret: str, *words: str, **env: str) -> Said:
    """What a command says at that runtime."""
    env = {"HELMR_URL": stack.url, "HELMR_API_KEY": secret, **env}
    return await asyncio.to_thread(process, *words, env=env)


async def registered(stack: Stack, key: Path) -> None:
    body = {"key": signers.public(key)}
    response = await stack.http.post("/v1/people/ana/keys", json=body)
    assert response.status_code == 200, response.text


async def exported(stack: Stack, wait_id: str) -> bytes:
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    return (await stack.http.get(f"/v1/sessions/{wait['session_id']}/export")).content


def rewritten(file: bytes, change: Changed) -> bytes:
    """The file with its entries changed by one who has the runtime's key, so that its chain and signature fit."""
    reader, writer = FileReader(file.splitlines(keepends=True)), FileWriter()
    entries = [json.loads(json.dumps(one)) for one in reader.entries()]
    for one in entries:
        change(one)
    head = {name: part for name, part in reader.header.items() if name not in ("format", "helmr")}
    lines = [writer.header(version="1.0", **{n: p for n, p in head.items() if n != "chain"})]
    lines += [writer.entry(one) for one in entries]
    return b"".join([*lines, writer.footer(sign(RING, writer.signed))])


def in_body(kind: str, name: str, value: Any) -> Changed:
    def change(entry: dict[str, Any]) -> None:
        if entry["kind"] == kind:
            entry["body"][name] = value

    return change


def unsigned(entry: dict[str, Any]) -> None:
    entry["body"].pop("signature", None)


def of_another_wait(entry: dict[str, Any]) -> None:
    for name in ("wait_id",):
        if name in entry["body"]:
            entry["body"][name] = "wait_01kz9a7d0000000000000000000"


CHANGES: dict[str, tuple[Changed, str]] = {
    "data": (
        in_body("input.accepted", "data", {"decision": "approve", "cents": 5000, "note": None}),
        "over another answer",
    ),
    "subject": (in_body("wait.opened", "subject", "Refund Eve?"), "the question is not the one"),
    "body": (in_body("wait.opened", "body", "Its lens is whole."), "the question is not the one"),
    "schema": (in_body("wait.opened", "schema", True), "the question is not the one"),
    "who may": (in_body("wait.opened", "answerers", ["bo"]), "the question is not the one"),
    "question hash": (in_body("wait.opened", "question_hash", "0" * 32), "the question is not"),
    "wait": (of_another_wait, "the signature is for wait_"),
    "person": (in_body("wait.fulfilled", "person", {"id": "bo"}), "over another answer"),
    "no signature": (unsigned, "it is not signed"),
    "time": (
        lambda entry: entry.update(recorded_at="2020-01-01T00:00:00.000000Z"),
        "not a key of ana then",
    ),
}


async def test_an_agent_signs_and_the_file_is_proven_by_it_and_by_openssh_alike(
    stack: Stack, key: Path, agent: dict[str, str], tmp_path: Path
) -> None:
    added = await runs(stack, stack.key, "person", "add-key", "ana", f"@{key}.pub")
    assert added.code == 0, added.err
    assert fingerprint(signers.public(key)) in added.out
    listed = await runs(stack, stack.key, "person", "signers")
    (tmp_path / "allowed").write_text(listed.out)
    wait_id, run_id = await asks(stack, "signs")
    secret = await key_of(stack, "ana")
    shutil.move(key, tmp_path / "hidden")  # the agent alone has it
    said = await runs(stack, secret, "wait", "answer", wait_id, *ANSWER, **agent)
    assert said.code == 0, said.err
    assert "signing by your agent" in said.err
    assert (await stack.run_until(run_id, "succeeded"))["result"][:2] == ["approve", 5]
    good = await exported(stack, wait_id)
    file, out = tmp_path / "review.jsonl", tmp_path / "out"
    file.write_bytes(good)
    words = ("session", "verify", str(file), "--allowed-signers", str(tmp_path / "allowed"))
    said = await runs(stack, "", *words, "--write", str(out))
    assert said.code == 0, said.err
    assert f"good, by ana with {fingerprint(signers.public(key))}" in said.out
    [signed], [signature] = out.glob("*.json"), out.glob("*.sig")
    assert signers.ssh_verifies(
        tmp_path, listed.out, "ana", signed.read_bytes(), signature.read_text()
    )
    assert not signers.ssh_verifies(
        tmp_path, listed.out, "bo", signed.read_bytes(), signature.read_text()
    )


@pytest.mark.long
async def test_the_auditors_page_proves_the_same_without_helmr(
    stack: Stack, key: Path, agent: dict[str, str], tmp_path: Path
) -> None:
    await registered(stack, key)
    wait_id, _ = await asks(stack, "signs")
    secret = await key_of(stack, "ana")
    assert (await runs(stack, secret, "wait", "answer", wait_id, *ANSWER, **agent)).code == 0
    good = await exported(stack, wait_id)
    [program], [commands] = (
        re.findall(rf"^```{kind}\n(.*?)^```$", AUDITORS.read_text(), flags=re.M | re.S)
        for kind in ("python", "sh")
    )
    (tmp_path / "take_apart.py").write_text(program)
    (tmp_path / "allowed_signers").write_text(f"ana {signers.public(key)}\n")

    def checked(file: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "review.jsonl").write_bytes(file)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        words = ["sh", "-e", "-c", commands]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    said = checked(good)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(
        f'Good "helmr" signature for ana with ED25519 key {fingerprint(signers.public(key))}'
    )
    for what in ("data", "subject", "body", "schema", "who may", "person", "no signature"):
        change, _ = CHANGES[what]
        assert checked(rewritten(good, change)).returncode != 0, what


@pytest.mark.long
async def test_what_one_with_the_runtimes_own_key_changes_is_named(
    stack: Stack, key: Path, agent: dict[str, str], tmp_path: Path, helmr: Any
) -> None:
    await registered(stack, key)
    wait_id, _ = await asks(stack, "signs")
    secret = await key_of(stack, "ana")
    assert (await runs(stack, secret, "wait", "answer", wait_id, *ANSWER, **agent)).code == 0
    good, file = await exported(stack, wait_id), tmp_path / "review.jsonl"
    allowed = tmp_path / "allowed"
    allowed.write_text(f'ana valid-after="20250101Z" {signers.public(key)}\n')
    words = ("session", "verify", str(file), "--allowed-signers", str(allowed))
    file.write_bytes(rewritten(good, lambda entry: None))
    assert helmr(*words).code == 0
    for what, (change, told) in CHANGES.items():
        file.write_bytes(rewritten(good, change))
        said = helmr(*words)
        assert (said.code, told in said.err) == (7, True), f"{what}: {said.err}"
        assert "BAD" in said.out
    allowed.write_text(f"bo {signers.public(key)}\n")
    file.write_bytes(good)
    assert "not a key of ana" in helmr(*words).err


async def test_next_signs_what_was_shown(
    stack: Stack, key: Path, agent: dict[str, str], tmp_path: Path
) -> None:
    await registered(stack, key)
    _, run_id = await asks(stack, "signs")
    person = Person(stack, tmp_path)
    try:
        env: dict[str, Any] = {**agent, "HELMR_API_KEY": await key_of(stack, "ana")}
        await person.begins("--undo-for", "0s", **env)
        assert "your answer is signed with your key" in await person.reads("] ")
        await person.types("1")
        await person.reads("cents")
        await person.types("5")
        await person.reads("note")
        await person.types("")
        await person.reads("1 accepted")
    finally:
        await person.terminal.close()
    assert (await stack.run_until(run_id, "succeeded"))["result"] == ["approve", 5, None]


@pytest.mark.long
async def test_the_console_signs_with_the_agent(
    stack: Stack, key: Path, agent: dict[str, str], tmp_path: Path
) -> None:
    await registered(stack, key)
    shutil.move(key, tmp_path / "hidden")  # the agent alone has it
    wait_id, run_id = await asks(stack, "signs")
    terminal = Terminal(120, 36)
    try:
        env = {name: agent[name] for name in ("SSH_AUTH_SOCK", "HOME")}
        await terminal.start(stack.url, await key_of(stack, "ana"), tmp_path, **env)
        await terminal.sees("Refund Bo?")
        await terminal.sees("your answer is signed with your key")
        await terminal.press("a")
        await terminal.sees("( ) approve")
        await terminal.press(" \t")
        await terminal.sees("(•) approve")
        await terminal.press("5\x13")
        await terminal.sees("^s sends it.")
        await terminal.press("\x13")
        await terminal.sees("✓ Refund Bo?")
        await terminal.press("q")
        assert await terminal.ended() == 0
    finally:
        await terminal.close()
    assert (await stack.run_until(run_id, "succeeded"))["result"] == ["approve", 5, None]
    found = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert found["signed_by"] == fingerprint(signers.public(key))


async def test_without_a_key_at_hand_nothing_is_sent_and_it_is_said_what_to_do(
    stack: Stack, key: Path, agent: dict[str, str], tmp_path: Path
) -> None:
    wait_id, _ = await asks(stack, "signs")
    words = ("wait", "answer", wait_id, *ANSWER)
    secret = await key_of(stack, "ana")
    said = await runs(stack, secret, *words, **agent)
    assert (said.code, "helmr person add-key ana" in said.err) == (2, True), said.err
    await registered(stack, key)
    said = await runs(stack, secret, *words, **{**agent, "SSH_AUTH_SOCK": str(tmp_path / "no")})
    assert (said.code, "ssh-add" in said.err) == (2, True), said.err
    other = signers.make_key(tmp_path, "other")
    said = await runs(stack, secret, *words, **{**agent, "HELMR_SIGNING_KEY": str(other)})
    assert (said.code, "is not a key of ana" in said.err) == (4, True), said.err
    found = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert found["status"] == "pending"
    said = await runs(stack, secret, *words, **{**agent, "HELMR_SIGNING_KEY": str(key)})
    assert said.code == 0, said.err


async def test_a_runtime_that_says_another_question_than_it_shows_gets_no_signature(
    stack: Stack, key: Path, agent: dict[str, str]
) -> None:
    from helmr.errors import BadRequest
    from helmr.models import WaitInfo

    wait_id, _ = await asks(stack, "signs")
    wait = WaitInfo.model_validate((await stack.http.get(f"/v1/waits/{wait_id}")).json())
    signer, keys = SshSigner(agent), [signers.public(key)]
    assert signer(ToSign(wait, {}, "ana", keys)).startswith("-----BEGIN SSH SIGNATURE")
    for changed in (
        {"subject": "Refund Eve?"},
        {"body": None},
        {"question_hash": "0" * 32},
        {"question_hash": None},
        {"json_schema": True},
        {"answerers": ["eve"]},
    ):
        with pytest.raises(BadRequest, match="nothing was signed"):
            signer(ToSign(wait.model_copy(update=changed), {}, "ana", keys))
    with pytest.raises(BadRequest, match="can't be signed"):
        signer(ToSign(wait, {"cents": 2**60}, "ana", keys))
