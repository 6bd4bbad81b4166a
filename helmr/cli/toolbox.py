"""`helmr backup|restore|verify|repair|follow|promote`: a whole ledger as a file, and a copy that is kept up.

`verify` says whether one is what its entries say; a copy becomes the ledger when it must.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import printing
from helmr.cli.access import RING_NAME
from helmr.cli.app import Cli, Json, command, now
from helmr.cli.arguments import replacing
from helmr.cli.up import LEDGER_NAME
from helmr.errors import RuntimeNotFound, Unavailable, UsageError
from helmr.platform import sync
from helmr.version import needed, version

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr_runtime.ledger.log.rebuild import LedgerKeys
    from helmr_runtime.ledger.tools.audit import Audit
    from helmr_runtime.ledger.tools.followed import FollowedLedger


KEYS_BYTES_MAX = 64 * 1024

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="The master keys' file; else HELMR_MASTER_KEYS, or the data directory's own.",
    ),
]


def register_toolbox(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "backup", examples=BACKUP_EXAMPLES)(backup)
    command(app, "restore", examples=RESTORE_EXAMPLES)(restore)
    command(app, "verify", examples=VERIFY_EXAMPLES)(verify)
    command(app, "repair", examples="helmr repair --data-dir .helmr")(repair)


BACKUP_EXAMPLES = """\
helmr backup monday.backup
helmr backup monday.backup --keys /somewhere/else/master-keys.json"""
RESTORE_EXAMPLES = """\
helmr restore monday.backup --data-dir restored --keys /somewhere/else/master-keys.json"""
VERIFY_EXAMPLES = """\
helmr verify --data-dir .helmr
helmr verify monday.backup --keys /somewhere/else/master-keys.json"""


def backup(
    cli: Cli,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The file to write.")],
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="Also write the data directory's master keys there; works only on its machine.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the whole ledger to a file, of a runtime that works or is stopped; needs the role admin.

    The file gets its name only when it is whole. It does not hold the master keys, which a restore needs.
    """
    from helmr_runtime.core.session_file import BackupReader

    ring = _keys_to_copy(cli) if keys is not None else None
    with replacing(dest, is_private=True) as file:
        with _backup_pieces(cli) as pieces:
            for piece in pieces:
                file.write(piece)
        file.flush()
        sync(file.fileno())
        with open(file.name, "rb") as written:  # what is on disk is what is checked
            reader = BackupReader(written)
            for _ in reader.rows():
                pass
    if keys is not None and ring is not None:
        with replacing(keys, is_private=True) as file:
            file.write(ring)
            file.flush()
            sync(file.fileno())
    found = {
        "file": str(dest),
        "through": reader.header.through,
        "entries": reader.entries,
        "checkpoints": reader.checkpoints,
        "bytes": dest.stat().st_size,
        "keys": str(keys) if keys is not None else None,
    }
    if json:
        printing.write_json(found)
        return
    printing.fields(list(found.items()))
    if keys is None:
        printing.note(
            "helmr: the master keys are not in it; keep a copy of them apart (--keys FILE)"
        )


def restore(
    cli: Cli,
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `helmr backup` wrote.")],
    keys: KeysFile = None,
    json: Json = False,
) -> None:
    """Make the data directory --data-dir from a backup and check it; the folder must be empty or missing.

    A runtime that you start on it goes on from the backup: waits can be answered, deadlines fall due, runs execute.
    Don't start one while the original works: both would do what must be done only once.
    """
    if cli.data_dir is None:
        raise UsageError("restore into which folder?", hint="Name it: --data-dir DIR.")
    with needed("local"):
        from helmr_runtime.ledger.tools.restore import restore as restore_backup

    ring_file = (RING_NAME, read_keys(keys)) if keys is not None else None
    path = cli.data_dir.absolute() / LEDGER_NAME
    made = restore_backup(_existing(source), path, keys_of(keys, None), ring_file, now())
    _show_audit(made.checked, json, f"restored to {cli.data_dir}, and checked")


