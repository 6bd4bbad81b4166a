"""Payloads encrypted at rest, over the real parts: what the files show, and what damage, moves and keys do (S-52)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from helmr import TaskContext, step, streams, task, tokens
from helmr.errors import MasterKeyMissing, PayloadDamaged
from helmr.wire import ids
from helmr_runtime.catalog import Registry
from helmr_runtime.core import checkpoint
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.tables.public_views import VIEWS
from helmr_runtime.ledger.tools.repair import repair
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.payloads import is_sealed
from tests import warm
from tests.longer import long_but
from tests.service.stack import RING, Stack, until

(K1,) = RING.keys
K2 = MasterKey("k2", b"2" * 32)
MARK = "zimtstern"
"""Stands in everything that is a payload, and in nothing else."""

CLEAR_OF_INPUT = {"stream", "stream_seq", "record_id", "wait_id"}
"""What of an accepted input's body stands in the clear."""

said = streams.input("said", schema=dict[str, Any])
told = streams.output("told", schema=str)


@step
async def think(about: str) -> dict[str, str]:
    """Its result is recorded."""
    return {"thought": about}


@task(id="whole")
async def whole(payload: dict[str, str], ctx: TaskContext) -> dict[str, Any]:
    """Records every kind of payload: input, result, output, wait, token, error."""
    token = await tokens.create(subject=f"{MARK} asks", metadata={"for": MARK})
    thought = await think(f"{MARK} {payload['about']}")
    await told.append(f"{MARK} is near")
    first = await said.wait(subject=f"{MARK}?", body=f"# {MARK}").unwrap()
    await tokens.complete(token.id, {"answer": MARK})
    by_token = await token.wait().unwrap()
    return {"first": first, "by_token": by_token, **thought}


@task(id="fails")
async def fails(payload: str) -> None:
    """Its message is recorded."""
    raise ValueError(payload)


@task(id="talks")
async def talks(payload: int) -> list[str]:
    """Takes so many records, and tells each."""
    heard = []
    for _ in range(payload):
        heard.append((await said.wait().unwrap())["text"])
        await told.append(heard[-1])
    return heard


REGISTRY = Registry([whole, fails, talks], modules=[__name__], code_hash="code-1")


@asynccontextmanager
async def running(
    folder: Path, *, encrypts: bool | None = None, ring: KeyRing = RING
) -> AsyncIterator[Stack]:
    stack = Stack(folder, encrypts=encrypts, ring=ring, registry=REGISTRY, linger_s=0.05)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def start(stack: Stack) -> str:
    receipt = await stack.started("whole", {"about": MARK})
    return str(receipt["session"]["id"])


async def answer(stack: Stack, session_id: str, text: str = MARK) -> None:
    path = f"/v1/sessions/{session_id}/inputs/said"
    sent = await stack.http.post(path, json={"data": {"text": text}})
    assert sent.status_code == 200, sent.text


async def result(stack: Stack, session_id: str) -> Any:
    (run,) = (await stack.http.get(f"/v1/sessions/{session_id}/runs")).json()["items"]
    return (await stack.run_until(run["id"], "succeeded"))["result"]


async def parked(stack: Stack) -> None:
    """No session is held: each has written its checkpoint."""

    async def holds() -> bool:
        return not await stack.ledger.held()

    await until(holds)


async def transcript(stack: Stack, session_id: str) -> Any:
    return await stack.http.get(f"/v1/sessions/{session_id}/transcript")


