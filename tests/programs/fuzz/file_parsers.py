"""The parsers of files: what people write, and what a runtime wrote and somebody may have changed since."""

from __future__ import annotations

import asyncio
import json
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from helmr import rules
from helmr.cli.config import notices_table, retention_of, tasks_of_project
from helmr.client.discovery import read_credentials
from helmr.client.profiles import parse_toml, read_profile
from helmr.errors import BadFilter, BadKeyRing, DataError, LedgerBehind, LedgerDamaged, UsageError
from helmr.person.review.personal import DraftStore
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Draft, EntryKind, Principal, stamp
from helmr_runtime.ledger.log import file_store, files
from helmr_runtime.ledger.log.commit_log import text_of
from helmr_runtime.ledger.log.file_store import file_log, read_unmerged
from helmr_runtime.ledger.log.files import HeadMark, HeadPosition
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow
from helmr_runtime.ledger.tools.restore import build, stored_backup
from helmr_runtime.notices.targets import read_targets, to_json
from helmr_runtime.security.keys import read_key_ring
from tests.fixtures.earlier import Earlier
from tests.ledger.sessions import SMALL
from tests.programs.fuzz.damage import altered, damaged, one_altered
from tests.programs.fuzz.parsers import NOW, SESSION, WAIT, Parser, backup_lines