def verify(
    cli: Cli,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="BACKUP", help="A backup; without it, checks the data directory."),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Check the log of commits in this store, also beside its runtime."
        ),
    ] = None,
    keys: KeysFile = None,
    json: Json = False,
) -> None:
    """Check a stopped runtime's data directory, a backup, or a log in a store, against its entries; changes nothing.

    It checks chains, seqs, tables, checkpoints and the head mark; in a ledger that an older Helmr wrote, all but the
    tables. It ends with 7 at the first bad place, and names it.
    It checks a backup, or a log in a store, by making a ledger of it in a temporary folder.
    """
    with needed("local"):
        from helmr_runtime.ledger.log.stored import stored_ledger
        from helmr_runtime.ledger.tools.audit import audit
        from helmr_runtime.ledger.tools.restore import build

    at = now()
    if log is not None:
        _verify_log(log, source, keys, json=json)
        return
    if source is not None:
        with (
            tempfile.TemporaryDirectory(prefix="helmr-verify-") as folder,
            _existing(source).open("rb") as lines,
        ):
            found = build(Path(folder) / LEDGER_NAME, lines, keys_of(keys, None), at).checked
        _show_audit(found, json, f"{source} is whole")
        return
    data_dir = stopped_data_dir(cli)
    with locked(data_dir), stored_ledger(data_dir / LEDGER_NAME) as ledger:
        found = audit(ledger, keys_of(keys, data_dir), at)
    _show_audit(found, json, f"{data_dir} is whole")


def _verify_log(url: str, source: Path | None, keys: Path | None, *, json: bool) -> None:
    from helmr_runtime.ledger.log.stores import open_log
    from helmr_runtime.ledger.tools.stored_log import check_log

    if source is not None:
        raise UsageError("--log checks a store, and a backup is a file", hint="Name one of them.")
    log = open_log(url)
    with tempfile.TemporaryDirectory(prefix="helmr-verify-") as folder:
        found = check_log(log, Path(folder) / LEDGER_NAME, keys_of(keys, None), now())
    name = f"{found.store} is whole up to commit {found.commit}"
    _show_audit(found.checked, json, name)


def repair(
    cli: Cli,
    drop_from: Annotated[
        int | None,
        typer.Option(
            "--drop-from",
            min=1,
            metavar="OFFSET",
            help="Leave out all entries from this feed offset on.",
        ),
    ] = None,
    without_checkpoints: Annotated[
        bool,
        typer.Option(
            "--without-checkpoints", help="Copy no checkpoint, whether it can be read or not."
        ),
    ] = False,
    keys: KeysFile = None,
    json: Json = False,
) -> None:
    """Rebuild a stopped runtime's ledger from its entries, if `verify` finds it bad; keeps the old file.

    It computes the tables again and leaves out checkpoints that do not fit. It never makes up entries, and drops them
    only with --drop-from.
    """
    with needed("local"):
        from helmr_runtime.ledger.tools.repair import repair as repair_ledger

    data_dir = stopped_data_dir(cli)
    with locked(data_dir):
        done = repair_ledger(
            data_dir / LEDGER_NAME,
            keys_of(keys, data_dir),
            now(),
            drop_from=drop_from,
            without_checkpoints=without_checkpoints,
        )
    found = {
        "damage": done.damage,
        "dropped_entries": done.dropped_entries,
        "dropped_checkpoints": done.dropped_checkpoints,
        "kept": str(done.kept) if done.kept is not None else None,
        **asdict(done.checked),
    }
    if json:
        printing.write_json(found)
        return
    printing.fields(list(found.items()))
    if done.damage is None:
        printing.note(f"helmr: {data_dir} is whole; nothing was changed")


# --- parts ----------------------------------------------------------------------------------------


@contextmanager
def _backup_pieces(cli: Cli) -> Iterator[Iterable[bytes]]:
    """Of the runtime that is meant, or of its data directory when it is stopped."""
    try:
        client = cli.client()
    except RuntimeNotFound:
        if nearest(cli) is None:
            raise
    else:
        with client:
            yield client.backup()
        return
    with needed("local"):
        from helmr_runtime.ledger.tools.restore import stored_backup
    data_dir = stopped_data_dir(cli)
    with locked(data_dir):
        yield stored_backup(data_dir / LEDGER_NAME, version())


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    from helmr_runtime.launchers.startup import lock

    with lock(data_dir, printing.note):
        yield


