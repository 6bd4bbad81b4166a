"""The table of operations: everything that the runtime's API does, a row each.

A row is all that the router, the OpenAPI document, the table of roles and the clients know of a route. To add one,
write a row here and a method of the service at its `call`; `tests/http` and `tests/contract` walk the table.
"""

from __future__ import annotations

from typing import Any, Final

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
    ApiKeyInfo,
    ApiKeyReceipt,
    ApiKeyRequest,
    AssignReceipt,
    AssignRequest,
    ClaimReceipt,
    ClaimRequest,
    CloseRequest,
    CompleteReceipt,
    CompleteRequest,
    CopyPage,
    CopyQuery,
    DisableRequest,
    DryRun,
    EntryInfo,
    FileKeyInfo,
    FollowQuery,
    ForkRequest,
    GatedCallInfo,
    GatedCallRequest,
    GatedOutcomeRequest,
    GateQuery,
    GateReceipt,
    GrantInfo,
    GrantRequest,
    Health,
    ListQuery,
    NoFields,
    NoteReceipt,
    NoteRequest,
    NoticeRetryReceipt,
    NoticeTargetInfo,
    NoticeTestReceipt,
    OutputQuery,
    Page,
    PersonInfo,
    PruneReceipt,
    PruneRequest,
    PublicTokenInfo,
    PublicTokenReceipt,
    PublicTokenRequest,
    QueryAnswer,
    QueryRequest,
    RecordInfo,
    RevokeKeyRequest,
    RewindPreview,
    RewindPreviewRequest,
    RewindRequest,
    RunInfo,
    RunJournal,
    RunRequest,
    RunsQuery,
    SaidOutcomeRequest,
    ScheduleInfo,
    ScheduleReceipt,
    ScheduleRequest,
    SendReceipt,
    SendRequest,
    SessionInfo,
    SessionsQuery,
    SigningKeyRequest,
    SignInInfo,
    StartReceipt,
    StartRequest,
    StreamInfo,
    TaskInfo,
    TokenInfo,
    TokenReceipt,
    TokenRequest,
    TokensQuery,
    VoteReceipt,
    WaitInfo,
    WaitsQuery,
    WhoAmI,
)
from helmr.operation import EVENTS, PAGE, TEXT, Media, Operation, Repeat
from helmr.query import ARROW_MEDIA_TYPE
from helmr.roles import Need, Owner, ScopeType

JSONL = "application/jsonl"
ARROW = Media(ARROW_MEDIA_TYPE)

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
    query=SessionsQuery, reply=Page[SessionInfo], leaves_out=("wait.body", "wait.json_schema"))
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
    description="409 `run_active` if a run is active, unless the run waits for input and `end_input` is true.",
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
    "default, else the deadline. Without `body`, `schema`, `initial`, `on_decline` and `answer`. "
    "`tag` is the wait's or its session's; `resolved_since` is a time with its zone: over then or "
    "later. A wait whose stored entry can't be read says why in `problem`, as in the lists of sessions "
    "(their `wait`), runs and tokens. A wait on a token that has ended is not among the pending ones, "
    "although its session learns of that a moment later. A wait on a token has the token's `subject`, "
    "`body` and expiry (as `deadline_at`) where it has none of its own.",
    query=WaitsQuery, reply=Page[WaitInfo],
    leaves_out=("body", "json_schema", "initial", "on_decline", "votes", "answer"))
GET_WAIT = Operation(
    "waits.get", "GET /v1/waits/{wait_id}", Need.READ,
    "Get a wait in full, with the JSON Schema that its answer must fit.",
    description="`body` has up to 1 MiB; `initial` is what a form starts with. Once the wait is fulfilled it has "
    "the `answer`. Once its token has ended, `resolving` says how, and `resolved_at`, `resolved_by` and `answer` are "
    "the token's. `status` follows when its session decides, perhaps otherwise: if the deadline came first, it is "
    "`timed_out`.",
    service="waits.shown", reply=WaitInfo, problems=(404,))
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
    "the person, over RFC 8785 JSON of `data`, `person`, `question_hash` and `wait_id`.",
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
    description="Its session stays open.",
    body=NoFields, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)
