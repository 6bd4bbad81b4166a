"""Sessions, their streams and runs, and the inbox of waits."""

from __future__ import annotations

from helmr.models import (
    AfterQuery,
    AmendPreviewRequest,
    AmendRequest,
    AnswerData,
    AnswerLinkInfo,
    AnswerLinkReceipt,
    AnswerLinkRequest,
    AnswerReceipt,
    AnswerRequest,
    AssignReceipt,
    AssignRequest,
    AttemptRequest,
    BulkPlan,
    BulkPreviewRequest,
    BulkReport,
    BulkRequest,
    ClaimReceipt,
    ClaimRequest,
    CloseRequest,
    DryRun,
    EntryInfo,
    FollowQuery,
    ForkRequest,
    ListQuery,
    NoFields,
    NoteReceipt,
    NoteRequest,
    OutputQuery,
    Page,
    RecordInfo,
    RewindPreview,
    RewindPreviewRequest,
    RewindRequest,
    RunInfo,
    RunJournal,
    RunRequest,
    RunsQuery,
    SendReceipt,
    SendRequest,
    SessionInfo,
    SessionsQuery,
    StartReceipt,
    StartRequest,
    VoteReceipt,
    WaitInfo,
    WaitsQuery,
)
from helmr.wire.operation import EVENTS, JSONL, PAGE, Media, Operation, Repeat
from helmr.wire.roles import Need, ScopeType

# A table is read row by row.
# fmt: off

# Sessions -----------------------------------------------------------------------------------------

START_SESSION = Operation(
    "sessions.start", "POST /v1/sessions", Need.START,
    "Start a session and its first run.",
    description="Answers 201 `{session, run, created}`, or 200 if the session existed: the `external_id` of an "
    "open one, or an `idempotency_key`, with the same task and payload returns that session. With "
    "`result_timeout_s` (≤ 60) the answer comes when the run waits, is blocked or has ended.",
    body=StartRequest, reply=StartReceipt, status=201, others={200: "It existed already"},
    problems=(404, 409, 422), repeat=Repeat.ONCE)
LIST_SESSIONS = Operation(
    "sessions.list", "GET /v1/sessions", Need.READ,
    "List sessions, newest first.",
    description="All filters that are given must hold. `run_status` is that of the newest run.",
    query=SessionsQuery, reply=Page[SessionInfo],
    leaves_out=("wait.body", "wait.evidence", "wait.links", "wait.trace_id", "wait.json_schema"))
GET_SESSION = Operation(
    "sessions.get", "GET /v1/sessions/{session_id}", Need.READ,
    "Get a session, with its active wait in full.",
    reply=SessionInfo, problems=(404,))
READ_TRANSCRIPT = Operation(
    "sessions.transcript", "GET /v1/sessions/{session_id}/transcript", Need.READ,
    "Read a session's entries by seq.",
    query=AfterQuery, reply=Page[EntryInfo], problems=(404,))
EXPORT_SESSION: Operation[bytes] = Operation(
    "sessions.export", "GET /v1/sessions/{session_id}/export", Need.ADMINISTER,
    "Export a session with all payloads as a signed file.",
    description="Answers `application/jsonl`.",
    service="session_files.export",
    reply=Media(JSONL, "A session file: JSON lines, the last a signature", "{session_id}.jsonl"), problems=(404,))
LIST_SESSION_RUNS = Operation(
    "sessions.runs", "GET /v1/sessions/{session_id}/runs", Need.READ,
    "List a session's runs, newest first.",
    query=ListQuery, reply=Page[RunInfo], problems=(404,))
START_RUN = Operation(
    "sessions.run", "POST /v1/sessions/{session_id}/runs", Need.STEER,
    "Start the next run of an open, idle session; without a payload, with that of the newest run.",
    description="409 `run_active` if one is active.",
    body=RunRequest, reply=RunInfo, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE)
CLOSE_SESSION = Operation(
    "sessions.close", "POST /v1/sessions/{session_id}/close", Need.STEER,
    "Close a session; with `end_input` also while its run waits for input.",
    description="409 `run_active` if a run is active, unless the run waits for input and `end_input` is true. With "
    "`run_id` and `attempt` 409 `session_changed` if its newest run is not that one, at that attempt.",
    body=CloseRequest, reply=SessionInfo, problems=(404, 409), repeat=Repeat.ONCE)
