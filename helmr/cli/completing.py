"""What the shell offers for ids, tasks and streams when Tab is pressed: what the runtime has, or nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from helmr.cli.app import Cli
from helmr.errors import HelmrError
from helmr.safe_text import one_line

if TYPE_CHECKING:
    from helmr.client import Client

OFFERED_MAX = 50
"""More are no choice but a list."""

Offer = tuple[str, str]
Complete = Callable[[typer.Context, str], list[Offer]]


def _offers(found: Callable[[Client], Iterable[tuple[str, str | None]]]) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        try:
            with _client(ctx) as client:
                fitting = (one for one in found(client) if one[0].startswith(incomplete))
                return [
                    (one_line(value, None), one_line(text or "", 60))
                    for value, text in itertools.islice(fitting, OFFERED_MAX)
                ]
        except (HelmrError, OSError):  # a prompt is no place for errors
            return []

    return complete


@contextmanager
def _client(ctx: typer.Context) -> Iterator[Client]:
    """The client that the options typed so far name."""
    given = {**ctx.find_root().params, **{k: v for k, v in ctx.params.items() if v is not None}}
    data_dir, key_file = given.get("data_dir"), given.get("key_file")
    cli = Cli(
        url=given.get("url"),
        at=given.get("at"),
        data_dir=Path(data_dir) if data_dir else None,
        key_file=Path(key_file) if key_file else None,
    )
    with cli.with_context(os.environ).client() as client:
        yield client


sessions = _offers(
    lambda client: (
        (one.id, f"{one.task} {one.activity}") for one in client.sessions.page(limit=200).items
    )
)
runs = _offers(
    lambda client: (
        (one.id, f"{one.task} {one.status}") for one in client.runs.page(limit=200).items
    )
)
waits = _offers(
    lambda client: (
        (one.id, one.subject or one.stream) for one in client.waits.page(limit=200).items
    )
)
tokens = _offers(
    lambda client: (
        (one.id, one.subject or one.status) for one in client.tokens.page(limit=200).items
    )
)
tasks = _offers(lambda client: ((one.id, None) for one in client.tasks.list()))
inputs = _offers(
    lambda client: {
        one.name: (one.name, None) for one in client.streams.list() if one.direction == "input"
    }.values()
)
outputs = _offers(
    lambda client: {
        one.name: (one.name, None) for one in client.streams.list() if one.direction == "output"
    }.values()
)
