"""How long and how large what is asked may be."""

from __future__ import annotations

SUBJECT_MAX = 200
BODY_MAX_BYTES = 1024 * 1024
NOTE_MAX_BYTES = 20_000
CORRELATION_ID_MAX = 512
EXTERNAL_ID_MAX = 256
IDEMPOTENCY_KEY_MAX = 256
RECORD_BYTES_MAX = 256 * 1024
CHUNK_BYTES_MAX = 16 * 1024
VALUE_BYTES_MAX = 1024 * 1024
HTTP_BODY_BYTES_MAX = 1_310_720
UNCONSUMED_RECORDS_MAX = 10_000
UNCONSUMED_BYTES_MAX = 32 * 1024 * 1024
LIST_LIMIT_MAX = 200
LIST_LIMIT_DEFAULT = 50
"""Limits of the contract (S-2, S-17, S-23, S-26, S-28, S-90)."""

BODY_SHOWN_BYTES = 20_000
"""Of a wait's body, where it is one thing among others: in notices and cards."""

BODY_DRAWN_CHARS = 64 * 1024
"""Of a wait's body, drawn as Markdown; what is longer is offered as text."""

WAIT_TAGS_MAX = 20
WAIT_TAG_MAX = 64
ASSIGNEE_MAX = 128
ESCALATION_STEPS_MAX = 20
BATCH_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
"""Limits of what a wait says about itself (S-72, S-82)."""

CLAIM_S = 900.0
CLAIM_MAX_S = 86_400.0
"""How long a claim lasts unless it says so or is renewed, and at most, in seconds (S-81)."""

TOKEN_TAGS_MAX = 50
TOKEN_TAG_MAX = 128
TOKEN_METADATA_BYTES_MAX = 16 * 1024
NAME_MAX = 100
PERSON_MAX = 200
REASON_MAX = 500
"""Tags, metadata and names are for finding a thing again."""

PRUNE_AGE_MIN_S = 86_400.0
"""Youngest that a session which is over may be when it is pruned, in seconds: repeated operations are known so long."""

PRUNE_AGE_MAX_S = 3_660 * 86_400.0
"""And oldest."""

CHILDREN_AWAITED_MAX = 1_000
"""Child sessions that one wait may be on (S-91)."""

OP_MAX = 2**53 - 1
"""No op comes near; what is beyond no reader of JSON keeps exact."""

QUERY_TEXT_MAX = 65_536
QUERY_ROWS_DEFAULT = 10_000
QUERY_ROWS_MAX = 100_000
QUERY_BYTES_MAX = 32 * 1024 * 1024
QUERY_TIMEOUT_S = 30.0
"""Limits of `POST /v1/query`: characters of SQL, rows and bytes of a result, seconds."""

SCHEDULE_NAME_MAX = 64
SCHEDULE_TEXT_MAX = 200
"""A cron expression, a time zone."""
