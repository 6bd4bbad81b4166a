"""What reads print: JSON for programs, plain lines in a pipe, nothing left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helmr.wire import ids
from tests.cli.conftest import PROCESS_BOUND_S, spawn
from tests.client.gateway import Gateway

LONG = "word " * 100
EVIL = "a\x1b]52;c;aGk=\x07b\u202ec\u009b31md\x7f"
SHOWN = "a␛]52;c;aGk=␇b⟨U+202E⟩c⟨U+009B⟩31md␡"


def test_session_get_shows_the_active_wait_in_full(helmr, here: Gateway) -> None:
    session_id = here.session(activity="waiting", external_id="pr-7", tags=["a", "b"])
    wait = here.wait(
        session_id,
        stream="approval",
        correlation_id="github:o/r#7",
        subject="Publish?",
        body="# Look\nat this",
        deadline_at="2026-11-24T12:30:00Z",
        schema={
            "type": "object",
            "properties": {
                "decision": {"enum": ["approve", "reject", "edit"]},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["decision"],
        },
    )
    here.sessions[session_id]["wait"] = wait
    said = helmr("session", "get", session_id)
    assert said.code == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert f"session {session_id}" in lines
    assert "external id pr-7" in lines
    assert "tags a b" in lines
    assert f"wait {wait['id']}" in lines
    assert "kind input" in lines
    assert "stream approval" in lines
    assert "correlation id github:o/r#7" in lines
    assert "subject Publish?" in lines
    assert any(line.startswith("since 2026-11-24T12:00:00Z (") for line in lines)
    assert any(line.startswith("deadline 2026-11-24T12:30:00Z (") for line in lines)
    assert "# Look" in lines
    assert 'decision: "approve" | "reject" | "edit"' in lines
    assert "note: string | null (optional)" in lines
    assert said.err == f"Answer it: helmr wait answer {wait['id']} KEY=VALUE\n"


def test_session_get_without_a_wait_says_so(helmr, here: Gateway) -> None:
    said = helmr("session", "get", here.session())
    assert ("No active wait." in said.out, said.err) == (True, "")


def test_session_get_of_a_blocked_one_says_where_the_reason_stands(helmr, here: Gateway) -> None:
    session_id = here.session(activity="blocked")
    said = helmr("session", "get", session_id)
    assert said.err == f"Why it is blocked: helmr run list --session {session_id}\n"


def _filled(here: Gateway) -> dict[str, str]:
    session_id = here.session(external_id=LONG + EVIL)
    run_id = here.run(
        session_id,
        status="failed",
        error={"code": "x", "type": "ValueError", "message": LONG + EVIL, "traceback": "a\nb"},
    )
    wait = here.wait(session_id, subject=LONG + EVIL)
    here.entry(session_id, "session.created", body={"text": LONG + EVIL})
    here.entry(session_id, "session.closed")
    here.record(session_id, "progress", LONG + EVIL)
    return {"SESSION": session_id, "RUN": run_id, "WAIT": wait["id"]}


READS = [
    "session list",
    "session get SESSION",
    "session transcript SESSION",
    "session follow SESSION",
    "run list --session SESSION",
    "run get RUN",
    "wait list",
    "wait get WAIT",
    "output read SESSION progress",
]


@pytest.mark.parametrize("words", READS)
def test_nothing_is_cut_wrapped_coloured_or_sent_raw_in_a_pipe(
    helmr, here: Gateway, words: str
) -> None:
    names = _filled(here)
    said = helmr(*(names.get(word, word) for word in words.split()))
    assert said.code == 0
    assert LONG + SHOWN in said.out or json.dumps(LONG)[1:-1] in said.out
    assert not set("\x1b\x07\u202e\u009b\x7f") & set(said.out + said.err)


@pytest.mark.parametrize("words", READS)
def test_json_is_the_same_data_and_safe_to_print(helmr, here: Gateway, words: str) -> None:
    names = _filled(here)
    said = helmr(*(names.get(word, word) for word in words.split()), "--json")
    assert said.code == 0
    assert said.err == ""
    assert not set("\x1b\x07\u202e\u009b\x7f") & set(said.out)
    documents = [json.loads(line) for line in said.out.splitlines()]
    assert LONG + EVIL in _texts(documents)
    if "list" in words or words.split()[1] in ("transcript", "read"):
        [document] = documents
        assert set(document) == {"items", "next_cursor"}
        assert document["next_cursor"] is None
    else:
        assert len(documents) == (2 if "follow" in words else 1)


def test_plain_columns_are_aligned_by_cells(helmr, here: Gateway) -> None:
    here.session(external_id="日本")
    here.session(external_id="abcd")
    head, *rows = helmr("session", "list").out.splitlines()
    assert head.split() == [
        "ID", "TASK", "STATUS", "ACTIVITY", "EXTERNAL", "ID", "UPDATED", "TAGS",
    ]  # fmt: skip
    place = head.index("UPDATED")
    assert rows[0].index("2026-11-24") == place - 2  # two characters that are four cells
    assert rows[1].index("2026-11-24") == place


def test_a_list_says_that_there_is_more_and_all_fetches_it(helmr, here: Gateway) -> None:
    for _ in range(5):
        here.session()
    said = helmr("session", "list", "--limit", "2")
    assert len(said.out.splitlines()) == 3
    assert said.err == "There is more: --all, or --cursor 2\n"
    assert len(helmr("session", "list", "--limit", "2", "--cursor", "4").out.splitlines()) == 2
    said = helmr("session", "list", "--limit", "2", "--all", "--json")
    assert len(json.loads(said.out)["items"]) == 5
    page = json.loads(helmr("session", "list", "--limit", "2", "--json").out)
    assert page["next_cursor"] == "2"


def test_an_empty_list_is_its_head(helmr, here: Gateway) -> None:
    said = helmr("wait", "list")
    assert (said.code, len(said.out.splitlines())) == (0, 1)
    assert said.err == "nothing waits for people\n"
    assert helmr("wait", "list", "--task", "x").err == "no such wait\n"
    assert json.loads(helmr("wait", "list", "--json").out) == {"items": [], "next_cursor": None}


def test_a_transcript_is_read_whole_and_can_be_bounded(helmr, here: Gateway) -> None:
    session_id = here.session()
    for _ in range(120):
        here.entry(session_id, "note.added")
    assert len(helmr("session", "transcript", session_id).out.splitlines()) == 120
    said = helmr("session", "transcript", session_id, "--after", "100", "--limit", "5", "--json")
    assert [one["seq"] for one in json.loads(said.out)["items"]] == [101, 102, 103, 104, 105]


def test_an_unknown_field_of_a_filter_is_an_error_never_an_empty_list(helmr, here: Gateway) -> None:
    here.wait(here.session())
    for words in (
        ("wait", "list", "--filter", "colour:red"),
        ("session", "list", "--filter", "x:1"),
    ):
        said = helmr(*words)
        assert (said.code, said.out) == (2, "")
        assert "is not a field of a" in said.err.splitlines()[0]
        assert "Fields: id, " in said.err.splitlines()[1]
    said = helmr("wait", "list", "--filter", "github:acme/api#7")
    assert said.err.splitlines()[1].startswith('hint: As text: "github:acme/api#7".')


def test_a_filter_is_the_consoles_and_goes_on_until_something_passes(helmr, here: Gateway) -> None:
    ids = [here.session() for _ in range(5)]
    wanted = f"id:{ids[0]}"
    said = helmr("session", "list", "--filter", wanted, "--limit", "2", "--json")
    assert [one["id"] for one in json.loads(said.out)["items"]] == [ids[0]]
    assert (
        json.loads(helmr("session", "list", "--filter", "-id:ses_*", "--json").out)["items"] == []
    )
    refused = helmr("wait", "list", "--filter", "due<banana")
    assert refused.code == 2
    assert "banana" in refused.err


def test_filters_are_sent(helmr, here: Gateway) -> None:
    helmr("session", "list", "--task", "t", "--status", "open", "--activity", "waiting")
    helmr("session", "list", "--external-id", "x", "--tag", "y")
    helmr("wait", "list", "--kind", "timer", "--kind", "input", "--status", "pending")
    helmr("run", "list", "--status", "failed", "--task", "t")
    assert [one.query for one in here.seen] == [
        "task=t&status=open&activity=waiting&limit=50",
        "external_id=x&tag=y&limit=50",
        "status=pending&kind=timer&kind=input&limit=50",
        "task=t&status=failed&limit=50",
    ]


def test_what_failed_is_found_with_its_error(helmr, here: Gateway) -> None:
    here.session()
    error = {"code": "task_failed", "type": "CardDeclined", "message": "no money"}
    session_id = here.session(activity="idle", run_status="failed", error=error)
    said = json.loads(helmr("session", "list", "--filter", "is:failed", "--json").out)
    assert [one["id"] for one in said["items"]] == [session_id]
    assert here.seen[-1].query == "status=open&run_status=failed&limit=50"
    assert "idle, failed" in helmr("session", "list").out
    lines = [
        " ".join(line.split()) for line in helmr("session", "get", session_id).out.splitlines()
    ]
    assert {"newest run failed", "error CardDeclined: no money"} <= set(lines)


def test_shared_options_stand_before_or_behind_the_command(
    helmr, here: Gateway, monkeypatch
) -> None:
    monkeypatch.delenv("HELMR_URL")
    assert helmr("--url", here.url, "session", "list").code == 0
    assert helmr("session", "list", "--url", here.url).code == 0
    assert helmr("--on-behalf-of", "alice", "session", "list", "--url", here.url).code == 0
    assert here.seen[-1].headers["on-behalf-of"] == "alice"


def test_writes_say_what_they_did(helmr, here: Gateway, nowhere) -> None:
    (nowhere / "payload.json").write_text('{"n": 1}')
    said = helmr(
        "session", "start", "review", "--payload", "@payload.json", "--metadata", '{"a": 1}',
        "--tag", "x", "--tag", "y", "--json",
    )  # fmt: skip
    started = json.loads(said.out)
    assert started["created"] is True
    assert json.loads(here.seen[-1].body) == {
        "task": "review", "payload": {"n": 1}, "tags": ["x", "y"], "metadata": {"a": 1},
    }  # fmt: skip
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    said = helmr("session", "start", "review", "--wait", "1s")
    assert "run status" in said.out
    said = helmr("input", "send", session_id, "approval", "--data", "1", "--correlation-id", "c")
    assert "outcome" in said.out
    wait = here.wait(session_id)
    assert "fulfilled" in helmr("wait", "answer", wait["id"], "--data", "true").out
    said = helmr("wait", "answer", wait["id"], "--data", "true")
    assert (said.code, said.err) == (5, f"helmr: {wait['id']} was fulfilled by alice\n")
    assert helmr("session", "note", session_id, "seen").code == 0
    assert "cancelled" in helmr("run", "cancel", run_id).out
    assert helmr("run", "retry", run_id).code == 5
    assert "closed" in helmr("session", "close", session_id, "--end-input").out
    assert json.loads(here.seen[-1].body) == {"end_input": True}
    assert "cancelled" in helmr("session", "cancel", session_id).out


def test_metadata_is_an_object(helmr, here: Gateway) -> None:
    said = helmr("session", "start", "review", "--metadata", "[1]")
    assert (said.code, said.err) == (2, "helmr: --metadata: expected a JSON object, not list\n")


def test_status_is_three_lines_and_what_is_wrong(helmr, here: Gateway) -> None:
    here.health |= {
        "pool": {"queue": 2, "queue_oldest_s": 90.2, "sessions": {"live": 4, "room": 0}},
        "counts": {"waits_pending": 7, "sessions_open": 30},
        "ledger": {"feed_offset": 12},
    }
    said = helmr("status")
    assert said.code == 0
    ready, queue, waits = (" ".join(line.split()) for line in said.out.splitlines())
    assert ready == f"ready yes, {here.url}"
    assert queue == "queue 2 runs wait for room, the oldest for 1m 30s; 4 live, room for 0 more"
    assert waits == "waits 7 pending, 30 sessions open"
    here.health |= {"warnings": ["the queue stands still"], "degraded": ["queue_stalled"]}
    assert helmr("status").out.splitlines()[3:] == [
        "warning   the queue stands still",
        "degraded  queue_stalled",
    ]
    here.health |= {"ledger": {"log_store": "s3://logs/helmr"}}
    assert helmr("status").out.splitlines()[3] == "log       s3://logs/helmr"
    here.health |= {"ledger": {}}
    here.health["counts"]["sessions_failed"] = 2
    assert helmr("status").out.splitlines()[3] == (
        "failed    2 sessions: helmr session list --filter is:failed"
    )


def test_status_tells_whether_it_is_ready(helmr, here: Gateway) -> None:
    host = {"name": "host-1", "state": "ready", "sessions": 2, "room": 50, "pid": 7}
    here.health |= {
        "pool": {"ready": True, "hosts": {"total": 8}, "host_list": [host]},
        "ledger": {"feed_offset": 12, "failure": None},
    }
    said = helmr("status", "--all")
    assert said.code == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert f"url {here.url}" in lines
    assert "ready yes" in lines
    assert "hosts total 8" in lines
    assert "host-1 ready 2 50 7 - -" in lines
    assert not any("failure" in line for line in lines)
    assert "ledger feed offset 12" in lines
    assert not any("warning" in line for line in lines)
    here.health |= {"warnings": ["1 run waits for room, the oldest for 12 s"]}
    said = helmr("status")
    assert said.code == 0
    assert "warning 1 run waits for room" in " ".join(said.out.split())
    here.health |= {"ready": False, "reasons": ["no host is live"]}
    said = helmr("status")
    assert said.code == 6
    assert "no host is live" in said.out
    said = helmr("status", "--json")
    assert said.code == 6
    assert json.loads(said.out)["health"]["reasons"] == ["no host is live"]


def test_a_follow_ends_with_its_session(here: Gateway) -> None:
    """Closed with the end of its input, a session is over when its run is."""
    session_id = here.session(activity="waiting")
    here.entry(session_id, "session.created")
    with spawn("session", "follow", session_id, "--json") as one:
        assert one.stdout is not None
        kinds = [json.loads(one.stdout.readline())["kind"]]
        for kind in ("session.closed", "output.appended"):
            here.entry(session_id, kind)
            kinds.append(json.loads(one.stdout.readline())["kind"])
        here.sessions[session_id]["activity"] = "idle"
        here.entry(session_id, "run.succeeded")
        kinds += [json.loads(line)["kind"] for line in one.stdout]
        assert one.wait(PROCESS_BOUND_S) == 0
    assert kinds == ["session.created", "session.closed", "output.appended", "run.succeeded"]


def test_a_follow_of_an_ended_session_does_not_wait_for_more(helmr, here: Gateway) -> None:
    session_id = here.session(status="closed")
    here.entry(session_id, "session.closed")
    assert helmr("session", "follow", session_id, "--after", "1").out == ""


def test_a_run_that_failed_shows_why(helmr, here: Gateway) -> None:
    run_id = here.run(
        here.session(),
        status="failed",
        error={"code": "x", "type": "ValueError", "message": "no", "traceback": "File a\n  line b"},
    )
    said = helmr("run", "get", run_id)
    assert "ValueError" in said.out
    assert "  File a\n    line b\n" in said.out


def test_a_run_that_goes_on_has_no_result_yet(helmr, here: Gateway) -> None:
    run_id = here.run(here.session(), status="waiting")
    assert "result" not in helmr("run", "get", run_id).out
    here.runs[run_id]["status"] = "succeeded"
    assert "result      null\n" in helmr("run", "get", run_id).out


def test_a_start_that_waited_says_how_the_run_ended(helmr, here: Gateway, monkeypatch) -> None:
    ended: dict[str, Any] = {"status": "succeeded", "result": {"n": 1}}
    begin = here.run
    monkeypatch.setattr(
        here, "run", lambda session_id, **parts: begin(session_id, **parts, **ended)
    )
    assert 'result      {"n": 1}\n' in helmr("session", "start", "review", "--wait", "1s").out
    ended = {"status": "failed", "error": {"code": "x", "type": "ValueError", "message": "no"}}
    said = helmr("session", "start", "review", "--wait", "1s")
    assert "error       ValueError\nmessage     no\n" in said.out


def test_a_missing_run(helmr, here: Gateway) -> None:
    assert helmr("run", "get", ids.new_id(ids.RUN)).code == 3


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
