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
    DryRun,
    EntryInfo,
    FileKeyInfo,
    FollowQuery,
    ForkRequest,
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
    PruneReceipt,
    PruneRequest,
    PublicTokenInfo,
    PublicTokenReceipt,
    PublicTokenRequest,
    QueryAnswer,
    QueryRequest,
    RecordInfo,
    RewindPreview,
    RewindPreviewRequest,
    RewindRequest,
    RunInfo,
    RunJournal,
    RunRequest,
    RunsQuery,
    ScheduleInfo,
    ScheduleReceipt,
    ScheduleRequest,
    SendReceipt,
    SendRequest,
    SessionInfo,
    SessionsQuery,
    StartReceipt,
    StartRequest,
    StreamInfo,
    TaskInfo,
    TokenAnswerReceipt,
    TokenInfo,
    TokenReceipt,
    TokenRequest,
    TokensQuery,
    WaitInfo,
    WaitsQuery,
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
    description="The id of an open session, or an idempotency key, with the same task and payload returns "
    "that session. With `result_timeout_s` the answer comes when the run waits, is blocked or "
    "has ended.",
    body=StartRequest, reply=StartReceipt, status=201, others={200: "It existed already"},
    problems=(404, 409, 422), repeat=Repeat.ONCE)
LIST_SESSIONS = Operation(
    "sessions.list", "GET /v1/sessions", Need.READ,
    "List sessions, newest first.",
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
    service="session_files.export",
    reply=Media(JSONL, "A session file: JSON lines, the last a signature", "{session_id}.jsonl"),
    problems=(404,))
LIST_SESSION_RUNS = Operation(
    "sessions.runs", "GET /v1/sessions/{session_id}/runs", Need.READ,
    "List a session's runs, newest first.",
    query=ListQuery, reply=Page[RunInfo], problems=(404,))
START_RUN = Operation(
    "sessions.run", "POST /v1/sessions/{session_id}/runs", Need.STEER,
    "Start the next run of an open, idle session; without a payload with the newest run's.",
    body=RunRequest, reply=RunInfo, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE)
CLOSE_SESSION = Operation(
    "sessions.close", "POST /v1/sessions/{session_id}/close", Need.STEER,
    "Close a session; with `end_input` also while its run waits for input.",
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
    "Start a session that begins with another's past up to an op.",
    service="corrections.fork", body=ForkRequest, reply=StartReceipt, status=201,
    problems=(404, 409, 422), repeat=Repeat.ONCE)

# Streams of a session, and what can be followed ---------------------------------------------------

SEND_INPUT = Operation(
    "sessions.send", "POST /v1/sessions/{session_id}/inputs/{stream}", Need.SEND,
    "Send a record; the receipt says what it did.",
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
    "It ends when the session is over; a follower that comes back then gets 204 and stops. With `chunks=true` "
    "the events `chunk` and `chunks.end` come beside the records: what the code emits from now on, which is not "
    "stored.",
    tag="streams", scope=ScopeType.SESSION_OUTPUT_READ, query=OutputQuery, reply=Page[RecordInfo],
    also=EVENTS, others={204: "Of an event stream: the session is over, and no record follows"},
    problems=(404,))
FOLLOW_SESSION: Operation[bytes] = Operation(
    "sessions.follow", "GET /v1/sessions/{session_id}/events", Need.READ,
    "Follow a session's entries.",
    tag="streams", query=FollowQuery, reply=EVENTS, problems=(404,))
FOLLOW_ALL: Operation[bytes] = Operation(
    "events.follow", "GET /v1/events", Need.READ,
    "Follow the entries of all sessions.",
    tag="streams", query=FollowQuery, reply=EVENTS)

# Waits: the inbox ---------------------------------------------------------------------------------