RETRY_RUN = Operation(
    "runs.retry", "POST /v1/runs/{run_id}/retry", Need.STEER,
    "Start the next attempt of a session's newest run, failed or blocked.",
    body=NoFields, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)
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

# Schedules ----------------------------------------------------------------------------------------

CREATE_SCHEDULE = Operation(
    "schedules.create", "POST /v1/schedules", Need.ADMINISTER,
    "Make a schedule, which starts sessions of a task by the clock. Its due times count from now.",
    description="`every` is seconds or `\"15m\"`.",
    body=ScheduleRequest, reply=ScheduleInfo, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE)
LIST_SCHEDULES = Operation(
    "schedules.list", "GET /v1/schedules", Need.READ,
    "List schedules by name, those that code declares and those made by a call.",
    description="With `status` (`active`, `paused`, `gone`), `next_due_at`, `last_outcome`.",
    query=ListQuery, reply=Page[ScheduleInfo])
GET_SCHEDULE = Operation(
    "schedules.get", "GET /v1/schedules/{schedule}", Need.READ, "Get a schedule.",
    reply=ScheduleInfo, problems=(404,))
PAUSE_SCHEDULE = Operation(
    "schedules.pause", "POST /v1/schedules/{schedule}/pause", Need.STEER,
    "Pause a schedule. Pausing again changes nothing.",
    body=NoFields, reply=ScheduleInfo, problems=(404, 409), repeat=Repeat.ONCE)
RESUME_SCHEDULE = Operation(
    "schedules.resume", "POST /v1/schedules/{schedule}/resume", Need.STEER,
    "Resume a paused schedule; due times during the pause do not count as missed.",
    body=NoFields, reply=ScheduleInfo, problems=(404, 409), repeat=Repeat.ONCE)
RUN_SCHEDULE = Operation(
    "schedules.run", "POST /v1/schedules/{schedule}/run", Need.STEER,
    "Start a session now, as the schedule does. Its due times stay as they are.",
    description="Answers 201 `{session, run, created}`; 409 `run_active` if its last session is still active, "
    "unless the schedule allows overlap.",
    body=NoFields, reply=StartReceipt, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE)
DELETE_SCHEDULE = Operation(
    "schedules.delete", "DELETE /v1/schedules/{schedule}", Need.ADMINISTER,
    "Delete a schedule that no code declares; the sessions that it started stay.",
    description="Answers `{name}`; 409 if code declares it.",
    reply=ScheduleReceipt, problems=(404, 409), repeat=Repeat.ONCE)

# Notices ------------------------------------------------------------------------------------------

LIST_NOTICE_TARGETS = Operation(
    "notices.list", "GET /v1/notices", Need.READ,
    "List the notice targets of the runtime's configuration, and how far each is. All are on one page.",
    description="With `offset`, `behind`, `queued`, `late`, `given_up`, `failing_since`, `last_error`, "
    "`last_taken_at`.",
    reply=Page[NoticeTargetInfo], problems=(400,))
TELL_NOTICE_TARGET_A_TEST = Operation(
    "notices.test", "POST /v1/notices/{target}/test", Need.STEER,
    "Send a test notice to a target, and say whether it took the notice. A repeated call sends another.",
    description="Answers `{target, taken, error}`.",
    body=NoFields, reply=NoticeTestReceipt, problems=(404, 409), repeat=Repeat.AGAIN)
RETRY_NOTICE_TARGET = Operation(
    "notices.retry", "POST /v1/notices/{target}/retry", Need.STEER,
    "Send now the notices that a target has not taken, late ones too.",
    description="Answers `{target, count}`.",
    body=NoFields, reply=NoticeRetryReceipt, problems=(404, 409), repeat=Repeat.AGAIN)

# Tokens -------------------------------------------------------------------------------------------