CANCEL_SESSION = Operation(
    "sessions.cancel", "POST /v1/sessions/{session_id}/cancel", Need.STEER,
    "Cancel a session, its run and what is open in it. Cancelling again succeeds.",
    body=NoFields, reply=SessionInfo, problems=(404, 409), repeat=Repeat.ONCE)
ADD_NOTE = Operation(
    "sessions.note", "POST /v1/sessions/{session_id}/notes", Need.ANSWER,
    "Write a person's note into the transcript.",
    body=NoteRequest, reply=NoteReceipt, status=201, problems=(404, 409), repeat=Repeat.ONCE)
FORK_SESSION = Operation(
    "sessions.fork", "POST /v1/sessions/{session_id}/fork", Need.STEER,
    "Start a session that begins with this session's past up to an op.",
    description="`to_op` is an op of the newest run; `wait_id` names the op by its wait. "
    "Answers 201 `{session, run, created}`. `answer` (may be null) answers the wait there.",
    service="corrections.fork", body=ForkRequest, reply=StartReceipt, status=201,
    problems=(404, 409, 422), repeat=Repeat.ONCE)

# Streams of a session, and what can be followed ---------------------------------------------------

SEND_INPUT = Operation(
    "sessions.send", "POST /v1/sessions/{session_id}/inputs/{stream}", Need.SEND,
    "Send a record; the receipt says what it did.",
    description="`data` may be null. Answers `{record_id, stream, seq, outcome, duplicate, wait_id, run_id}`.",
    tag="streams", scope=ScopeType.SESSION_INPUT_SEND, body=SendRequest, reply=SendReceipt,
    problems=(404, 409, 422), repeat=Repeat.ONCE)
LIST_INPUTS = Operation(
    "sessions.inputs", "GET /v1/sessions/{session_id}/inputs/{stream}", Need.READ,
    "List an input stream's records by seq, consumed or not.",
    tag="streams", query=AfterQuery, reply=Page[RecordInfo], problems=(404,))
READ_OUTPUTS = Operation(
    "sessions.outputs", "GET /v1/sessions/{session_id}/outputs/{stream}", Need.READ,
    "Read an output stream's records by seq, or follow them with `Accept: text/event-stream`.",
    description="Following begins after `after` or the Last-Event-ID, with the first record if there is neither. "
    "It ends when the session is over; a follower that reconnects then gets 204 and stops. With `chunks=true` "
    "the events `chunk` and `chunks.end` come with the records: what the code emits from now on, which is not "
    "stored.",
    tag="streams", scope=ScopeType.SESSION_OUTPUT_READ, query=OutputQuery, reply=Page[RecordInfo],
    also=EVENTS, others={204: "Of an event stream: the session is over, and no record follows"}, problems=(404,))
FOLLOW_SESSION: Operation[bytes] = Operation(
    "sessions.follow", "GET /v1/sessions/{session_id}/events", Need.READ,
    "Follow a session's entries.",
    description="Server-sent events; without `after` and Last-Event-ID they begin now.",
    tag="streams", query=FollowQuery, reply=EVENTS, problems=(404,))
FOLLOW_ALL: Operation[bytes] = Operation(
    "events.follow", "GET /v1/events", Need.READ,
    "Follow the entries of all sessions.",
    description="Server-sent events; without `after` and Last-Event-ID they begin now.",
    tag="streams", query=FollowQuery, reply=EVENTS)

# Waits: the inbox ---------------------------------------------------------------------------------

LIST_WAITS = Operation(
    "waits.list", "GET /v1/waits", Need.READ,
    "List waits: soonest end first, none last, then by id.",
    description="Pending ones for input or a token, unless asked. The soonest end is `ends_at`: the escalation's "
    "default, else the deadline. Without `body`, `evidence`, `links`, `trace_id`, `schema`, `initial`, `on_decline` "
    "and `answer`. "
    "`tag` is the wait's or its session's; `resolved_since` is a time with its zone: over then or "
    "later. A wait whose stored entry can't be read says why in `problem`, as in the lists of sessions "
    "(their `wait`), runs and tokens. A wait on a token that has ended is not among the pending ones, "
    "although its session learns of that a moment later. A wait on a token has the token's `subject`, "
    "`body` and expiry (as `deadline_at`) where it has none of its own.",
    query=WaitsQuery, reply=Page[WaitInfo],
    leaves_out=("body", "evidence", "links", "trace_id", "json_schema", "initial", "on_decline", "votes", "answer"))
