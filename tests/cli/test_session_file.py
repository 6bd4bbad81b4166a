"""`helmr session export|verify` and `helmr key public`: what they say, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helmr.cli.printing import GAP
from helmr.wire import ids
from helmr_runtime.core.session_file import FileWriter
from helmr_runtime.security.file_signatures import public_keys, sign
from helmr_runtime.security.keys import KeyRing, MasterKey
from tests.cli.conftest import process
from tests.client.gateway import Fault, Gateway

RING = KeyRing((MasterKey("k1", b"1" * 32),))
[(_, PUBLIC)] = public_keys(RING)
[(_, ANOTHER)] = public_keys(KeyRing((MasterKey("k1", b"2" * 32),)))
SESSION = ids.new_id(ids.SESSION)
EVIL = "a\x1b]52;c;aGk=\x07b\u202ec"


def written(task: str = "review") -> bytes:
    writer = FileWriter()
    lines = [
        writer.header(
            version="1.0",
            session_id=SESSION,
            task=task,
            code_hash="c0de",
            last_seq=1,
            schemas=None,
        ),
        writer.entry(
            {
                "seq": 1,
                "recorded_at": "2026-03-01T12:00:00.000000Z",
                "kind": "session.created",
                "run_id": None,
                "op": None,
                "principal": {"type": "api_key"},
                "body": {"task": task},
            }
        ),
    ]
    return b"".join([*lines, writer.footer(sign(RING, writer.signed))])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "review.jsonl"
    path.write_bytes(written())
    return path


def test_a_signed_file_is_good_by_the_key(helmr, file: Path) -> None:
    said = helmr("session", "verify", str(file), "--key", PUBLIC)
    assert (said.code, said.err) == (0, "")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines == [
        f"session {SESSION}",
        "task review",
        "helmr 1.0",
        "code hash c0de",
        "entries 1",
        f"signature good, of {PUBLIC}",
    ]


def test_without_a_key_it_is_called_unsigned(helmr, file: Path) -> None:
    said = helmr("session", "verify", str(file))
    assert said.code == 0
    assert "unsigned" in said.out
    assert json.loads(helmr("session", "verify", str(file), "--json").out)["signed_by"] is None


def test_keys_may_come_from_a_file(helmr, file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "helmr.pub"
    keys.write_text(f"{ANOTHER}\n{PUBLIC}\n")
    assert helmr("session", "verify", str(file), "--key", str(keys)).code == 0
    said = helmr("session", "verify", str(file), "--key", f"@{keys}", "--json")
    assert json.loads(said.out) == {
        "session_id": SESSION,
        "task": "review",
        "helmr": "1.0",
        "code_hash": "c0de",
        "entries": 1,
        "signed_by": PUBLIC,
        "answers": [],
    }


def test_a_changed_byte_is_exit_code_7_and_its_line(helmr, file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data.replace(b"session.created", b"session.creatED"))
    said = helmr("session", "verify", str(file))
    assert (said.code, said.out) == (7, "")
    assert said.err.splitlines()[0] == "helmr: line 2: it is not as it was written"


def test_another_ones_signature_is_exit_code_7(helmr, file: Path) -> None:
    said = helmr("session", "verify", str(file), "--key", ANOTHER)
    assert (said.code, said.out) == (7, "")
    assert said.err.startswith(f"helmr: line 3: it is signed by {PUBLIC}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["FILE", "--key", "k1"], "is not a public key"),
        (["FILE", "--key", "@missing"], "can't be read"),
        (["FILE", "--key", "@empty"], "holds no key"),
        (["missing"], "can't be read"),
    ],
)
def test_what_can_not_be_read_is_exit_code_2(helmr, file, nowhere, words, told) -> None:
    (nowhere / "empty").touch()
    words = [str(file) if word == "FILE" else word for word in words]
    said = helmr("session", "verify", *words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_a_hostile_file_does_not_speak_to_the_terminal(helmr, tmp_path: Path) -> None:
    path = tmp_path / "evil.jsonl"
    path.write_bytes(written(task=EVIL))
    for words in ((), ("--json",)):
        said = helmr("session", "verify", str(path), *words)
        assert said.code == 0
        assert not set("\x1b\x07\u202e") & set(said.out)


def test_standard_input_is_read_and_no_runtime_is_needed(nowhere: Path) -> None:
    said = process("session", "verify", "-", "--key", PUBLIC, input=written())
    assert (said.code, said.err) == (0, "")
    assert "good" in said.out


def test_an_export_is_a_private_file(helmr, here: Gateway, nowhere: Path) -> None:
    session_id = here.session()
    here.files[session_id] = written()
    said = helmr("session", "export", session_id, "-o", "out.jsonl")
    assert said.code == 0
    assert f"{session_id} written to out.jsonl" in said.err
    assert (nowhere / "out.jsonl").read_bytes() == written()
    assert (nowhere / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert helmr("session", "export", session_id).out.encode() == written()


def test_an_export_that_breaks_off_leaves_no_file(helmr, here: Gateway, nowhere: Path) -> None:
    session_id = here.session()
    here.files[session_id] = written()
    here.fault("GET", f"/v1/sessions/{session_id}/export", Fault("cut"))
    (nowhere / "out.jsonl").write_text("as it was")
    said = helmr("session", "export", session_id, "-o", "out.jsonl")
    assert said.code == 6
    assert (nowhere / "out.jsonl").read_text() == "as it was"
    assert [path.name for path in nowhere.glob("*out*")] == ["out.jsonl"]


def test_public_keys_are_a_line_each(helmr, here: Gateway) -> None:
    said = helmr("key", "public")
    assert (said.code, said.out) == (0, "ed25519:new\ned25519:old\n")
    assert json.loads(helmr("key", "public", "--json").out)["items"][1] == {
        "id": "k1",
        "key": "ed25519:old",
    }


RECORDED = Path(__file__).parents[1] / "examples" / "recorded"


def test_what_if_says_what_became_of_what(helmr) -> None:
    files = [str(path) for path in sorted(RECORDED.glob("publish_review_*.jsonl"))]
    said = helmr("session", "what-if", *files, "--tasks", "helmr.examples.publish_review")
    assert said.code == 0
    summary, others = (part.splitlines() for part in said.out.split("\n\n"))
    assert [line.split(GAP)[0].split(",")[0] for line in summary[1:]] == [
        'succeeded {"status":"posted"',
        'succeeded {"status":"skipped"}',
        "waiting",
    ]
    assert all(line.rstrip().endswith("1") for line in summary[1:])
    assert len(others) == 2  # nobody knows what it would have come to then
    assert "waiting" in others[1]
    rows = json.loads(
        helmr(
            "session", "what-if", *files, "--tasks", "helmr.examples.publish_review", "--json"
        ).out
    )["items"]
    assert [row["changed"] for row in rows] == [False, False, None]


@pytest.mark.parametrize(
    ("names", "tasks", "code", "told"),
    [
        (["chat_ended", "release_failed"], "helmr.examples.chat", 2, "of the tasks chat, release"),
        (["chat_ended"], "helmr.examples.release", 3, "no task chat is in"),
        (["missing"], "helmr.examples.chat", 2, "can't be read"),
        (["chat_ended"], "missing_module", 2, "no module named missing_module"),
    ],
)
def test_what_if_refuses_what_it_can_not_replay(helmr, names, tasks, code, told) -> None:
    files = [str(RECORDED / f"{name}.jsonl") for name in names]
    said = helmr("session", "what-if", *files, "--tasks", tasks)
    assert (said.code, said.out) == (code, "")
    assert told in said.err