CREATE_TOKEN = Operation(
    "tokens.create", "POST /v1/tokens", Need.DELEGATE,
    "Make a token. Its callback URL and public token are shown here and never again.",
    description="Answers 201 with `callback_url` and `public_access_token`. `timeout` is a duration, `\"7d\"`; "
    "`verify` is `{scheme, secret, tolerance_s}`; `escalation` holds the escalation steps `{do, "
    "after_s, from, to, value}` for waits on it.",
    body=TokenRequest, reply=TokenReceipt, status=201, problems=(409, 422), repeat=Repeat.ONCE)
LIST_TOKENS = Operation(
    "tokens.list", "GET /v1/tokens", Need.READ,
    "List tokens, newest first.",
    description="Without texts, schema and data.",
    query=TokensQuery, reply=Page[TokenInfo], leaves_out=("body", "json_schema", "initial", "data"))
GET_TOKEN = Operation(
    "tokens.get", "GET /v1/tokens/{token_id}", Need.READ,
    "Get a token in full, with its data once it is completed.",
    reply=TokenInfo, problems=(404,))
COMPLETE_TOKEN = Operation(
    "tokens.complete", "POST /v1/tokens/{token_id}/complete", Need.COMPLETE,
    "Complete a token. The first completion wins; a later one gets 409 with the winner.",
    description="`data` may be null. Answers `{token_id, outcome, completed_at}`; the same data again is "
    "`already_completed`, other data 409 `token_completed` with the winner.",
    scope=ScopeType.TOKEN_COMPLETE, body=CompleteRequest, reply=CompleteReceipt,
    problems=(404, 409, 410, 422), repeat=Repeat.ONCE)
CANCEL_TOKEN = Operation(
    "tokens.cancel", "POST /v1/tokens/{token_id}/cancel", Need.STEER,
    "Cancel a token and the waits on it. Cancelling again changes nothing.",
    body=NoFields, reply=TokenInfo, problems=(404, 409, 410), repeat=Repeat.ONCE)
SHOW_CALLBACK: Operation[bytes] = Operation(
    "", "GET /v1/callbacks/{secret}", Need.SECRET,
    "Show the page behind an emailed link. Changes nothing.",
    tag="callbacks", reply=PAGE, problems=(404, 429, 503))
COMPLETE_BY_CALLBACK = Operation(
    "", "POST /v1/callbacks/{secret}", Need.SECRET,
    "Complete the token: `{\"data\": …}` as JSON, `?raw=1` for raw tokens, or the page's form.",
    description="With `?raw=1` any JSON or form completes it, if the token takes raw bodies. The page's "
    "form gets 303, back to the page.",
    tag="callbacks", reply=CompleteReceipt, others={303: "A form was taken; the page says what was recorded"},
    problems=(400, 404, 409, 410, 413, 415, 422, 429, 503), repeat=Repeat.ONCE)

# Public tokens and keys ---------------------------------------------------------------------------

CREATE_PUBLIC_TOKEN = Operation(
    "auth.create_public_token", "POST /v1/public-tokens", Need.DELEGATE,
    "Make a public token for what the key may do itself. Its secret is shown here and never again.",
    description="Answers 201 with `public_access_token`. `scope` is `{type, session, stream, token, "
    "correlation_id}`; types are `session.input.send`, `session.output.read`, `token.complete`. "
    "`expires_in` is a duration, `\"30d\"`.",
    service="public_tokens.create", body=PublicTokenRequest, reply=PublicTokenReceipt, status=201,
    problems=(404, 409), repeat=Repeat.ONCE)
LIST_PUBLIC_TOKENS = Operation(
    "auth.list", "GET /v1/public-tokens", Need.READ,
    "List public tokens, newest first, with the uses they have left.",
    description="With `uses_left` and `last_used_at`. Answer links are listed with them, as `wait.answer`.",
    service="public_tokens.list", query=ListQuery, reply=Page[PublicTokenInfo])
REVOKE_PUBLIC_TOKEN = Operation(
    "auth.revoke", "DELETE /v1/public-tokens/{public_token_id}", Need.DELEGATE,
    "Revoke a public token that the same key has made; the role admin revokes any. Revoking again changes nothing.",
    service="public_tokens.revoke", owner=Owner.OWN, reply=PublicTokenInfo, problems=(404, 409), repeat=Repeat.ONCE)