GET_WAIT = Operation(
    "waits.get", "GET /v1/waits/{wait_id}", Need.READ,
    "Get a wait in full, with the JSON Schema that its answer must fit.",
    description="`body` has up to 1 MiB; `initial` is what a form starts with. Once the wait is fulfilled it has "
    "the `answer`. Once its token has ended, `resolving` says how, and `resolved_at`, `resolved_by` and `answer` are "
    "the token's. `status` follows when its session decides, perhaps otherwise: if the deadline came first, it is "
    "`timed_out`.",
    service="waits.shown", reply=WaitInfo, problems=(404,))
READ_ATTACHMENT: Operation[bytes] = Operation(
    "waits.attachment", "GET /v1/waits/{wait_id}/attachments/{attachment_id}", Need.READ,
    "Get the bytes of a file of a wait.",
    description="The wait's `evidence` has its name, type, size and hash. Answers `application/octet-stream` whatever "
    "its type is, so that no browser runs it.",
    reply=Media("application/octet-stream", "The bytes", "{attachment_id}"), problems=(404,))
ANSWER_WAIT: Operation[AnswerReceipt] = Operation(
    "waits.answer", "POST /v1/waits/{wait_id}/answer", Need.ANSWER,
    "Answer exactly this wait; if it is over, say who ended it, when and with what.",
    description="`batch_id` names the batch of answers that it belongs to: 1 to 128 letters, digits and `._:-`, the "
    "first a letter or digit. 409 `wait_resolved` with who, when and what; 409 `wait_claimed` if "
    "someone else has claimed it, unless the claim is overridden; 410 `wait_timed_out`; 403 `not_an_answerer`, with "
    "who may, unless an admin gives an `override_reason`; 503 `groups_unknown` if that depends on groups that are "
    "not known; nothing is stored then. Where several people must agree, all but the last get "
    "`{outcome: \"voted\", have, need}`. A wait with `signed` takes answers with a `signature` only, else 403 "
    "`signature_needed` or `bad_signature`: an armored SSH signature in the namespace `helmr`, by a registered key of "
    "the person, over RFC 8785 JSON of `data`, `person`, `question_hash` and `wait_id`. A deputy answers for the "
    "person whom `deputy_for` names; without it for the one whose deputy they are, if the wait does not admit them; "
    "the reply says for whom. They sign `delegation` and `deputy_for` too.",
    body=AnswerRequest, reply=AnswerReceipt, problems=(404, 409, 410, 422), repeat=Repeat.ONCE)
WITHDRAW_VOTE = Operation(
    "waits.withdraw", "POST /v1/waits/{wait_id}/withdraw", Need.ANSWER,
    "Take one's vote on this wait back.",
    description="Until enough people agree. Answers `{outcome: \"withdrawn\", have, need}`. Without a vote nothing "
    "changes.",
    reply=VoteReceipt, problems=(404, 409, 410, 413, 415), repeat=Repeat.AGAIN)
CLAIM_WAIT = Operation(
    "waits.claim", "POST /v1/waits/{wait_id}/claim", Need.ANSWER,
    "Claim the wait, or renew the claim: no one else can answer it meanwhile. Stores nothing.",
    description="It lasts `expires_in`: 15 minutes unless given, at most 24 h. Answers `{wait_id, claim}`. 409 "
    "`wait_claimed` if someone else has claimed the wait.",
    service="claims.claim", body=ClaimRequest, reply=ClaimReceipt, problems=(404, 409, 410), repeat=Repeat.AGAIN)
RELEASE_WAIT = Operation(
    "waits.release", "POST /v1/waits/{wait_id}/release", Need.ANSWER,
    "End the caller's claim of this wait.",
    description="Without one nothing changes. 409 `wait_claimed` if it is another's.",
    service="claims.release", reply=ClaimReceipt, problems=(404, 409, 410, 413, 415), repeat=Repeat.AGAIN)