def marks(folder: Path) -> list[str]:
    """The data files in which the mark can be read."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if MARK.encode() in path.read_bytes()]


def stored(folder: Path, query: str, *values: Any) -> list[Any]:
    """Run SQL on the file while nobody holds it."""
    with duckdb.connect(str(folder / "helmr.duckdb")) as connection:
        return connection.execute(query, values).fetchall()


def change(folder: Path, session_id: str, seq: int, how: Callable[[str], str]) -> None:
    """Change the stored body of one entry."""
    at = (ids.to_uuid(session_id), seq)
    ((body,),) = stored(folder, "SELECT body FROM entries WHERE session = $1 AND seq = $2", *at)
    assert how(body) != body
    stored(folder, "UPDATE entries SET body = $3 WHERE session = $1 AND seq = $2", *at, how(body))


def flipped(text: str) -> str:
    """One byte within the ciphertext is another."""
    place = len(text) // 2
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


async def seq_of(stack: Stack, session_id: str, kind: str) -> int:
    entries = (await transcript(stack, session_id)).json()["items"]
    return int(next(entry["seq"] for entry in entries if entry["kind"] == kind))


pytestmark = pytest.mark.allows_blocking  # the tests look into files


async def test_no_data_file_shows_a_payload_and_everything_reads_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, encrypts=True) as stack:
        session_id = await start(stack)
        failed = await stack.started("fails", MARK)
        client_made = await stack.http.post("/v1/tokens", json={"subject": MARK})
        token_id = client_made.json()["id"]
        await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": MARK})
        await stack.http.post(f"/v1/sessions/{session_id}/notes", json={"text": MARK})
        await parked(stack)
        assert marks(tmp_path) == []  # the write-ahead log among them
        assert f"{failed['run']['id']} failed: ValueError: (its message is sealed" in caplog.text
        assert MARK not in caplog.text
        await answer(stack, session_id)
        assert await result(stack, session_id) == {
            "first": {"text": MARK},
            "by_token": {"answer": MARK},
            "thought": f"{MARK} {MARK}",
        }
        outputs = await stack.http.get(f"/v1/sessions/{session_id}/outputs/told")
        assert [one["data"] for one in outputs.json()["items"]] == [f"{MARK} is near"]
        inputs = await stack.http.get(f"/v1/sessions/{session_id}/inputs/said")
        assert inputs.json()["items"][0]["consumed_by"] is not None
        assert MARK in (await stack.http.get(f"/v1/runs/{failed['run']['id']}")).text
        await parked(stack)
        await stack.ledger.verify_chain(session_id)
    assert marks(tmp_path) == []
    kinds = {"run.created", "step.succeeded", "output.appended", "wait.opened", "run.failed"}
    kinds |= {"input.accepted", "note.added", "token.created", "token.completed"}
    bodies = stored(tmp_path, "SELECT kind, body FROM entries")
    assert kinds <= {kind for kind, _ in bodies}
    assert all(is_sealed(body) for _, body in bodies)
    checkpoints = stored(tmp_path, "SELECT body FROM checkpoints")
    assert checkpoints
    assert all(is_sealed(body) for (body,) in checkpoints)


async def test_the_search_would_find_a_payload(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await start(stack)
    assert marks(tmp_path) == ["helmr.duckdb"]


async def test_the_directory_remembers_and_old_entries_stay_readable(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        plain = await start(stack)
        await parked(stack)
    async with running(tmp_path, encrypts=True) as stack:
        sealed = await start(stack)
        await answer(stack, plain)  # a session whose first entries are plain goes on sealed
        assert (await result(stack, plain))["first"] == {"text": MARK}
    async with running(tmp_path) as stack:  # remembered
        assert (await transcript(stack, plain)).text.count(MARK) > 5
        before = await seq_of(stack, sealed, "wait.opened")
        await answer(stack, sealed)
        assert (await result(stack, sealed))["first"] == {"text": MARK}
    async with running(tmp_path, encrypts=False) as stack:  # new entries in the clear again
        last = await start(stack)
        assert (await transcript(stack, sealed)).text.count(MARK) > 5
        await stack.ledger.verify_chain(plain)
    of = "SELECT body FROM entries WHERE session = $1 ORDER BY seq"
    first, second, third = (
        [is_sealed(body) for (body,) in stored(tmp_path, of, ids.to_uuid(one))]
        for one in (plain, sealed, last)
    )
    assert first == sorted(first)
    assert set(first) == {False, True}
    assert len(second) > before
    assert all(second)
    assert not any(third)


async def test_a_changed_byte_names_its_entry_and_other_sessions_go_on(tmp_path: Path) -> None:
    async with running(tmp_path, encrypts=True) as stack:
        session_id, other = await start(stack), await start(stack)
        await parked(stack)
        seq = await seq_of(stack, session_id, "step.succeeded")
    change(tmp_path, session_id, seq, flipped)
    async with running(tmp_path) as stack:
        refused = await transcript(stack, session_id)
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (500, "payload_damaged")
        assert f"{session_id} seq {seq} (step.succeeded)" in problem["detail"]
        code, error = await command_line(stack, "session", "transcript", session_id)
        assert code == 7
        assert f"{session_id} seq {seq} (step.succeeded)" in error
        assert "Traceback" not in error
        await answer(stack, other)
        assert (await result(stack, other))["first"] == {"text": MARK}
        assert (await start(stack)) != session_id


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(flipped, id="flipped"),
        pytest.param(lambda body: body[:-20], id="cut", marks=pytest.mark.long),
    ],
)
async def test_one_damaged_entry_takes_no_list_down(
    tmp_path: Path, how: Callable[[str], str]
) -> None:
    async with running(tmp_path, encrypts=True) as stack:
        asks, other, done = await start(stack), await start(stack), await start(stack)
        failed = (await stack.started("fails", MARK))["run"]["id"]
        await answer(stack, done)
        await result(stack, done)
        token = (await stack.http.post("/v1/tokens", json={"tags": ["x"]})).json()["id"]
        await parked(stack)
        damaged = [(asks, await seq_of(stack, asks, "wait.opened"))]
        damaged += [(done, await seq_of(stack, done, "wait.fulfilled"))]
        damaged += [(done, await seq_of(stack, done, "input.accepted"))]
        failed_in = (await stack.http.get(f"/v1/runs/{failed}")).json()["session_id"]
        damaged += [(failed_in, await seq_of(stack, failed_in, "run.failed"))]
    damaged += [(ids.SYSTEM_STREAM, token_seq(tmp_path))]
    for session_id, seq in damaged:
        change(tmp_path, session_id, seq, how)
    async with running(tmp_path) as stack:

        async def listed(what: str) -> dict[str, dict[str, Any]]:
            response = await stack.http.get(f"/v1/{what}")
            assert response.status_code == 200, response.text
            return {item["id"]: item for item in response.json()["items"]}

        by_session = {one["session_id"]: one for one in (await listed("waits")).values()}
        assert set(by_session) == {asks, other}
        assert (by_session[other]["subject"], by_session[other]["problem"]) == (f"{MARK}?", None)
        assert by_session[asks]["subject"] == "(can't be read)"
        assert f"{asks} seq {damaged[0][1]} (wait.opened)" in by_session[asks]["problem"]
        resolved = await listed("waits?status=fulfilled")
        assert [one["problem"] for one in resolved.values() if one["problem"]]
        sessions = await listed("sessions")
        assert {asks, other, done} <= set(sessions)
        assert sessions[asks]["wait"]["problem"] == by_session[asks]["problem"]
        assert sessions[other]["wait"]["problem"] is None
        shown = await stack.http.get(f"/v1/sessions/{asks}")
        assert shown.json()["wait"]["problem"] == by_session[asks]["problem"]
        runs = await listed("runs")
        assert "(run.failed)" in runs[failed]["problem"]
        tokens_listed = await listed("tokens")
        assert len(tokens_listed) == 4
        assert "(token.created)" in tokens_listed[token]["problem"]
        assert tokens_listed[token]["tags"] == ["x"]
        for one in (f"waits/{by_session[asks]['id']}", f"runs/{failed}", f"tokens/{token}"):
            assert (await stack.http.get(f"/v1/{one}")).json()["code"] == "payload_damaged"
        await answer(stack, other)
        assert (await result(stack, other))["first"] == {"text": MARK}


def token_seq(folder: Path) -> int:
    """Seq of the one token that no session made."""
    of = "SELECT seq FROM entries WHERE session = $1 AND kind = 'token.created'"
    ((seq,),) = stored(folder, of, ids.to_uuid(ids.SYSTEM_STREAM))
    return int(seq)


async def command_line(stack: Stack, *words: str) -> tuple[int, str]:
    env = {**os.environ, "HELMR_URL": stack.url, "HELMR_API_KEY": stack.key}
    done = await asyncio.to_thread(warm.run, *words, env=env)
    return done.returncode, done.stderr


async def test_queries_and_exports_show_what_stands_in_the_file_and_no_payload(
    tmp_path: Path,
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    async with running(data, encrypts=True) as stack:
        session_id = await start(stack)
        await answer(stack, session_id)
        await result(stack, session_id)
        await stack.started("fails", MARK)
        token_id = (await stack.http.post("/v1/tokens", json={"subject": MARK})).json()["id"]
        await stack.http.post(f"/v1/tokens/{token_id}/complete", json={"data": MARK})
        await parked(stack)

        async def query(sql: str) -> list[list[Any]]:
            response = await stack.http.post("/v1/query", json={"sql": sql})
            assert response.status_code == 200, response.text
            assert MARK not in response.text
            rows: list[list[Any]] = response.json()["rows"]
            return rows

        for view in VIEWS:
            assert await query(f"SELECT * FROM {view}")
        # Sorting and grouping by a body neither opens it nor writes it anywhere.
        await query("SELECT body, count(*) FROM entries GROUP BY body ORDER BY body DESC")
        shown = await query(
            "SELECT direction, stream, stream_seq, outcome, data, is_encrypted FROM records"
        )
        assert sorted(shown, key=str) == [
            ["input", "said", 1, None, None, True],
            ["output", "told", 1, None, None, True],
        ]
        bodies = await query(
            "SELECT DISTINCT kind, body FROM entries WHERE kind = 'input.accepted'"
        )
        assert [json.loads(body).keys() for _, body in bodies] == [CLEAR_OF_INPUT]
        assert await query(
            "SELECT bool_and(is_encrypted), bool_or(contains(body, 'sealed')) FROM entries"
        ) == [[True, False]]
        subjects = "SELECT e.body->>'$.subject' FROM waits w JOIN entries e ON e.feed_offset = w.opened_offset"
        assert {subject for (subject,) in await query(subjects)} == {None}
        for words in (
            ("query", "SELECT * FROM entries", "--out", str(out / "entries.csv")),
            ("query", "SELECT * FROM records", "--out", str(out / "records.json")),
            ("export", "--parquet", str(out / "entries.parquet")),
        ):
            code, error = await command_line(stack, *words)
            assert (code, MARK in error) == (0, False), error
    assert {path.name for path in out.iterdir()} == {
        "entries.csv",
        "records.json",
        "entries.parquet",
    }
    with duckdb.connect() as connection:
        source = f"read_parquet('{out / 'entries.parquet'}')"
        exported = connection.execute(f"SELECT body, is_encrypted FROM {source}").fetchall()
    assert len(exported) > 20
    assert not [body for body, is_encrypted in exported if MARK in body or not is_encrypted]
    assert marks(tmp_path) == []  # data, logs and whatever the engine put aside


@pytest.mark.long  # what stands in the file: test_queries_and_exports_show…
async def test_queries_show_payloads_from_before_and_after_encryption(tmp_path: Path) -> None:
    rows: Any = None
    for encrypts in (False, True, False):
        async with running(tmp_path, encrypts=encrypts) as stack:
            session_id = await start(stack)
            await answer(stack, session_id)
            await result(stack, session_id)
            sql = "SELECT data, is_encrypted FROM records WHERE direction = 'input' ORDER BY feed_offset"
            rows = (await stack.http.post("/v1/query", json={"sql": sql})).json()["rows"]
    plain = ['{"text":"' + MARK + '"}', False]
    assert rows == [plain, [None, True], plain]


@long_but(1, "what", ["another entry's body", "a lookup field", "a cut body", "plain"])
async def test_a_body_that_is_not_its_own_is_refused(tmp_path: Path, what: str) -> None:
    async with running(tmp_path, encrypts=True) as stack:
        session_id = await start(stack)
        await answer(stack, session_id)
        await result(stack, session_id)
        seq = await seq_of(stack, session_id, "input.accepted")
    ((foreign,),) = stored(
        tmp_path,
        "SELECT body FROM entries WHERE session = $1 AND seq = $2",
        *(ids.to_uuid(session_id), seq - 1),
    )
    hows: dict[str, Callable[[str], str]] = {
        "another entry's body": lambda _: str(foreign),
        "a lookup field": lambda body: body.replace('"stream_seq":1', '"stream_seq":2'),
        "a cut body": lambda body: body[:-20],
        "plain": lambda _: '{"data":',
    }
    change(tmp_path, session_id, seq, hows[what])
    async with running(tmp_path) as stack:
        problem = (await transcript(stack, session_id)).json()
        assert problem["code"] == "payload_damaged"
        assert f"{session_id} seq {seq}" in problem["detail"]


async def test_a_damaged_or_moved_checkpoint_is_refused_and_named(tmp_path: Path) -> None:
    async with running(tmp_path, encrypts=True) as stack:
        one, other = await start(stack), await start(stack)
        await parked(stack)
    stored(
        tmp_path,
        "UPDATE checkpoints SET body = (SELECT any_value(body) FROM checkpoints WHERE session = $2) "
        "WHERE session = $1",
        *(ids.to_uuid(one), ids.to_uuid(other)),
    )
    async with running(tmp_path) as stack:
        with pytest.raises(PayloadDamaged, match=rf"{one} seq \d+ \(checkpoint\)"):
            await stack.ledger.load(one, "slot-x")
        await answer(stack, other)
        assert (await result(stack, other))["first"] == {"text": MARK}


@pytest.mark.long  # test_a_damaged_or_moved_checkpoint…
async def test_a_checkpoint_that_cannot_be_read_loses_nothing_and_repair_goes_on_without_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, encrypts=False) as stack:
        one, other = await start(stack), await start(stack)
        await parked(stack)
    before = stored(tmp_path, "SELECT * FROM entries WHERE session = $1", ids.to_uuid(one))
    stored(
        tmp_path,
        "UPDATE checkpoints SET body = replace(body, 'crashes', 'crashex') WHERE session = $1",
        ids.to_uuid(one),
    )
    async with running(tmp_path) as stack:
        path = f"/v1/sessions/{one}/inputs/said"
        refused = await stack.http.post(path, json={"data": {"text": MARK}})
        assert (refused.status_code, refused.json()["code"]) == (500, "ledger_damaged")
        assert f"{one}: the checkpoint can't be read: its Run has 'crashex'" in refused.text
        assert "helmr verify" in refused.json()["hint"]
        await answer(stack, other)
        assert (await result(stack, other))["first"] == {"text": MARK}
    assert stored(tmp_path, "SELECT * FROM entries WHERE session = $1", ids.to_uuid(one)) == before
    file, keys, now = tmp_path / "helmr.duckdb", LedgerKeys(RING), datetime.now(UTC)
    done = await asyncio.to_thread(repair, file, keys, now)
    assert done.damage is not None
    assert "crashex" in done.damage
    assert (done.dropped_entries, done.dropped_checkpoints) == (0, 1)
    async with running(tmp_path) as stack:
        await answer(stack, one)
        assert (await result(stack, one))["first"] == {"text": MARK}


@pytest.mark.long  # tests/core/test_checkpoints.py
async def test_a_long_journal_in_sealed_pieces_goes_on_over_restarts_and_a_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES_MIN", 1_000)
    monkeypatch.setattr(checkpoint, "PIECES_MAX", 3)
    texts = [f"{MARK} {n}" for n in range(24)]
    seen: set[int] = set()
    session_id = ""
    for opening, ring in enumerate((RING, KeyRing((K1, K2)), KeyRing((K1, K2)))):
        async with running(tmp_path, encrypts=True, ring=ring) as stack:
            if not session_id:
                begun = await stack.started("talks", len(texts))
                session_id = begun["session"]["id"]
            for text in texts[8 * opening : 8 * opening + 8]:
                await answer(stack, session_id, text)
                await parked(stack)
                loaded = await stack.ledger.load(session_id, "test")
                await stack.ledger.abandon(session_id, loaded.epoch)
                seen.add(len(loaded.pieces))
            if opening == 2:
                assert await result(stack, session_id) == texts
                path = f"/v1/sessions/{session_id}/outputs/told?limit=100"
                outputs = (await stack.http.get(path)).json()["items"]
                assert [one["data"] for one in outputs] == texts  # each once
    assert {0, 1, 2} <= seen
    assert marks(tmp_path) == []
    bodies = [body for (body,) in stored(tmp_path, "SELECT body FROM checkpoints")]
    assert all(is_sealed(body) for body in bodies)
    assert {body.rpartition('"sealed":"')[2][:3] for body in bodies} == {"k1.", "k2."}


async def test_keys_rotate_and_a_removed_one_is_named(tmp_path: Path) -> None:
    async with running(tmp_path, encrypts=True) as stack:
        old = await start(stack)
        await parked(stack)
    async with running(tmp_path, ring=KeyRing((K1, K2))) as stack:
        assert MARK in (await transcript(stack, old)).text
        await answer(stack, old)
        assert (await result(stack, old))["first"] == {"text": MARK}
        seq = await seq_of(stack, old, "input.accepted")
    of = "SELECT body FROM entries WHERE session = $1 AND seq = $2"
    ((body,),) = stored(tmp_path, of, ids.to_uuid(old), seq)
    assert '"sealed":"k2.' in body
    stack = Stack(tmp_path, registry=REGISTRY)  # without k2
    try:
        # The chain is checked with the key it began with; no body needs to be opened.
        assert await stack.ledger.verify_chain(old) > seq
        assert await stack.ledger.transcript(old, limit=seq - 2)
        with pytest.raises(MasterKeyMissing, match=rf"{old} seq {seq} .*'k2'"):
            await stack.ledger.transcript(old, after=seq - 1)
    finally:
        await stack.stop()


async def test_encryption_without_a_key_is_refused(tmp_path: Path) -> None:
    from helmr_runtime.clock import SystemClock
    from helmr_runtime.ledger.actor import LedgerActor

    ledger = LedgerActor(tmp_path / "x.duckdb", clock=SystemClock(), encrypts=True)
    with pytest.raises(MasterKeyMissing, match="without a master key"):
        await ledger.held()
    await ledger.close()