CREATE_API_KEY = Operation(
    "keys.create", "POST /v1/api-keys", Need.ADMINISTER, "Make an API key. Its secret is shown here and never again.",
    description="`role` is admin, operator, sender, viewer or asker. With `person` in its place the key is that "
    "person's: they may do by it what they may. `expires_in` is a duration. Answers 201 with `secret`.",
    service="api_keys.create", body=ApiKeyRequest, reply=ApiKeyReceipt, status=201, problems=(404, 409),
    repeat=Repeat.ONCE)
LIST_API_KEYS = Operation(
    "keys.list", "GET /v1/api-keys", Need.ADMINISTER, "List API keys, newest first.",
    service="api_keys.list", query=ListQuery, reply=Page[ApiKeyInfo])
REVOKE_API_KEY = Operation(
    "keys.revoke", "DELETE /v1/api-keys/{key_id}", Need.ADMINISTER,
    "Revoke an API key. Revoking again changes nothing.",
    service="api_keys.revoke", reply=ApiKeyInfo, problems=(404, 409), repeat=Repeat.ONCE)
LIST_FILE_KEYS = Operation(
    "keys.public", "GET /v1/file-keys", Need.READ,
    "List the public keys that verify this runtime's session files, the newest first.",
    description="Each is `{id, key}`.",
    service="session_files.keys", reply=Page[FileKeyInfo])

# People -------------------------------------------------------------------------------------------

WHO_AM_I = Operation(
    "people.whoami", "GET /v1/whoami", Need.IDENTIFY, "Say who the caller is, and what they may do.",
    description="Answers `{principal, role, person, groups_at, expires_at}`; `person` is null for a service's key.",
    reply=WhoAmI)
HOW_TO_SIGN_IN = Operation(
    "people.sign_in", "GET /v1/sign-in", Need.NOTHING,
    "Say where people sign in: the OpenID Connect issuer, and the client id.",
    description="Send an ID token of that issuer as you send a key: `Authorization: Bearer …`.",
    service="sign_ins.info", reply=SignInInfo)
LIST_PEOPLE = Operation(
    "people.list", "GET /v1/people", Need.READ,
    "List people by id: those of the runtime's configuration, and others who have signed in or are disabled.",
    query=ListQuery, reply=Page[PersonInfo])
GET_PERSON = Operation(
    "people.get", "GET /v1/people/{person}", Need.READ, "Get a person, by id or e-mail.",
    reply=PersonInfo, problems=(404,))
DISABLE_PERSON = Operation(
    "people.disable", "POST /v1/people/{person}/disable", Need.ADMINISTER,
    "Let a person act no more. Their keys and answer links end at once, their claims and assignments are given back.",
    description="Disabling again gives back what they have got meanwhile.",
    body=DisableRequest, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)
ENABLE_PERSON = Operation(
    "people.enable", "POST /v1/people/{person}/enable", Need.ADMINISTER,
    "Let a person act again. What disabling ended stays ended.",
    body=NoFields, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)
UNBIND_PERSON = Operation(
    "people.unbind", "POST /v1/people/{person}/unbind", Need.ADMINISTER,
    "Forget the account with which a person has signed in; the next sign-in with their e-mail binds the new one.",
    body=NoFields, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)

ADD_SIGNING_KEY = Operation(
    "people.add_key", "POST /v1/people/{person}/keys", Need.ADMINISTER,
    "Register a public SSH key that signs a person's answers.",
    description="`key` is the line of a `.pub` file. A key that is another person's, or was revoked, is 409.",
    body=SigningKeyRequest, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)
REVOKE_SIGNING_KEY = Operation(
    "people.revoke_key", "POST /v1/people/{person}/keys/revoke", Need.ADMINISTER,
    "Revoke a key that signs a person's answers, by its fingerprint. What it has signed stays signed.",
    body=RevokeKeyRequest, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)

