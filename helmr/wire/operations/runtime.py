"""The runtime as a whole: what it knows, its ledger, other protocols and probes."""

from __future__ import annotations

from typing import Any

from helmr.models import (
    Health,
    LimitInfo,
    ListQuery,
    Page,
    PruneReceipt,
    PruneRequest,
    QueryAnswer,
    QueryRequest,
    StreamInfo,
    TaskInfo,
)
from helmr.wire.operation import JSONL, TEXT, Media, Operation, Repeat
from helmr.wire.query import ARROW_MEDIA_TYPE
from helmr.wire.roles import Need

ARROW = Media(ARROW_MEDIA_TYPE)

# A table is read row by row.
# fmt: off

# What the runtime knows ---------------------------------------------------------------------------

LIST_TASKS = Operation(
    "tasks.list", "GET /v1/tasks", Need.READ,
    "List the tasks, with the JSON Schemas of their payloads and results, by id.",
    service="catalog.tasks", query=ListQuery, reply=Page[TaskInfo])
LIST_STREAMS = Operation(
    "streams.list", "GET /v1/streams", Need.READ, "List the streams, with their JSON Schemas, by name.",
    service="catalog.streams", query=ListQuery, reply=Page[StreamInfo])
LIST_LIMITS = Operation(
    "limits.list", "GET /v1/limits", Need.READ,
    "List the limits that steps and tasks share, with what is in use and what waits, by name.",
    description="With `at_once`, `per`, `within_s`, `in_use`, `begun`, `waiting`, `oldest_at`, `closed_until` and "
    "the `keys` that wait. Numbers of now; nothing of them is stored.",
    query=ListQuery, reply=Page[LimitInfo])
RUN_QUERY = Operation(
    "query", "POST /v1/query", Need.QUERY,
    "Run one SELECT over the views `sessions, runs, waits, records, entries, tokens`.",
    description="Answers `{columns: [{name, type}], rows: [[…]], truncated, elapsed_s}`.",
    body=QueryRequest, reply=QueryAnswer, also=ARROW, problems=(422,), may_be_stale=True)

# The whole ledger ---------------------------------------------------------------------------------

READ_BACKUP: Operation[bytes] = Operation(
    "backup", "GET /v1/backup", Need.ADMINISTER,
    "Copy the ledger at the feed offset that it has now, for `helmr restore`; the master keys are not in it.",
    description="Answers `application/jsonl`.",
    service="backups.stream",
    reply=Media(JSONL, "A backup: JSON lines, the last a check of the whole", "helmr.backup"))
PRUNE_SESSIONS = Operation(
    "prune", "POST /v1/prune", Need.ADMINISTER,
    "Remove sessions that are over and old enough, a page of them; repeat it until `is_last`.",
    description="Answers `{sessions, entries, is_last, archive}`. `dry_run` removes nothing and counts all. 503 "
    "while a backup is being read.",
    service="pruning.prune", body=PruneRequest, reply=PruneReceipt, repeat=Repeat.ONCE)

# Probes ----------------------------------------------------------------------

OPENAPI_DOCUMENT = Operation(
    "", "GET /v1/openapi.json", Need.NOTHING, "This API as an OpenAPI document.",
    tag="health", reply=dict[str, Any], is_documented=False)
SHOW_ERRORS: Operation[bytes] = Operation(
    "", "GET /errors", Need.NOTHING, "Show what each code of an error means, and what to do.",
    description="`type` of a problem leads there.",
    tag="health", reply=Media("text/html", "The page of errors"))
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