ASSIGN_WAIT = Operation(
    "waits.assign", "POST /v1/waits/{wait_id}/assign", Need.ANSWER,
    "Assign this wait to someone, or to no one.",
    description="`assignee` null: to no one. Answers `{wait_id, assignee}`. Stores an entry, `wait.assigned`.",
    service="claims.assign", body=AssignRequest, reply=AssignReceipt, problems=(404, 409, 410), repeat=Repeat.ONCE)
CREATE_LINK = Operation(
    "waits.link", "POST /v1/waits/{wait_id}/links", Need.ANSWER,
    "Make a link by which one person answers this wait. Its URL is shown here and never again.",
    description="Answers 201 with `url`. Without `expires_in` it holds until the wait's deadline, at most 7 days; "
    "a longer `expires_in` is 400, and the wait's deadline ends it all the same.",
    service="links.create", body=AnswerLinkRequest, reply=AnswerLinkReceipt, status=201,
    problems=(404, 409, 422), repeat=Repeat.ONCE)
LIST_LINKS = Operation(
    "waits.links", "GET /v1/waits/{wait_id}/links", Need.READ,
    "List the links of a wait, newest first, revoked and expired ones too.",
    service="links.list", reply=Page[AnswerLinkInfo], problems=(404,))
REVOKE_LINK = Operation(
    "waits.unlink", "DELETE /v1/waits/{wait_id}/links/{link_id}", Need.ANSWER,
    "Revoke a link; its secret opens nothing from now on. Revoking again changes nothing.",
    service="links.revoke", reply=AnswerLinkInfo, problems=(404, 409), repeat=Repeat.ONCE)
SHOW_LINK: Operation[bytes] = Operation(
    "", "GET /v1/links/{secret}", Need.SECRET,
    "Show what the wait asks. Changes nothing.",
    description="The page is for the link's person.",
    tag="waits", reply=PAGE, problems=(404, 429, 503))
ANSWER_BY_LINK: Operation[AnswerReceipt] = Operation(
    "", "POST /v1/links/{secret}", Need.SECRET,
    "Answer the wait on behalf of the link's person: `{\"data\": …}` as JSON, or the page's form.",
    description="After the form 303, back to the page.",
    tag="waits", reply=AnswerReceipt, others={303: "A form was taken; the page says what was recorded"},
    problems=(400, 404, 409, 410, 413, 415, 422, 429, 503), repeat=Repeat.ONCE)
DRY_RUN_ANSWER = Operation(
    "waits.dry_run", "POST /v1/waits/{wait_id}/dry-run", Need.ANSWER,
    "Say what an answer would set off: the ops that the code asks for, up to the first with outside effects.",
    description="Stores nothing and lets nothing out. Answers `{wait_id, session_id, run_id, ops[{run_id, op, "
    "kind, name, data}], ended, result, message}`. The code runs from the journal beside the live "
    "run, to the first step that is not `dry_run_safe`, wait, timer, token or its end, for ten "
    "seconds and a thousand ops at most; `ended` says which. Errors as those of an answer; 429 while "
    "too many are under way.",
    body=AnswerData, reply=DryRun, problems=(404, 409, 410, 422))
PREVIEW_AMEND = Operation(
    "waits.preview_amend", "POST /v1/waits/{wait_id}/amend/preview", Need.READ,
    "Say what giving a resolved wait another answer would do. Changes nothing.",
    description="Answers as a rewind's preview does.",
    service="corrections.preview_amend", body=AmendPreviewRequest, reply=RewindPreview, problems=(404, 409))
AMEND_WAIT = Operation(
    "waits.amend", "POST /v1/waits/{wait_id}/amend", Need.STEER,
    "Give a resolved wait another answer: its run goes back to it and on with that.",
    description="409 `session_changed` with fact `preview` if it would do something else than was shown.",
    service="corrections.amend", body=AmendRequest, reply=RunInfo, problems=(404, 409, 422), repeat=Repeat.ONCE)

# Runs ---------------------------------------------------------------------------------------------

