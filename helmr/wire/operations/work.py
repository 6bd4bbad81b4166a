"""Notices and tokens."""

from __future__ import annotations

from helmr.models import (
    NOTICE_TARGET_NAME,
    NOTICE_TARGET_NAME_MAX,
    CompleteReceipt,
    CompleteRequest,
    NoFields,
    NoticeRetryReceipt,
    NoticeTargetInfo,
    NoticeTestReceipt,
    Page,
    TokenInfo,
    TokenReceipt,
    TokenRequest,
    TokensQuery,
)
from helmr.wire.operation import PAGE, Operation, PathName, Repeat
from helmr.wire.roles import Need, ScopeType

TARGET = {
    "target": PathName(
        "a notice target",
        NOTICE_TARGET_NAME,
        NOTICE_TARGET_NAME_MAX,
        "Letters, digits, `_` and `-`",
    )
}

# A table is read row by row.
# fmt: off

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
    body=NoFields, reply=NoticeTestReceipt, problems=(404, 409), repeat=Repeat.AGAIN,
    names=TARGET)
RETRY_NOTICE_TARGET = Operation(
    "notices.retry", "POST /v1/notices/{target}/retry", Need.STEER,
    "Send now the notices that a target has not taken, late ones too.",
    description="Answers `{target, count}`.",
    body=NoFields, reply=NoticeRetryReceipt, problems=(404, 409), repeat=Repeat.AGAIN,
    names=TARGET)

# Tokens -------------------------------------------------------------------------------------------

CREATE_TOKEN = Operation(
    "tokens.create", "POST /v1/tokens", Need.DELEGATE,
    "Make a token. Its callback URL and public token are shown here and never again.",
    description="Answers 201 with `callback_url` and `public_access_token`. `timeout` is a duration, `\"7d\"`; "
    "`verify` is `{scheme, secret, tolerance_s}`; `escalation` holds the escalation steps `{do, "
    "after_s, from, to, value}` for waits on it; `evidence` is `{facts, links: [{label, url}], diff}`, "
    "also of waits on it without evidence of their own.",
    body=TokenRequest, reply=TokenReceipt, status=201, problems=(409, 422), repeat=Repeat.ONCE)
LIST_TOKENS = Operation(
    "tokens.list", "GET /v1/tokens", Need.READ,
    "List tokens, newest first.",
    description="Without texts, schema and data.",
    query=TokensQuery, reply=Page[TokenInfo], leaves_out=("body", "evidence", "json_schema", "initial", "data"))
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

# fmt: on