LIST_WAITS = Operation(
    "waits.list", "GET /v1/waits", Need.READ,
    "List waits: soonest end first, none last, then by id.",
    description="Pending ones for input or a token, unless asked.",
    query=WaitsQuery, reply=Page[WaitInfo],
    leaves_out=("body", "json_schema", "initial", "on_decline", "answer"))
GET_WAIT = Operation(
    "waits.get", "GET /v1/waits/{wait_id}", Need.READ,
    "Get a wait in full, with the JSON Schema that its answer must fit.",
    reply=WaitInfo, problems=(404,))
ANSWER_WAIT: Operation[SendReceipt | TokenAnswerReceipt] = Operation(
    "waits.answer", "POST /v1/waits/{wait_id}/answer", Need.ANSWER,
    "Answer exactly this wait; if it is over, say who ended it, when and with what.",
    body=AnswerRequest, reply=SendReceipt | TokenAnswerReceipt, problems=(404, 409, 410, 422),
    repeat=Repeat.ONCE)
CLAIM_WAIT = Operation(
    "waits.claim", "POST /v1/waits/{wait_id}/claim", Need.ANSWER,
    "Say that the caller is at this wait, or renew that: others don't answer it meanwhile. Stores nothing.",
    service="claims.claim", body=ClaimRequest, reply=ClaimReceipt, problems=(404, 409, 410),
    repeat=Repeat.AGAIN)
RELEASE_WAIT = Operation(
    "waits.release", "POST /v1/waits/{wait_id}/release", Need.ANSWER,
    "End the caller's claim of this wait.",
    service="claims.release", reply=ClaimReceipt, problems=(404, 409, 410, 413, 415),
    repeat=Repeat.AGAIN)
ASSIGN_WAIT = Operation(
    "waits.assign", "POST /v1/waits/{wait_id}/assign", Need.ANSWER,
    "Say whom this wait concerns from now on.",
    service="claims.assign", body=AssignRequest, reply=AssignReceipt, problems=(404, 409, 410),
    repeat=Repeat.ONCE)
CREATE_LINK = Operation(
    "waits.link", "POST /v1/waits/{wait_id}/links", Need.ANSWER,
    "Make a link by which one person answers this wait. Its URL is shown here and never again.",
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
    tag="waits", reply=PAGE, problems=(404, 429, 503))
ANSWER_BY_LINK: Operation[SendReceipt | TokenAnswerReceipt] = Operation(
    "", "POST /v1/links/{secret}", Need.SECRET,
    "Answer the wait on behalf of the link's person: `{\"data\": …}` as JSON, or the page's form.",
    tag="waits", reply=SendReceipt | TokenAnswerReceipt,
    others={303: "A form was taken; the page says what was recorded"},
    problems=(400, 404, 409, 410, 413, 415, 422, 429, 503), repeat=Repeat.ONCE)
DRY_RUN_ANSWER = Operation(
    "waits.dry_run", "POST /v1/waits/{wait_id}/dry-run", Need.ANSWER,
    "Say what an answer would set off: the ops that the code asks for, to the first that touches the world.",
    description="Stores nothing and lets nothing out.",
    body=AnswerData, reply=DryRun, problems=(404, 409, 410, 422))
PREVIEW_AMEND = Operation(
    "waits.preview_amend", "POST /v1/waits/{wait_id}/amend/preview", Need.READ,
    "Say what giving a resolved wait another answer would do. Changes nothing.",
    service="corrections.preview_amend", body=AmendPreviewRequest, reply=RewindPreview,
    problems=(404, 409))
AMEND_WAIT = Operation(
    "waits.amend", "POST /v1/waits/{wait_id}/amend", Need.STEER,
    "Give a resolved wait another answer: its run goes back to it and on with that.",
    service="corrections.amend", body=AmendRequest, reply=RunInfo, problems=(404, 409, 422),
    repeat=Repeat.ONCE)

# Runs ---------------------------------------------------------------------------------------------