# Pages for people ---------------------------------------------------------------------------------

SHOW_SIGN_IN: Operation[bytes] = Operation(
    "", "GET /sign-in", Need.NOTHING, "Show the page where a person signs in, or who is signed in.",
    description="`?next=` is a page of this runtime to come back to. 404 where the runtime knows no people.",
    tag="pages", reply=PAGE, problems=(404, 429))
SIGN_IN_AT_ISSUER: Operation[bytes] = Operation(
    "", "GET /sign-in/issuer", Need.NOTHING, "Send the browser to the issuer, with state, nonce and PKCE challenge.",
    tag="pages", reply=PAGE, others={303: "To the issuer"}, problems=(404, 429, 503))
FINISH_SIGN_IN: Operation[bytes] = Operation(
    "", "GET /sign-in/callback", Need.NOTHING,
    "Take the issuer's answer from the browser that asked, and set its cookie.",
    description="`?code=`, `?state=`, `?iss=`. The redirect URI to register with the issuer.",
    tag="pages", reply=PAGE, others={303: "Signed in; back to where the person came from"},
    problems=(401, 404, 409, 429, 503))
SIGN_IN_BY_KEY: Operation[bytes] = Operation(
    "", "POST /sign-in", Need.NOTHING, "Take the sign-in page's form with a personal key, and set a cookie.",
    tag="pages", reply=PAGE, others={303: "Signed in; back to where the person came from"},
    problems=(400, 401, 404, 409, 413, 415, 429, 503), repeat=Repeat.AGAIN)
SIGN_OUT: Operation[bytes] = Operation(
    "", "POST /sign-out", Need.NOTHING, "Take a page's form that signs out: the cookie opens nothing from now on.",
    tag="pages", reply=PAGE, others={303: "Signed out; to the page where people sign in"},
    problems=(400, 413, 415, 429), repeat=Repeat.AGAIN)

SHOW_INBOX: Operation[bytes] = Operation(
    "", "GET /inbox", Need.PAGE, "Show what waits for the person who is signed in, soonest end first.",
    description="`?show=` is `open`, `mine`, `voted` or `answered`; `?task=`, `?priority=`, `?tag=` and `?cursor=` as "
    "in the list of waits. Without a sign-in 303 to `/sign-in`.",
    tag="pages", reply=PAGE, others={303: "To the page where people sign in"}, problems=(400, 401, 429, 503))
FOLLOW_INBOX: Operation[bytes] = Operation(
    "", "GET /inbox/events", Need.PAGE,
    "Send word, `changed`, when something of the inbox may have changed. Says no more than that.",
    tag="pages", reply=EVENTS, problems=(401, 429, 503))
SHOW_INBOX_WAIT: Operation[bytes] = Operation(
    "", "GET /inbox/{wait_id}", Need.PAGE,
    "Show a wait that the person may answer or has answered, with its form or how it ended.",
    tag="pages", reply=PAGE, others={303: "To the page where people sign in"}, problems=(401, 404, 429, 503))
ANSWER_INBOX_WAIT: Operation[bytes] = Operation(
    "", "POST /inbox/{wait_id}", Need.PAGE,
    "Take the form of that page: the person's answer, or their vote taken back.",
    description="After the form 303, back to the page.",
    tag="pages", reply=PAGE, others={303: "A form was taken, or a sign-in is needed"},
    problems=(400, 401, 404, 409, 410, 413, 415, 422, 429, 503), repeat=Repeat.AGAIN)

# The gate -----------------------------------------------------------------------------------------

GATE_CLAUDE_CODE = Operation(
    "", "POST /v1/gate/claude-code", Need.ASK,
    "Take an event of a Claude Code hook; if the hook asks, answer with the decision in its form.",
    description="The call waits until a person or a rule has decided, at most until 10 s before `timeout_s`. `mode` "
    "headless always gets a decision; interactive gets `{}` if there is none, and the client shows its own prompt.",
    tag="gate", query=GateQuery, reply=dict[str, Any], problems=(400, 409, 413), repeat=Repeat.AGAIN)
