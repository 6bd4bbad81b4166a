"""The key that a person names is the one that acts, however near the key of the runtime's own folder is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agreeing import asks, key_of, stack_of_people
from tests.cli.conftest import Said, process
from tests.service.stack import Stack

pytestmark = pytest.mark.allows_blocking


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime that has left its owner's key in `.helmr`, as `helmr up` does."""
    (tmp_path / "data").mkdir()
    found = stack_of_people(tmp_path / "data")
    try:
        await found.start()
        folder = tmp_path / ".helmr"
        folder.mkdir()
        said = {
            "url": found.url,
            "key": found.key,
            "pid": os.getpid(),
            "data_dir": str(folder),
        }
        (folder / "credentials.json").write_text(json.dumps(said))
        (folder / "credentials.json").chmod(0o600)
        yield found
    finally:
        await found.stop()


async def runs(stack: Stack, folder: Path, *words: str, key: str | None, way: str = "") -> Said:
    """What a command says in that folder."""
    ways = {
        "": (),
        "--data-dir": ("--data-dir", str(folder / ".helmr")),
        "--url": ("--url", stack.url),
    }
    env = {"HELMR_API_KEY": key or "", "XDG_STATE_HOME": str(folder / "state"), "HELMR_URL": ""}
    return await asyncio.to_thread(process, *words, *ways[way], env=env, cwd=folder)


@pytest.mark.parametrize("way", ["", "--data-dir", "--url"])
async def test_who_acts_is_the_person_whose_key_is_in_the_environment(
    stack: Stack, tmp_path: Path, way: str
) -> None:
    said = await runs(stack, tmp_path, "whoami", "--json", key=await key_of(stack, "ana"), way=way)
    assert said.code == 0, said.err
    assert json.loads(said.out)["person"]["id"] == "ana"
    wrong = await runs(stack, tmp_path, "whoami", key="hlmr_key_nonsense", way=way)
    assert wrong.code == 4, wrong.out


async def test_without_a_key_the_owners_acts(stack: Stack, tmp_path: Path) -> None:
    said = await runs(stack, tmp_path, "whoami", "--json", key=None)
    assert said.code == 0, said.err
    assert json.loads(said.out)["person"] is None


async def test_an_answer_is_recorded_for_the_person_whose_key_it_was(
    stack: Stack, tmp_path: Path
) -> None:
    wait_id, _ = await asks(stack, "escalates")
    said = await runs(
        stack, tmp_path, "wait", "answer", wait_id, "--data", "true", key=await key_of(stack, "cy")
    )
    assert said.code == 0, said.err
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert (wait["resolved_by"]["type"], wait["resolved_by"]["id"]) == ("person", "cy")