LIST_RUNS = Operation(
    "runs.list", "GET /v1/runs", Need.READ,
    "List runs, newest first.",
    query=RunsQuery, reply=Page[RunInfo])
GET_RUN = Operation(
    "runs.get", "GET /v1/runs/{run_id}", Need.READ,
    "Get a run.",
    reply=RunInfo, problems=(404,))
GET_JOURNAL = Operation(
    "runs.journal", "GET /v1/runs/{run_id}/journal", Need.ADMINISTER,
    "Get all that a replay of a session's newest run follows, payloads in the clear.",
    reply=RunJournal, problems=(404, 409))
CANCEL_RUN = Operation(
    "runs.cancel", "POST /v1/runs/{run_id}/cancel", Need.STEER,
    "Cancel a run. Cancelling one that has ended changes nothing.",
    body=NoFields, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)
RETRY_RUN = Operation(
    "runs.retry", "POST /v1/runs/{run_id}/retry", Need.STEER,
    "Start the next attempt of a session's newest run, failed or blocked.",
    body=NoFields, reply=RunInfo, problems=(404, 409), repeat=Repeat.ONCE)
PREVIEW_REWIND = Operation(
    "runs.preview_rewind", "POST /v1/runs/{run_id}/rewind/preview", Need.READ,
    "Say what taking a session's newest run back to an op would do. Changes nothing.",
    service="corrections.preview_rewind", body=RewindPreviewRequest, reply=RewindPreview,
    problems=(404, 409))
REWIND_RUN = Operation(
    "runs.rewind", "POST /v1/runs/{run_id}/rewind", Need.STEER,
    "Take a session's newest run back to an op, as its preview said.",
    service="corrections.rewind", body=RewindRequest, reply=RunInfo, problems=(404, 409),
    repeat=Repeat.ONCE)

# Schedules ----------------------------------------------------------------------------------------

CREATE_SCHEDULE = Operation(
    "schedules.create", "POST /v1/schedules", Need.ADMINISTER,
    "Make a schedule, which starts sessions of a task by the clock. Its due times count from now.",
    body=ScheduleRequest, reply=ScheduleInfo, status=201, problems=(404, 409, 422),
    repeat=Repeat.ONCE)
LIST_SCHEDULES = Operation(
    "schedules.list", "GET /v1/schedules", Need.READ,
    "List schedules by name, those of the code and those that were made.",
    query=ListQuery, reply=Page[ScheduleInfo])
GET_SCHEDULE = Operation(
    "schedules.get", "GET /v1/schedules/{schedule}", Need.READ,
    "Get a schedule.",
    reply=ScheduleInfo, problems=(404,))
PAUSE_SCHEDULE = Operation(
    "schedules.pause", "POST /v1/schedules/{schedule}/pause", Need.STEER,
    "Pause a schedule. Pausing again changes nothing.",
    body=NoFields, reply=ScheduleInfo, problems=(404, 409), repeat=Repeat.ONCE)
RESUME_SCHEDULE = Operation(
    "schedules.resume", "POST /v1/schedules/{schedule}/resume", Need.STEER,
    "Go on with a paused schedule; what was due meanwhile was not missed.",
    body=NoFields, reply=ScheduleInfo, problems=(404, 409), repeat=Repeat.ONCE)
RUN_SCHEDULE = Operation(
    "schedules.run", "POST /v1/schedules/{schedule}/run", Need.STEER,
    "Start a session as the schedule does, now. Its due times stay as they are.",
    body=NoFields, reply=StartReceipt, status=201, problems=(404, 409, 422), repeat=Repeat.ONCE)
DELETE_SCHEDULE = Operation(
    "schedules.delete", "DELETE /v1/schedules/{schedule}", Need.ADMINISTER,
    "Delete a schedule that no code declares; the sessions that it started stay.",
    reply=ScheduleReceipt, problems=(404, 409), repeat=Repeat.ONCE)

# Notices ------------------------------------------------------------------------------------------