ASK_GATED_CALL = Operation(
    "", "POST /v1/gate/calls", Need.ASK, "Ask whether an agent may make a call that has no id.",
    description="The call waits for `hold_s` at most; then it answers `pending`. Ask about the same call again to "
    "get the decision, once, within an hour. A request repeated under its operation id gets the same decision.",
    tag="gate", body=GatedCallRequest, reply=GateReceipt, problems=(404,), repeat=Repeat.AGAIN)
REPORT_GATED_CALL = Operation(
    "", "POST /v1/gate/calls/{session_id}/outcome", Need.ASK,
    "Report how an allowed call ended; the first report counts.",
    tag="gate", service="gate.report", owner=Owner.OWN, body=GatedOutcomeRequest, reply=GatedCallInfo, problems=(404,),
    repeat=Repeat.AGAIN)
GET_GATED_CALL = Operation(
    "", "GET /v1/gate/calls/{session_id}", Need.ASK,
    "Get a call that the same key has asked about; the role admin gets any.",
    tag="gate", service="gate.get", owner=Owner.OWN, reply=GatedCallInfo, problems=(404,))
WITHDRAW_GATED_CALL = Operation(
    "", "POST /v1/gate/calls/{session_id}/withdraw", Need.ASK,
    "Stop asking about a call that the same key has asked about; the role admin may stop any.",
    description="A decided call stays as it is. Withdrawing again changes nothing.",
    tag="gate", service="gate.withdraw", owner=Owner.OWN, body=NoFields, reply=GatedCallInfo, problems=(404,),
    repeat=Repeat.AGAIN)

LIST_UNKNOWN_OUTCOMES = Operation(
    "", "GET /v1/gate/unknown", Need.READ, "List approved calls of agents of which no one knows what became.",
    description="Newest first. A page may have fewer calls than asked for.",
    tag="gate", service="outcomes.unknown", query=ListQuery, reply=Page[GatedCallInfo])
SAY_OUTCOME = Operation(
    "", "POST /v1/gate/calls/{session_id}/said-outcome", Need.ANSWER,
    "Say what became of an approved call, as far as a person has found out; the first word counts.",
    tag="gate", service="outcomes.say", body=SaidOutcomeRequest, reply=GatedCallInfo, problems=(404, 409),
    repeat=Repeat.AGAIN)
LIST_GRANTS = Operation(
    "grants.list", "GET /v1/gate/grants", Need.READ, "List standing grants, newest first, those that are over too.",
    tag="gate", query=ListQuery, reply=Page[GrantInfo])
GET_GRANT = Operation(
    "grants.get", "GET /v1/gate/grants/{grant_id}", Need.READ, "Get a standing grant.",
    tag="gate", reply=GrantInfo, problems=(404,))
CREATE_GRANT = Operation(
    "grants.create", "POST /v1/gate/grants", Need.ANSWER,
    "Allow an agent's calls of one tool for a while: those of the same session, client and key as the call named.",
    description="`matches` narrows it by globs for arguments; null takes those of the call. An answer to the call is "
    "another operation: a grant answers none. Rules that deny come first.",
    tag="gate", body=GrantRequest, reply=GrantInfo, status=201, problems=(404, 409), repeat=Repeat.ONCE)
REVOKE_GRANT = Operation(
    "grants.revoke", "DELETE /v1/gate/grants/{grant_id}", Need.ANSWER,
    "Revoke a standing grant; the agent's next call is asked about. Revoking again changes nothing.",
    tag="gate", reply=GrantInfo, problems=(404, 409), repeat=Repeat.ONCE)

# What the runtime knows ---------------------------------------------------------------------------

LIST_TASKS = Operation(
    "tasks.list", "GET /v1/tasks", Need.READ,
    "List the tasks, with the JSON Schemas of their payloads and results, by id.",
    service="catalog.tasks", query=ListQuery, reply=Page[TaskInfo])
LIST_STREAMS = Operation(
    "streams.list", "GET /v1/streams", Need.READ, "List the streams, with their JSON Schemas, by name.",
    service="catalog.streams", query=ListQuery, reply=Page[StreamInfo])