LIST_RUNS = Operation(
    "runs.list", "GET /v1/runs", Need.READ,
    "List runs, newest first.",
    query=RunsQuery, reply=Page[RunInfo])
GET_RUN = Operation(
    "runs.get", "GET /v1/runs/{run_id}", Need.READ,
    "Get a run.",
    description="With result, or error `{code, type, message, traceback}`.",
    reply=RunInfo, problems=(404,))
GET_JOURNAL = Operation(
    "runs.journal", "GET /v1/runs/{run_id}/journal", Need.ADMINISTER,
    "Get everything that a replay of a session's newest run needs, with payloads in the clear.",
    description="`entries {seq, recorded_at, kind, op, body}`, the input `records` that they name, `histories` by "
    "op, the facts of session and run, and `asked_keys`, with which a check compares the arguments of "
    "steps. `helmr check` reads this. 409 `run_not_newest` for an earlier run.",
    reply=RunJournal, problems=(404, 409))
CANCEL_RUN = Operation(
    "runs.cancel", "POST /v1/runs/{run_id}/cancel", Need.STEER,
    "Cancel a run. Cancelling one that has ended changes nothing.",
    description="Its session stays open. 409 `session_changed` if `attempt` is given and it has begun another.",
    body=AttemptRequest, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)
RETRY_RUN = Operation(
    "runs.retry", "POST /v1/runs/{run_id}/retry", Need.STEER,
    "Start the next attempt of a session's newest run, failed or blocked.",
    description="409 `session_changed` if `attempt` is given and is not the attempt that failed or is blocked.",
    body=AttemptRequest, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)
PREVIEW_BULK = Operation(
    "bulk.preview", "POST /v1/bulk/preview", Need.READ,
    "List the newest runs that can be retried, cancelled, closed or pruned, as one batch. Changes nothing.",
    description="Of the sessions in `session_ids`, else of those that `filter` means, a filter as lists on the command "
    "line take it. `verb` is `retry`, `cancel`, `close` or `prune`; close and prune are of the runs' sessions, a prune "
    "of those that have been over for a day. Answers `{id, verb, made_at, end_input, more, runs[{run_id, session_id, "
    "attempt, operation_id, task, status, why}]}`, 1,000 at most. Keep it: the next route is asked to do it, and "
    "to go on with it.",
    body=BulkPreviewRequest, reply=BulkPlan, problems=(404,))
DO_BULK = Operation(
    "bulk.do", "POST /v1/bulk", Need.STEER,
    "Retry, cancel, close or prune the runs of a batch, each as it was shown.",
    description="Each run is one operation under its own `operation_id`, at the `attempt` that was seen: the same call "
    "again does none twice, and one that has changed is skipped. Answers `{items[{run_id, session_id, progress, "
    "detail, error}]}` in order; `progress` is `accepted`, `skipped`, `failed` or `stopped` (not done: ask again), or "
    "`unknown`. A prune takes all of its runs in one call, needs the role admin, and leaves families whole.",
    body=BulkRequest, reply=BulkReport, repeat=Repeat.ONCE)
PREVIEW_REWIND = Operation(
    "runs.preview_rewind", "POST /v1/runs/{run_id}/rewind/preview", Need.READ,
    "Say what taking a session's newest run back to an op would do. Changes nothing.",
    description="Back to `to_op`, or to the op of `wait_id`. Answers `{session_id, run_id, keep_answers, "
    "keep_children, hash, to_op, set_aside, steps[{op, name, step_key, new_key, state, at}], "
    "kept[{wait_id, stream, record_seq}], asked_again[{op, wait_id, stream, subject}], tokens, "
    "public_tokens, children, outputs[{op, stream, seq}], amends}`.",
    service="corrections.preview_rewind", body=RewindPreviewRequest, reply=RewindPreview, problems=(404, 409))
REWIND_RUN = Operation(
    "runs.rewind", "POST /v1/runs/{run_id}/rewind", Need.STEER,
    "Take a session's newest run back to an op, as its preview said.",
    description="409 `session_changed` with fact `preview` if it would do something else than the preview said.",
    service="corrections.rewind", body=RewindRequest, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)

# fmt: on