LIST_NOTICE_TARGETS = Operation(
    "notices.list", "GET /v1/notices", Need.READ,
    "List the notice targets of the runtime's configuration, and how far each is. All are on one page.",
    reply=Page[NoticeTargetInfo], problems=(400,))
TELL_NOTICE_TARGET_A_TEST = Operation(
    "notices.test", "POST /v1/notices/{target}/test", Need.STEER,
    "Tell a notice target that this is a test, and say whether it took that. A repeated call tells again.",
    body=NoFields, reply=NoticeTestReceipt, problems=(404, 409), repeat=Repeat.AGAIN)
RETRY_NOTICE_TARGET = Operation(
    "notices.retry", "POST /v1/notices/{target}/retry", Need.STEER,
    "Try now what a notice target has not taken, also what it was passed by.",
    body=NoFields, reply=NoticeRetryReceipt, problems=(404, 409), repeat=Repeat.AGAIN)

# Tokens -------------------------------------------------------------------------------------------

CREATE_TOKEN = Operation(
    "tokens.create", "POST /v1/tokens", Need.DELEGATE,
    "Make a token. Its callback URL and public token are shown here and never again.",
    body=TokenRequest, reply=TokenReceipt, status=201, problems=(409, 422), repeat=Repeat.ONCE)
LIST_TOKENS = Operation(
    "tokens.list", "GET /v1/tokens", Need.READ,
    "List tokens, newest first.",
    query=TokensQuery, reply=Page[TokenInfo], leaves_out=("body", "json_schema", "initial", "data"))
GET_TOKEN = Operation(
    "tokens.get", "GET /v1/tokens/{token_id}", Need.READ,
    "Get a token in full, with its data once it is completed.",
    reply=TokenInfo, problems=(404,))
COMPLETE_TOKEN = Operation(
    "tokens.complete", "POST /v1/tokens/{token_id}/complete", Need.COMPLETE,
    "Complete a token. The first completion wins; a later one gets 409 with the winner.",
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
    tag="callbacks", reply=CompleteReceipt,
    others={303: "A form was taken; the page says what was recorded"},
    problems=(400, 404, 409, 410, 413, 415, 422, 429, 503), repeat=Repeat.ONCE)

# Public tokens and keys ---------------------------------------------------------------------------

CREATE_PUBLIC_TOKEN = Operation(
    "auth.create_public_token", "POST /v1/public-tokens", Need.DELEGATE,
    "Make a public token for what the key may do itself. Its secret is shown here and never again.",
    service="public_tokens.create", body=PublicTokenRequest, reply=PublicTokenReceipt, status=201,
    problems=(404, 409), repeat=Repeat.ONCE)
LIST_PUBLIC_TOKENS = Operation(
    "auth.list", "GET /v1/public-tokens", Need.READ,
    "List public tokens, newest first, with the uses they have left.",
    service="public_tokens.list", query=ListQuery, reply=Page[PublicTokenInfo])
REVOKE_PUBLIC_TOKEN = Operation(
    "auth.revoke", "DELETE /v1/public-tokens/{public_token_id}", Need.DELEGATE,
    "Revoke a public token that the same key has made, any with the role admin. Revoking again changes nothing.",
    service="public_tokens.revoke", owner=Owner.OWN, reply=PublicTokenInfo, problems=(404, 409),
    repeat=Repeat.ONCE)
CREATE_API_KEY = Operation(
    "keys.create", "POST /v1/api-keys", Need.ADMINISTER,
    "Make an API key. Its secret is shown here and never again.",
    service="api_keys.create", body=ApiKeyRequest, reply=ApiKeyReceipt, status=201, problems=(409,),
    repeat=Repeat.ONCE)
LIST_API_KEYS = Operation(
    "keys.list", "GET /v1/api-keys", Need.ADMINISTER,
    "List API keys, newest first.",
    service="api_keys.list", query=ListQuery, reply=Page[ApiKeyInfo])