RUN_QUERY = Operation(
    "query", "POST /v1/query", Need.QUERY,
    "Run one SELECT over the views `sessions, runs, waits, records, entries, tokens`.",
    description="Answers `{columns: [{name, type}], rows: [[…]], truncated, elapsed_s}`.",
    body=QueryRequest, reply=QueryAnswer, also=ARROW, problems=(422,))

# The whole ledger ---------------------------------------------------------------------------------

READ_BACKUP: Operation[bytes] = Operation(
    "backup", "GET /v1/backup", Need.ADMINISTER,
    "Copy the ledger at the feed offset that it has now, for `helmr restore`; the master keys are not in it.",
    description="Answers `application/jsonl`.",
    service="backups.stream",
    reply=Media(JSONL, "A backup: JSON lines, the last a check of the whole", "helmr.backup"))
READ_LEDGER_ENTRIES = Operation(
    "copy", "GET /v1/ledger/entries", Need.ADMINISTER,
    "Read what a follower of the ledger lacks: entries as they are stored, in feed order, and their checkpoints.",
    description="Answers `{through, head, pruned_offset, openings, encrypts, generation, rows}`, rows as in a "
    "backup without their checks. Waits at most `wait_s` (≤ 20) for the first. 409 `ledger_diverged` "
    "if the follower's last entry is not this ledger's.",
    service="copies.page", query=CopyQuery, reply=CopyPage, problems=(409,))
PRUNE_SESSIONS = Operation(
    "prune", "POST /v1/prune", Need.ADMINISTER,
    "Remove sessions that are over and old enough, a page of them; repeat it until `is_last`.",
    description="Answers `{sessions, entries, is_last, archive}`. `dry_run` removes nothing and counts all. 503 "
    "while a backup is being read.",
    service="copies.prune", body=PruneRequest, reply=PruneReceipt, repeat=Repeat.ONCE)

# Other protocols, and probes ----------------------------------------------------------------------

SPEAK_MCP = Operation(
    "", "POST /mcp", Need.TOOLS,
    "One message of the Model Context Protocol: a JSON-RPC request of revision 2026-07-28, or of an earlier one.",
    description="Tasks are tools. Needs the extra `mcp`. A message that is not strict JSON is JSON-RPC's -32700; "
    "the right of each tool is asked for when it is called.",
    tag="mcp", reply=dict[str, Any], problems=(400, 404, 413, 415), repeat=Repeat.AGAIN)
OPENAPI_DOCUMENT = Operation(
    "", "GET /v1/openapi.json", Need.NOTHING, "This API as an OpenAPI document.",
    tag="health", reply=dict[str, Any], is_documented=False)
HEALTHZ: Operation[bytes] = Operation(
    "", "GET /healthz", Need.NOTHING, "The gateway answers.",
    tag="health", reply=TEXT)
READYZ = Operation(
    "health", "GET /readyz", Need.NOTHING, "Whether sessions can be started and answered. With a key it tells more.",
    description="200 when sessions can be started and answered, else 503 with the reasons.",
    reply=Health, others={503: "Not ready; says why"})
READ_METRICS: Operation[bytes] = Operation(
    "", "GET /metrics", Need.READ, "Numbers in the Prometheus text format.",
    tag="health", reply=TEXT)

# fmt: on


def _named(constants: dict[str, Any]) -> tuple[Operation[Any], ...]:
    """The rows in order, each under its constant's name in lower case."""
    rows = []
    for constant, value in constants.items():
        if isinstance(value, Operation):
            object.__setattr__(value, "name", constant.lower())
            rows.append(value)
    return tuple(rows)


OPERATIONS: Final = _named(dict(globals()))
"""All of them, in the order of the docs."""

_BY_NAME = {row.name: row for row in OPERATIONS}


def operation(name: str) -> Operation[Any]:
    """The row of that name, `answer_wait`.

    Raises:
        KeyError: There is none.
    """
    return _BY_NAME[name]
