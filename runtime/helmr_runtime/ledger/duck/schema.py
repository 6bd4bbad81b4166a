"""The tables, as numbered migrations.

`entries`, `checkpoints` and `holdings` are appended to and never updated; the others are projections of the
entries, written behind. Primary keys only: other indexes on changing columns lose rows in this engine's releases
of 2026. Columns that change are numbers, times and enums; text is written once.

Source: measurements of the project: scattered updates of numbers in 100,000 rows cost a checkpoint
10 ms, also beside text columns that do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import duckdb

from helmr.errors import DataError
from helmr.version import version as helmr_version
from helmr_runtime.ledger.duck.rows import first_row

WRITTEN_BY = "helmr"
"""The row of `meta_texts` with the version of Helmr that has opened the file last."""

HEAD_ROWS = """
    CREATE VIEW head_rows AS
    SELECT s.session, s.epoch, s.next_seq, e.hash, s.updated_us, s.last_offset, s.created_offset, s.task,
        s.status, s.run, r.status AS run_status, r.attempt, r.retry_us, r.queued_us, r.ended_us, r.outcome_offset,
        w.wait, w.kind, w.op, w.token, w.deadline_us, w.is_backoff, s.open_steps, s.checkpoint_offset,
        s.tail_count, s.has_keys, s.external_id, s.start_key, s.activity
    FROM session_rows s
    JOIN entries e ON e.feed_offset = s.last_offset
    LEFT JOIN run_rows r ON r.run = s.run
    LEFT JOIN wait_rows w ON w.wait = s.wait
    """
"""A session with its newest run and its active wait: what a head is restored from."""

MIGRATION_1: Sequence[str] = (
    "CREATE TYPE session_status AS ENUM ('open', 'closed', 'cancelled')",
    "CREATE TYPE activity AS ENUM ('idle', 'queued', 'running', 'waiting', 'blocked')",
    "CREATE TYPE run_status AS ENUM "
    "('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled', 'blocked')",
    "CREATE TYPE wait_kind AS ENUM ('input', 'token', 'timer')",
    "CREATE TYPE wait_status AS ENUM ('pending', 'fulfilled', 'timed_out', 'cancelled')",
    """
    CREATE TABLE meta (
        name VARCHAR PRIMARY KEY,
        number BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE entries (
        feed_offset BIGINT NOT NULL,
        session UUID NOT NULL,
        seq INTEGER NOT NULL,
        recorded_at TIMESTAMPTZ NOT NULL,
        kind VARCHAR NOT NULL,
        run UUID,
        op INTEGER,
        principal VARCHAR NOT NULL,
        body VARCHAR NOT NULL,
        hash BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE checkpoints (
        feed_offset BIGINT NOT NULL,
        session UUID NOT NULL,
        seq INTEGER NOT NULL,
        body VARCHAR NOT NULL
    )
    """,
    """
    CREATE TABLE holdings (
        session UUID NOT NULL,
        epoch BIGINT NOT NULL,
        holder VARCHAR
    )
    """,
    """
    CREATE TABLE sessions (
        session UUID PRIMARY KEY,
        created_offset BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        task VARCHAR NOT NULL,
        external_id VARCHAR,
        start_key VARCHAR,
        tags VARCHAR NOT NULL,
        metadata VARCHAR NOT NULL,
        status session_status NOT NULL,
        activity activity NOT NULL,
        run UUID,
        wait UUID,
        next_seq INTEGER NOT NULL,
        last_offset BIGINT NOT NULL,
        updated_at TIMESTAMPTZ NOT NULL,
        epoch BIGINT NOT NULL,
        checkpoint_offset BIGINT NOT NULL,
        tail_count INTEGER NOT NULL,
        open_steps INTEGER NOT NULL,
        has_keys BOOLEAN NOT NULL
    )
    """,
    """
    CREATE TABLE runs (
        run UUID PRIMARY KEY,
        session UUID NOT NULL,
        created_offset BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        task VARCHAR NOT NULL,
        status run_status NOT NULL,
        attempt INTEGER NOT NULL,
        retry_at TIMESTAMPTZ,
        queued_at TIMESTAMPTZ,
        ended_at TIMESTAMPTZ,
        outcome_offset BIGINT
    )
    """,
    """
    CREATE TABLE waits (
        wait UUID PRIMARY KEY,
        session UUID NOT NULL,
        run UUID NOT NULL,
        op INTEGER NOT NULL,
        opened_offset BIGINT NOT NULL,
        opened_at TIMESTAMPTZ NOT NULL,
        kind wait_kind NOT NULL,
        task VARCHAR NOT NULL,
        stream VARCHAR,
        correlation_id VARCHAR,
        token UUID,
        deadline_at TIMESTAMPTZ,
        is_backoff BOOLEAN NOT NULL,
        status wait_status NOT NULL,
        resolved_offset BIGINT,
        resolved_at TIMESTAMPTZ
    )
    """,
    """
    CREATE TABLE operations (
        id VARCHAR NOT NULL,
        session UUID NOT NULL,
        feed_offset BIGINT NOT NULL,
        request_hash VARCHAR NOT NULL,
        recorded_at TIMESTAMPTZ NOT NULL
    )
    """,
    """
    CREATE TABLE send_keys (
        session UUID NOT NULL,
        stream VARCHAR NOT NULL,
        key_hash VARCHAR NOT NULL,
        data_hash VARCHAR NOT NULL,
        record_offset BIGINT NOT NULL
    )
    """,
    """
    CREATE VIEW entry_rows AS
    SELECT feed_offset, session, seq, epoch_us(recorded_at) AS recorded_us, kind, run, op, principal,
        body, hash
    FROM entries
    """,
    """
    CREATE VIEW session_rows AS
    SELECT session, created_offset, epoch_us(created_at) AS created_us, task, external_id, start_key,
        tags, metadata, status, activity, run, wait, next_seq, last_offset,
        epoch_us(updated_at) AS updated_us, epoch, checkpoint_offset, tail_count, open_steps, has_keys
    FROM sessions
    """,
    """
    CREATE VIEW run_rows AS
    SELECT run, session, created_offset, epoch_us(created_at) AS created_us, task, status, attempt,
        epoch_us(retry_at) AS retry_us, epoch_us(queued_at) AS queued_us, epoch_us(ended_at) AS ended_us,
        outcome_offset
    FROM runs
    """,
    """
    CREATE VIEW wait_rows AS
    SELECT wait, session, run, op, opened_offset, epoch_us(opened_at) AS opened_us, kind, task, stream,
        correlation_id, token, epoch_us(deadline_at) AS deadline_us, is_backoff, status, resolved_offset,
        epoch_us(resolved_at) AS resolved_us
    FROM waits
    """,
    HEAD_ROWS,
    "INSERT INTO meta VALUES ('projected_offset', 0), ('openings', 0), ('nil_offset', 0), ('catalog_offset', 0)",
)

MIGRATION_2: Sequence[str] = (
    "CREATE TYPE token_status AS ENUM ('pending', 'completed', 'expired', 'cancelled')",
    """
    CREATE TABLE tokens (
        token UUID PRIMARY KEY,
        session UUID NOT NULL,
        created_offset BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        expires_at TIMESTAMPTZ NOT NULL,
        callback_hash VARCHAR NOT NULL,
        tags VARCHAR NOT NULL,
        has_schema BOOLEAN NOT NULL,
        status token_status NOT NULL,
        ended_offset BIGINT NOT NULL,
        ended_at TIMESTAMPTZ,
        pin_offset BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE public_tokens (
        public_token UUID PRIMARY KEY,
        session UUID NOT NULL,
        created_offset BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        secret_hash VARCHAR NOT NULL,
        scope VARCHAR NOT NULL,
        allowed_origins VARCHAR NOT NULL,
        key_id VARCHAR,
        max_uses BIGINT,
        expires_at TIMESTAMPTZ NOT NULL,
        uses BIGINT NOT NULL,
        last_used_at TIMESTAMPTZ,
        revoked_at TIMESTAMPTZ
    )
    """,
    """
    CREATE TABLE api_keys (
        api_key UUID PRIMARY KEY,
        created_offset BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        secret_hash VARCHAR NOT NULL,
        role VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        revoked_at TIMESTAMPTZ
    )
    """,
    """
    CREATE TABLE chains (
        session UUID NOT NULL,
        key_id VARCHAR NOT NULL
    )
    """,
    """
    CREATE VIEW token_rows AS
    SELECT token, session, created_offset, epoch_us(created_at) AS created_us,
        epoch_us(expires_at) AS expires_us, callback_hash, tags, has_schema, status, ended_offset,
        epoch_us(ended_at) AS ended_us, pin_offset
    FROM tokens
    """,
    """
    CREATE VIEW public_token_rows AS
    SELECT public_token, session, created_offset, epoch_us(created_at) AS created_us, secret_hash, scope,
        allowed_origins, key_id, max_uses, epoch_us(expires_at) AS expires_us, uses,
        epoch_us(last_used_at) AS last_used_us, epoch_us(revoked_at) AS revoked_us
    FROM public_tokens
    """,
    """
    CREATE VIEW api_key_rows AS
    SELECT api_key, created_offset, epoch_us(created_at) AS created_us, secret_hash, role, name,
        epoch_us(revoked_at) AS revoked_us
    FROM api_keys
    """,
)
"""Tokens, public tokens, API keys, and which master key each hash chain began with."""

MIGRATION_3: Sequence[str] = (
    "CREATE TYPE answer_mode AS ENUM ('person', 'link', 'default', 'program')",
    "CREATE TYPE wait_priority AS ENUM ('low', 'normal', 'high')",
    "DROP VIEW head_rows",
    "DROP VIEW wait_rows",
    "ALTER TABLE waits ADD COLUMN mode answer_mode",
    "ALTER TABLE waits ADD COLUMN priority wait_priority DEFAULT 'normal'",
    "ALTER TABLE waits ADD COLUMN tags VARCHAR DEFAULT '[]'",
    "ALTER TABLE waits ADD COLUMN session_tags VARCHAR DEFAULT '[]'",
    "ALTER TABLE waits ADD COLUMN assignee VARCHAR",
    """
    CREATE VIEW wait_rows AS
    SELECT wait, session, run, op, opened_offset, epoch_us(opened_at) AS opened_us, kind, task, stream,
        correlation_id, token, epoch_us(deadline_at) AS deadline_us, is_backoff, status, resolved_offset,
        epoch_us(resolved_at) AS resolved_us, mode, priority, tags, session_tags, assignee
    FROM waits
    """,
    HEAD_ROWS,
)
"""How a wait was answered, and what it says of itself; waits opened before say none of it."""

MIGRATION_4: Sequence[str] = (
    "DROP VIEW head_rows",
    "DROP VIEW session_rows",
    "ALTER TABLE sessions ADD COLUMN origin UUID",
    "ALTER TABLE sessions ADD COLUMN origin_seq INTEGER",
    """
    CREATE VIEW session_rows AS
    SELECT session, created_offset, epoch_us(created_at) AS created_us, task, external_id, start_key,
        tags, metadata, status, activity, run, wait, next_seq, last_offset,
        epoch_us(updated_at) AS updated_us, epoch, checkpoint_offset, tail_count, open_steps, has_keys,
        origin, origin_seq
    FROM sessions
    """,
    HEAD_ROWS,
)
"""Which session a fork begins with the past of, and up to which seq."""

MIGRATION_5: Sequence[str] = (
    "CREATE TYPE awaited_kind AS ENUM ('input', 'token', 'timer', 'session')",
    "DROP VIEW head_rows",
    "DROP VIEW session_rows",
    "DROP VIEW wait_rows",
    "DROP VIEW token_rows",
    "ALTER TABLE sessions ADD COLUMN parent UUID",
    "ALTER TABLE sessions ADD COLUMN parent_run UUID",
    "ALTER TABLE sessions ADD COLUMN parent_op INTEGER",
    "ALTER TABLE waits ALTER kind TYPE awaited_kind USING kind::VARCHAR::awaited_kind",
    "ALTER TABLE waits ADD COLUMN session_ids VARCHAR DEFAULT '[]'",
    "ALTER TABLE tokens ADD COLUMN parent UUID",
    "ALTER TABLE tokens ADD COLUMN parent_run UUID",
    "ALTER TABLE tokens ADD COLUMN parent_op INTEGER",
    "ALTER TABLE tokens ADD COLUMN parent_attempt INTEGER",
    "ALTER TABLE tokens ADD COLUMN leaves BOOLEAN",
    "DROP TYPE wait_kind",
    """
    CREATE VIEW session_rows AS
    SELECT session, created_offset, epoch_us(created_at) AS created_us, task, external_id, start_key,
        tags, metadata, status, activity, run, wait, next_seq, last_offset,
        epoch_us(updated_at) AS updated_us, epoch, checkpoint_offset, tail_count, open_steps, has_keys,
        origin, origin_seq, parent, parent_run, parent_op
    FROM sessions
    """,
    """
    CREATE VIEW wait_rows AS
    SELECT wait, session, run, op, opened_offset, epoch_us(opened_at) AS opened_us, kind, task, stream,
        correlation_id, token, epoch_us(deadline_at) AS deadline_us, is_backoff, status, resolved_offset,
        epoch_us(resolved_at) AS resolved_us, mode, priority, tags, session_tags, assignee, session_ids
    FROM waits
    """,
    """
    CREATE VIEW token_rows AS
    SELECT token, session, created_offset, epoch_us(created_at) AS created_us,
        epoch_us(expires_at) AS expires_us, callback_hash, tags, has_schema, status, ended_offset,
        epoch_us(ended_at) AS ended_us, pin_offset, parent, parent_run, parent_op, parent_attempt, leaves
    FROM tokens
    """,
    HEAD_ROWS,
)
"""Whose child a session is, and which children a wait is on. A child stands in `tokens` under its session's UUID."""

MIGRATION_6: Sequence[str] = (
    """
    CREATE TABLE schedules (
        name VARCHAR NOT NULL,
        written_offset BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        settled_at TIMESTAMPTZ NOT NULL,
        paused BOOLEAN NOT NULL,
        gone BOOLEAN NOT NULL,
        session UUID,
        last_due_at TIMESTAMPTZ,
        outcome VARCHAR
    )
    """,
    """
    CREATE VIEW schedule_rows AS
    SELECT name, written_offset, epoch_us(created_at) AS created_us, epoch_us(settled_at) AS settled_us,
        paused, gone, session, epoch_us(last_due_at) AS last_due_us, outcome
    FROM schedules
    """,
)
"""Schedules; what each is stands in the entry at `written_offset`."""

MIGRATION_7: Sequence[str] = ("INSERT INTO meta VALUES ('notices_offset', 0)",)
"""Where the newest positions of notice targets stand in the entries."""

MIGRATION_8: Sequence[str] = (
    "DROP VIEW head_rows",
    "DROP VIEW wait_rows",
    "ALTER TABLE waits ADD COLUMN next_rung INTEGER",
    "ALTER TABLE waits ADD COLUMN next_rung_at TIMESTAMPTZ",
    "ALTER TABLE waits ADD COLUMN default_at TIMESTAMPTZ",
    """
    CREATE VIEW wait_rows AS
    SELECT wait, session, run, op, opened_offset, epoch_us(opened_at) AS opened_us, kind, task, stream,
        correlation_id, token, epoch_us(deadline_at) AS deadline_us, is_backoff, status, resolved_offset,
        epoch_us(resolved_at) AS resolved_us, mode, priority, tags, session_tags, assignee, session_ids,
        next_rung, epoch_us(next_rung_at) AS next_rung_us, epoch_us(default_at) AS default_us
    FROM waits
    """,
    HEAD_ROWS,
)
"""What of a wait's ladder comes next, and when."""

MIGRATION_9: Sequence[str] = (
    "DROP VIEW head_rows",
    "DROP VIEW wait_rows",
    "ALTER TABLE waits ADD COLUMN batch_id VARCHAR",
    """
    CREATE VIEW wait_rows AS
    SELECT wait, session, run, op, opened_offset, epoch_us(opened_at) AS opened_us, kind, task, stream,
        correlation_id, token, epoch_us(deadline_at) AS deadline_us, is_backoff, status, resolved_offset,
        epoch_us(resolved_at) AS resolved_us, mode, priority, tags, session_tags, assignee, session_ids,
        next_rung, epoch_us(next_rung_at) AS next_rung_us, epoch_us(default_at) AS default_us, batch_id
    FROM waits
    """,
    HEAD_ROWS,
)
"""Which answers were given as one."""

MIGRATION_10: Sequence[str] = (
    """
    CREATE TABLE meta_texts (
        name VARCHAR PRIMARY KEY,
        text VARCHAR NOT NULL
    )
    """,
)
"""What is known of the file in words: which Helmr has written it, and the fingerprints of its master keys."""

MIGRATIONS: Sequence[Sequence[str]] = (
    MIGRATION_1,
    MIGRATION_2,
    MIGRATION_3,
    MIGRATION_4,
    MIGRATION_5,
    MIGRATION_6,
    MIGRATION_7,
    MIGRATION_8,
    MIGRATION_9,
    MIGRATION_10,
)
"""Each brings the file from its number to the next; a released one is never changed."""


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the file to the newest schema; CHECKPOINT right after, so that no DDL waits in the log.

    A new file gets all of it in one transaction, which takes half the time; one that holds something, a migration in
    each, so that what changes rows does so in bounds.

    Raises:
        DataError: The file was written by a newer runtime.
    """
    version = _version(connection)
    if version > len(MIGRATIONS):
        writer = written_by(connection)
        raise DataError(f"the ledger {too_new(version, writer)}", hint=use_newer(writer))
    for number in range(version + 1, len(MIGRATIONS) + 1) if version else (len(MIGRATIONS),):
        connection.begin()
        for statement in chain.from_iterable(MIGRATIONS[version:number]):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO meta VALUES ('schema', $1) ON CONFLICT DO UPDATE SET number = excluded.number",
            [number],
        )
        connection.commit()
        connection.execute("CHECKPOINT")
        version = number
    if written_by(connection) != helmr_version():
        connection.execute(
            "INSERT INTO meta_texts VALUES ($1, $2) ON CONFLICT DO UPDATE SET text = excluded.text",
            [WRITTEN_BY, helmr_version()],
        )


def written_by(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The version of Helmr that has opened the file last; None before 0.2.0, which was the first to say so."""
    try:
        found = connection.execute("SELECT text FROM meta_texts WHERE name = $1", [WRITTEN_BY])
    except duckdb.CatalogException:
        return None
    row = first_row(found)
    return str(row[0]) if row is not None else None


def too_new(schema: int, writer: str | None) -> str:
    """What is said of a file with a schema of a newer Helmr."""
    by = f", written by Helmr {writer}" if writer is not None else ""
    return f"has schema {schema}{by}; this Helmr {helmr_version()} knows {len(MIGRATIONS)}"


def use_newer(writer: str | None) -> str:
    """What to do about it."""
    return (
        f"Use Helmr {writer} or later."
        if writer is not None
        else "Use the newer Helmr that wrote it."
    )


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    tables = first_row(
        connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'meta'")
    )
    if tables is None or tables[0] == 0:
        return 0
    row = first_row(connection.execute("SELECT number FROM meta WHERE name = 'schema'"))
    return int(row[0]) if row is not None else 0
