"""`helmr follow` and `helmr promote`: a copy of a ledger that is kept up, and becomes the ledger when it must."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import clock, extras, printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.key import RING_NAME
from helmr.cli.toolbox import KeysFile, keys_of, locked, stopped_data_dir
from helmr.cli.up import LEDGER_NAME
from helmr.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr_runtime.ledger.log.rebuild import Keys
    from helmr_runtime.ledger.tools.followed import FollowedLedger

WAIT_S = 10.0
"""How long one call waits for the next entry."""

SAY_EVERY_S = 10.0
PAUSE_S = 1.0
"""Between tries while the primary does not answer."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "follow", examples=FOLLOW_EXAMPLES)(follow)
    command(app, "promote", examples=PROMOTE_EXAMPLES)(promote)


FOLLOW_EXAMPLES = """\
helmr follow --into /other/disk/copy --url https://helmr.example.com --key-file admin.key
helmr follow --into /other/disk/copy --once"""
PROMOTE_EXAMPLES = """\
helmr promote --fenced --data-dir /other/disk/copy --keys /somewhere/else/master-keys.json
helmr promote --compare /old/disk/.helmr --data-dir /other/disk/copy"""


def follow(
    cli: Cli,
    into: Annotated[
        Path,
        typer.Option(
            "--into", metavar="DIR", help="The directory to keep; made if it is not there."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="By which the primary tells of it; this machine's name."
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when it has all.")] = False,
    json: Json = False,
) -> None:
    """Keep a copy of a runtime's ledger up to date, in another directory; needs the role admin.

    What it has stored is on disk. It may be ended or killed at any time, and goes on where it was. It holds no keys:
    `helmr promote` needs them.
    """
    with extras.needed("runtime"):
        from helmr_runtime.ledger.tools.followed import followed_ledger

    path = into.absolute() / LEDGER_NAME
    with _until_ended() as ended, followed_ledger(path, makes=True) as followed:
        follower = _Follower(followed, name or _machine_name(), ended, json=json)
        while not ended.is_set():
            try:
                with cli.client() as client:  # found anew: it may have another port since
                    follower.follow(client, once=once)
            except Unavailable as error:
                if once or not follower.has_met:
                    raise
                printing.note(f"helmr: the primary does not answer: {error.message}")
                ended.wait(PAUSE_S)
            if once:
                return


def promote(
    cli: Cli,
    fenced: Annotated[
        bool,
        typer.Option("--fenced", help="You know that the primary is stopped, and stays so."),
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="OLD_DIR",
            help="Print what the old primary has acknowledged and this ledger lacks; changes nothing.",
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="What the ledger's entry says.")
    ] = None,
    keys: KeysFile = None,
    json: Json = False,
) -> None:
    """Make a follower's directory (--data-dir) the ledger: check all of it, and have it go on by itself.

    The old primary acknowledges nothing more as soon as a client that has met the new one speaks to it. What it had
    acknowledged that the follower had not got yet is not here: --compare prints it.
    """
    data_dir = stopped_data_dir(cli)
    if compare is not None:
        _compare(data_dir, compare.absolute(), json)
        return
    if not fenced:
        raise UsageError(
            "a ledger is promoted only where its primary can't acknowledge anything any more",
            hint="Stop the old runtime for good, then say so with --fenced.",
        )
    with extras.needed("runtime"):
        from helmr_runtime.clock import SystemClock
        from helmr_runtime.ledger.tools.followed import promote as promote_ledger

    with locked(data_dir):
        used = keys_of(keys, data_dir)
        keep = _ring_keeper(data_dir, used) if keys is not None else _keep_nothing
        path = data_dir / LEDGER_NAME
        done = asyncio.run(promote_ledger(path, used, SystemClock(), reason, on_checked=keep))
    if json:
        printing.write_json(asdict(done))
        return
    printing.fields(list(asdict(done).items()))
    printing.note(
        f"helmr: start it with `helmr up --data-dir {data_dir}`; everything up to {done.after} is here"
    )


# --- parts ----------------------------------------------------------------------------------------


def _ring_keeper(data_dir: Path, keys: Keys) -> Callable[[], None]:
    """Writes the master keys that were given into the data directory, unless it has them.

    Raises:
        UsageError: It has others.
    """
    from helmr_runtime.security.keys import can_replace, read_key_ring, write_key_ring

    ring, path = keys.ring, data_dir / RING_NAME
    if ring is None or not can_replace(ring, read_key_ring(path, {})):
        return _keep_nothing
    return lambda: write_key_ring(path, ring)


def _keep_nothing() -> None:
    """The data directory has its keys, or gets them elsewhere."""


class _Follower:
    """Asks for pages and stores them.

    Attributes:
        has_met: A primary has answered, now or to an earlier process.
    """

    def __init__(
        self, followed: FollowedLedger, name: str, ended: threading.Event, *, json: bool
    ) -> None:
        self.has_met = followed.position.offset > 0
        self._followed = followed
        self._name = name
        self._ended = ended
        self._json = json
        self._said_at_s = 0.0

    def follow(self, client: Client, *, once: bool) -> None:
        """Until it is to end, or has all and that was asked for.

        Raises:
            Unavailable: The primary does not answer.
            LedgerDiverged: It has another ledger.
        """
        while not self._ended.is_set():
            at = self._followed.position
            page = client.copy(
                at.offset,
                hash=at.hash,
                system_offset=at.system_offset,
                system_hash=at.system_hash,
                wait=0 if once else WAIT_S,
                follower=self._name,
            )
            self.has_met = True
            self._followed.apply(page)
            has_all = page.through >= page.head and self._followed.is_whole
            now_s = time.monotonic()
            if now_s - self._said_at_s >= SAY_EVERY_S or (once and has_all):
                self._said_at_s = now_s
                self._say(max(0, page.head - page.through))
            if once and has_all:
                return

    def _say(self, lag: int) -> None:
        offset = self._followed.position.offset
        if self._json:
            printing.write_json({"offset": offset, "lag": lag, "at": clock.now().isoformat()})
        else:
            printing.note(f"helmr: at {offset}, {lag} behind")


def _compare(data_dir: Path, old_dir: Path, json: bool) -> None:
    with extras.needed("runtime"):
        from helmr_runtime.ledger.log.stored import stored_ledger
        from helmr_runtime.ledger.tools.followed import difference, lost_entries

    with (
        stored_ledger(data_dir / LEDGER_NAME) as promoted,
        stored_ledger(old_dir / LEDGER_NAME) as old,
    ):
        found = difference(promoted, old)
        lost = list(lost_entries(old, found.after))
    if json:
        printing.write_json({**asdict(found), "entries": lost})
        return
    columns = ("OFFSET", "RECORDED", "SESSION", "SEQ", "KIND")
    names = ("feed_offset", "recorded_at", "session_id", "seq", "kind")
    printing.table(columns, [tuple(entry[name] for name in names) for entry in lost])
    alike = "the same" if found.is_same else "NOT the same: these are two ledgers"
    printing.note(
        f"helmr: up to {found.after} they are {alike}; {found.lost} entries are only in {old_dir}"
    )


def _machine_name() -> str:
    letters = (one if one.isascii() and one.isalnum() else "-" for one in socket.gethostname())
    return "".join(letters).strip("-")[:64] or "follower"


@contextmanager
def _until_ended() -> Iterator[threading.Event]:
    """Set when the process is asked to end; a page that is being stored is stored whole."""
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