def nearest(cli: Cli) -> Path | None:
    from helmr.client.discovery import nearest_data_dir

    data_dir = cli.data_dir or nearest_data_dir(Path.cwd())
    return data_dir if data_dir is not None and (data_dir / LEDGER_NAME).is_file() else None


def stopped_data_dir(cli: Cli) -> Path:
    data_dir = nearest(cli)
    if data_dir is None:
        raise UsageError("there is no ledger here", hint="Name the data directory: --data-dir DIR.")
    return data_dir.absolute()


def _existing(source: Path) -> Path:
    if not source.is_file():
        raise UsageError(f"{source} is not a file", hint="Name a file that `helmr backup` wrote.")
    return source


def keys_of(named: Path | None, data_dir: Path | None) -> LedgerKeys:
    """The master keys of a file, of the environment or of the data directory; none of them is not an error yet."""
    from helmr_runtime.ledger.log.rebuild import LedgerKeys
    from helmr_runtime.security.keys import ENVIRONMENT_NAME, read_key_ring

    if named is not None:
        read_keys(named)
        return LedgerKeys(read_key_ring(named, {}))
    if data_dir is None and not os.environ.get(ENVIRONMENT_NAME):
        return LedgerKeys(None)
    return LedgerKeys(read_key_ring((data_dir or Path()) / RING_NAME, os.environ))


def _keys_to_copy(cli: Cli) -> bytes:
    from helmr_runtime.security.keys import key_ring_text

    ring = keys_of(None, nearest(cli)).ring
    if ring is None:
        raise UsageError(
            "there are no master keys here",
            hint="Run it where the data directory is: --data-dir DIR.",
        )
    return key_ring_text(ring)


def read_keys(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(KEYS_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror or error}") from error


def _show_audit(found: Audit, json: bool, said: str) -> None:
    if json:
        printing.write_json(asdict(found))
        return
    printing.fields(list(asdict(found).items()))
    printing.note(f"helmr: {said}")
    if not found.tables:
        printing.note(
            f"helmr: its tables have the older schema {found.schema} and were not compared; "
            "the next start brings them to the new one"
        )


WAIT_S = 10.0
"""How long one call waits for the next entry."""

SAY_EVERY_S = 10.0
PAUSE_S = 1.0
"""Between tries while the primary does not answer."""


def register_following(app: typer.Typer) -> None:
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
            "--into", metavar="DIR", help="The directory for the copy; made if it is missing."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="How the primary names this follower; else this machine's name.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End once the copy has everything.")] = False,
    json: Json = False,
) -> None:
    """Keep a copy of a runtime's ledger up to date, in another directory; needs the role admin.

    What it has stored is on disk. You may end or kill it at any time; it goes on where it was. It holds no keys:
    `helmr promote` needs them.
    """
    with needed("local"):
        from helmr_runtime.ledger.tools.followed import followed_ledger

    path = into.absolute() / LEDGER_NAME
    with _until_ended() as ended, followed_ledger(path, makes=True) as followed:
        follower = _Follower(followed, name or _machine_name(), ended, json=json)
        while not ended.is_set():
            try:
                with cli.client() as client:  # found again: it may have another port since
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
        typer.Option("--fenced", help="Confirm that the primary is stopped and stays stopped."),
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
    """Make a follower's directory (--data-dir) the ledger: check all of it, and end its following.

    The old primary stops acknowledging as soon as a client that has met the new one speaks to it. Entries that the old
    primary acknowledged and the follower did not get are missing here: --compare prints them.
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
    with needed("local"):
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


def _ring_keeper(data_dir: Path, keys: LedgerKeys) -> Callable[[], None]:
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
            printing.write_json({"offset": offset, "lag": lag, "at": now().isoformat()})
        else:
            printing.note(f"helmr: at {offset}, {lag} behind")


def _compare(data_dir: Path, old_dir: Path, json: bool) -> None:
    with needed("local"):
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