def in_folder(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Reads bytes as a file of that name, in a folder of its own."""

    def put(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)
            return read(path)

    return put


# --- what people write ----------------------------------------------------------------------------

HELMR_TOML = b"""
[retention]
closed_after = "90d"
archive = false
[notices.oncall]
type = "webhook"
url = "https://alerts.example.com/in"
secret_env = "ONCALL_SECRET"
events = ["wait.opened", "wait.due_soon"]
filter = "priority:high -tag:test"
links = "assignee"
due_soon = "2h"
[notices.mail]
type = "email"
host = "smtp.example.com"
port = 587
from = "helmr@example.com"
to = ["ada@example.com"]
title = "$event: $subject"
[notices.desk]
type = "command"
command = ["notify-send", "Helmr"]
"""
CONSOLE_TOML = b"""
profile = "oncall"
[filters]
urgent = "due<10m"
[profiles.oncall.filters]
payments = "task:pay* -is:claimed"
[profiles.oncall.notices]
bell = true
osc = 9
filter = "payments"
"""
PROJECT_TOML = b'[project]\nname = "x"\n[tool.helmr]\ntasks = ["tasks.py", "app.tasks"]\n'
RULE_TOML = b'filter = "stream:refund"\ncompare = ["decision"]\n[answer]\ndecision = "approve"\n'
RULES_TOML = b"""
[[rule]]
name = "small"
filter = "stream:refund tag:small"
matches = {eur = ["4?", ""]}
answer = {decision = "approve"}
compare = ["decision"]
[[rule]]
tool = "Bash"
folder = "/srv/shop"
matches = {command = "git push*", "@readOnlyHint" = "true"}
action = "ask"
answerers = ["group:ops"]
"""
TARGETS = tomllib.loads(HELMR_TOML.decode())["notices"]


def read_config(path: Path) -> None:
    read_targets(*notices_table(path, path.parent))
    retention_of(path, path.parent)


def read_table(table: Any) -> None:
    """As it is read again in another process."""
    found = read_targets(table, "/etc/helmr.toml")
    assert read_targets(to_json(found), "elsewhere") == found


def read_console(path: Path) -> None:
    folder = path.parent.parent
    read_profile({"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder), "HOME": "/"})


def read_rule(path: Path) -> None:
    rules.read_rule(path.name, folder=path.parent)


# --- what a person's programs and a runtime keep --------------------------------------------------

CREDENTIALS = {"url": "http://127.0.0.1:4356", "key": "hlmr_key_x", "pid": 1, "data_dir": "/x"}
RING = {"keys": [{"id": "k1", "created_at": "2026-01-01T00:00:00Z", "key": "A" * 43 + "="}]}
DRAFT = {
    "wait_id": WAIT,
    "schema_hash": "h",
    "cells": {"/a": "x", "/b": [0, 1], "/c": {"blank": "null"}, "/d": 3},
    "raw": None,
    "operation_id": "op_1",
    "schema": {"type": "object"},
}


def read_draft(path: Path) -> None:
    drafts = DraftStore(path.parent)
    path.rename(path.with_name(f"{WAIT}.h.json"))
    drafts.load(WAIT, "h")
    drafts.load(WAIT, "another")


def as_json(samples: Sequence[Any]) -> st.SearchStrategy[bytes]:
    texts = altered(samples).map(lambda value: json.dumps(value).encode())
    return texts | damaged([json.dumps(one).encode() for one in samples])


# --- the ledger's own -----------------------------------------------------------------------------

LOG_ID = 77


def commit_rows() -> list[Any]:
    """The values of one record of a log of commits."""
    entry = stamp(
        Draft(EntryKind.NOTE_ADDED, {"text": "x"}, None, None, Principal("runtime")),
        session_id=SESSION,
        seq=1,
        recorded_at=NOW,
        previous=bytes(32),
        key=None,
    )
    appends = Appends(
        [replace(entry, feed_offset=1)],
        [Checkpoint(1, SESSION, 1, "{}")],
        [LeaseRow(SESSION, 1, None)],
    )
    return list(json.loads(text_of(appends)))


def records(values: Sequence[Any]) -> bytes:
    """A log of records with these values, each with a right checksum."""
    made = []
    for number, value in enumerate(values, 1):
        text = json.dumps(value).encode("ascii")
        checksum = file_store._checksum(LOG_ID, number, text)
        made.append(
            file_store.HEADER.pack(file_store.MARK, LOG_ID, number, len(text), checksum) + text
        )
    return b"".join(made) + bytes(40)


def read_log(path: Path) -> None:
    log = file_log(path)
    log.open(LOG_ID, 0)
    log.close()
    assert read_unmerged(path, LOG_ID, 0) == log.unmerged()


def marks(values: Sequence[Any]) -> bytes:
    """A head mark of a copy for each value, with a right checksum."""
    made = b""
    for value in values:
        parts = value if isinstance(value, list) else [value]
        fields = [str(part).encode(errors="replace") for part in parts]
        check = files._checksum(fields[0], fields[-1]) if fields else b""
        made += b" ".join([*fields, check]).ljust(files.COPY_BYTES, b"\n")
    return made


def read_mark(path: Path) -> None:
    assert isinstance(HeadMark(path).read(), HeadPosition)


MARKS = [[12, "ab" * 32], [11, "00" * 32]]


async def opened_once(path: Path, keys: LedgerKeys) -> None:
    """Bring a ledger to today's schema."""
    clock = FakeClock(EARLIER.made_at + timedelta(minutes=1))
    await (await open_ledger(path, clock=clock, settings=SMALL, ring=keys.ring)).close()


@cache
def real_backup() -> tuple[list[bytes], LedgerKeys]:
    """The lines of a backup of the earlier ledger, and its keys."""
    with tempfile.TemporaryDirectory() as folder:
        path = EARLIER.unpack(Path(folder) / "data")
        keys = LedgerKeys(read_key_ring(path.parent / "master-keys.json", {}))
        asyncio.run(opened_once(path, keys))
        data = b"".join(stored_backup(path, "1.0"))
    return data.splitlines(keepends=True), keys


EARLIER = Earlier("ledger_0_1_0")


def restore_backup(path: Path) -> None:
    with path.open("rb") as lines:
        now = EARLIER.made_at + timedelta(minutes=1)
        build(path.with_name("ledger.duckdb"), lines, real_backup()[1], now)


FILES = (
    Parser("toml", damaged([HELMR_TOML]), lambda data: parse_toml(data, "x"), (UsageError,)),
    Parser(
        "helmr_toml", damaged([HELMR_TOML]), in_folder("helmr.toml", read_config), (UsageError,)
    ),
    Parser("notice_targets", altered([TARGETS]), read_table, (UsageError,)),
    Parser(
        "console_toml",
        damaged([CONSOLE_TOML]),
        in_folder("helmr/console.toml", read_console),
        (UsageError,),
    ),
    Parser(
        "pyproject",
        damaged([PROJECT_TOML]),
        in_folder("pyproject.toml", lambda path: tasks_of_project(path.parent)),
        (UsageError,),
    ),
    Parser(
        "rule",
        damaged([RULE_TOML, RULES_TOML]),
        in_folder("a.toml", read_rule),
        (UsageError, BadFilter),
    ),
    Parser("credentials", as_json([CREDENTIALS]), in_folder("credentials.json", read_credentials)),
    Parser("draft", as_json([DRAFT]), in_folder("x.json", read_draft)),
    Parser(
        "master_keys",
        as_json([RING]),
        in_folder("master-keys.json", lambda path: read_key_ring(path, {})),
        (BadKeyRing,),
    ),
    Parser(
        "commit_log",
        one_altered([commit_rows()], records) | damaged([records([commit_rows(), commit_rows()])]),
        in_folder("ledger.duckdb.commits", read_log),
        (LedgerBehind, LedgerDamaged),
    ),
    Parser(
        "head_mark",
        one_altered(MARKS, marks) | damaged([marks(MARKS)]),
        in_folder("ledger.duckdb.head", read_mark),
        (LedgerBehind,),
    ),
)


def restoring() -> Parser:
    """The whole way of a backup into a ledger; made when it is asked for, since it takes a real one."""
    lines, _ = real_backup()
    values = [json.loads(line)[:-1] for line in lines[:-1]]
    return Parser(
        "restore",
        one_altered(values, backup_lines),
        in_folder("some.backup", restore_backup),
        (DataError, UsageError),
    )