REVOKE_API_KEY = Operation(
    "keys.revoke", "DELETE /v1/api-keys/{key_id}", Need.ADMINISTER,
    "Revoke an API key. Revoking again changes nothing.",
    service="api_keys.revoke", reply=ApiKeyInfo, problems=(404, 409), repeat=Repeat.ONCE)
LIST_FILE_KEYS = Operation(
    "keys.public", "GET /v1/file-keys", Need.READ,
    "List the public keys by which session files of this runtime are verified, the newest first.",
    service="session_files.keys", reply=Page[FileKeyInfo])

# What the runtime knows ---------------------------------------------------------------------------

LIST_TASKS = Operation(
    "tasks.list", "GET /v1/tasks", Need.READ,
    "List the tasks, with the JSON Schemas of their payloads and results, by id.",
    service="catalog.tasks", query=ListQuery, reply=Page[TaskInfo])
LIST_STREAMS = Operation(
    "streams.list", "GET /v1/streams", Need.READ,
    "List the streams, with their JSON Schemas, by name.",
    service="catalog.streams", query=ListQuery, reply=Page[StreamInfo])
RUN_QUERY = Operation(
    "query", "POST /v1/query", Need.QUERY,
    "Run one SELECT over the views `sessions, runs, waits, records, entries, tokens`.",
    body=QueryRequest, reply=QueryAnswer, also=ARROW, problems=(422,))

# The whole ledger ---------------------------------------------------------------------------------

READ_BACKUP: Operation[bytes] = Operation(
    "backup", "GET /v1/backup", Need.ADMINISTER,
    "Copy the ledger at the feed offset that it has now, for `helmr restore`; the master keys are not in it.",
    service="backups.stream",
    reply=Media(JSONL, "A backup: JSON lines, the last a check of the whole", "helmr.backup"))
READ_LEDGER_ENTRIES = Operation(
    "copy", "GET /v1/ledger/entries", Need.ADMINISTER,
    "Read what a follower of the ledger lacks: entries as they are stored, in feed order, and their checkpoints.",
    service="copies.page", query=CopyQuery, reply=CopyPage, problems=(409,))
PRUNE_SESSIONS = Operation(
    "prune", "POST /v1/prune", Need.ADMINISTER,
    "Remove sessions that are over and old enough, a page of them; repeat it until `is_last`.",
    service="copies.prune", body=PruneRequest, reply=PruneReceipt, repeat=Repeat.ONCE)

# Other protocols, and probes ----------------------------------------------------------------------

SPEAK_MCP = Operation(
    "", "POST /mcp", Need.TOOLS,
    "One message of the Model Context Protocol: a JSON-RPC request of revision 2026-07-28, or of an earlier one.",
    tag="mcp", reply=dict[str, Any], problems=(400, 404, 413, 415), repeat=Repeat.AGAIN)
OPENAPI_DOCUMENT = Operation(
    "", "GET /v1/openapi.json", Need.NOTHING,
    "This API as an OpenAPI document.",
    tag="health", reply=dict[str, Any], is_documented=False)
HEALTHZ: Operation[bytes] = Operation(
    "", "GET /healthz", Need.NOTHING,
    "The gateway answers.",
    tag="health", reply=TEXT)
READYZ = Operation(
    "health", "GET /readyz", Need.NOTHING,
    "Whether sessions can be started and answered. With a key it tells more.",
    reply=Health, others={503: "Not ready; says why"})
READ_METRICS: Operation[bytes] = Operation(
    "", "GET /metrics", Need.READ,
    "Numbers in the Prometheus text format.",
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
"""All of them, in the order in which they are told."""

_BY_NAME = {row.name: row for row in OPERATIONS}


def operation(name: str) -> Operation[Any]:
    """The row of that name, `answer_wait`.

    Raises:
        KeyError: There is none.
    """
    return _BY_NAME[name]
