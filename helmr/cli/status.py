"""`helmr status` says whether a runtime runs and is ready, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import describe, printing
from helmr.cli.app import Cli, ExitCode, Json, command
from helmr.wire.durations import spell

if TYPE_CHECKING:
    from helmr.client import Endpoint
    from helmr.models import Health


HOST_COLUMNS = ("NAME", "STATE", "SESSIONS", "ROOM", "PID", "NODE", "SINCE")
"""`NODE` is Ray's id of it, where a runtime has several."""


def register_status(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "status")(status)


def status(
    cli: Cli,
    every: Annotated[
        bool, typer.Option("--all", help="All numbers of pool and ledger, and each host.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the runtime that commands here talk to; exit code 6 if it is not ready."""
    with cli.client() as client:
        endpoint, health = client.endpoint, client.health()
    if json:
        found = {"url": endpoint.url, "found_by": endpoint.found_by, "data_dir": endpoint.data_dir}
        printing.write_json({**found, "health": health.model_dump(mode="json")})
    elif every:
        printing.fields(_fields(endpoint, health))
        if rows := _host_rows(health):
            printing.write("")
            printing.table(HOST_COLUMNS, rows)
    else:
        printing.fields(_in_short(endpoint, health))
    if not health.ready:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _in_short(endpoint: Endpoint, health: Health) -> list[tuple[str, object]]:
    """Print readiness, queued work, waits for people, and problems."""
    ready = f"{'yes' if health.ready else 'no'}, {endpoint.url}"
    if health.started_at is not None:
        ready += f", started {printing.distance(health.started_at)}"
    pairs: list[tuple[str, object]] = [
        ("ready", ready),
        *(("because", reason) for reason in health.reasons),
    ]
    if "queue" in health.pool:
        pairs.append(("queue", _queue(health.pool)))
    if waiting := {name: n for name, n in health.pool.get("limits", {}).items() if n}:
        pairs.append(("limits", f"{_listed(waiting)}: helmr limit list"))
    if "waits_pending" in health.counts:
        waits = f"{health.counts['waits_pending']} pending"
        if "sessions_open" in health.counts:
            waits += f", {health.counts['sessions_open']} sessions open"
        pairs.append(("waits", waits))
    if store := health.ledger.get("log_store"):
        pairs.append(("log", store))
    if failed := health.counts.get("sessions_failed"):
        count = f"{failed} {'session' if failed == 1 else 'sessions'}"
        pairs.append(("failed", f"{count}: helmr session list --filter is:failed"))
    pairs += _wrong(health)
    return pairs


def _wrong(health: Health) -> list[tuple[str, object]]:
    """Return the warnings, and the degraded parts by their names in `docs/monitoring.md`."""
    pairs: list[tuple[str, object]] = [("warning", one) for one in health.warnings]
    return [*pairs, ("degraded", ", ".join(health.degraded))] if health.degraded else pairs


def _listed(waiting: Mapping[str, int]) -> str:
    """`41 wait for openai, 1 waits for search`."""
    return ", ".join(
        f"{n} {'waits' if n == 1 else 'wait'} for {name}" for name, n in waiting.items()
    )


def _queue(pool: Mapping[str, Any]) -> str:
    count = pool["queue"]
    text = (
        "no run waits for room"
        if not count
        else f"{count} {'run waits' if count == 1 else 'runs wait'} for room"
    )
    oldest_s = pool.get("queue_oldest_s")
    if count and isinstance(oldest_s, int | float):
        text += f", the oldest for {spell(oldest_s)}"
    sessions = pool.get("sessions")
    if isinstance(sessions, Mapping) and "live" in sessions and "room" in sessions:
        text += f"; {sessions['live']} live, room for {sessions['room']} more"
    return text


def _fields(endpoint: Endpoint, health: Health) -> list[tuple[str, object]]:
    shown = ("ready", "host_list", "warnings", "states")
    pool = {name: value for name, value in health.pool.items() if name not in shown}
    return [
        ("url", endpoint.url),
        ("found by", endpoint.found_by),
        ("ready", "yes" if health.ready else "no"),
        *(("because", reason) for reason in health.reasons),
        *_wrong(health),
        ("version", health.version),
        ("pid", endpoint.pid or health.pid),
        ("data dir", health.data_dir or endpoint.data_dir),
        ("started", describe.time_and_distance(health.started_at)),
        *_flat("", pool),
        *_flat("ledger ", health.ledger),
    ]


def _flat(prefix: str, parts: Mapping[str, Any]) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, value in parts.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            pairs += _flat(f"{label} ", value)
        elif value is not None and value != []:
            pairs.append((label, value if isinstance(value, str) else describe.value_text(value)))
    return pairs


def _host_rows(health: Health) -> list[tuple[object, ...]]:
    hosts = health.pool.get("host_list")
    if not isinstance(hosts, list):
        return []
    return [
        tuple(one.get(name.lower()) for name in HOST_COLUMNS)
        for one in hosts
        if isinstance(one, Mapping)
    ]
