"""`helmr backup|restore|verify|repair`: a whole ledger as a file, and whether one is what its entries say."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command, now
from helmr.cli.arguments import replacing
from helmr.cli.key import RING_NAME
from helmr.cli.up import LEDGER_NAME
from helmr.errors import RuntimeNotFound, UsageError
from helmr.platform import sync
from helmr.version import needed, version

if TYPE_CHECKING:
    from helmr_runtime.ledger.log.rebuild import LedgerKeys
    from helmr_runtime.ledger.tools.audit import Audit


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
        _verify_log(log, source, keys_of(keys, nearest(cli)), json=json)
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


def _verify_log(url: str, source: Path | None, keys: LedgerKeys, *, json: bool) -> None:
    from helmr_runtime.ledger.log.stores import open_log
    from helmr_runtime.ledger.tools.stored_log import check_log

    if source is not None:
        raise UsageError("--log checks a store, and a backup is a file", hint="Name one of them.")
    log = open_log(url)
    with tempfile.TemporaryDirectory(prefix="helmr-verify-") as folder:
        found = check_log(log, Path(folder) / LEDGER_NAME, keys, now())
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
    """Stream a backup of the runtime, or of its stopped data directory."""
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
    from helmr_runtime.features import FEATURES
    from helmr_runtime.ledger.log.rebuild import LedgerKeys
    from helmr_runtime.security.keys import ENVIRONMENT_NAME, read_key_ring

    if named is not None:
        read_keys(named)
        return LedgerKeys(read_key_ring(named, {}), FEATURES)
    if data_dir is None and not os.environ.get(ENVIRONMENT_NAME):
        return LedgerKeys(None, FEATURES)
    return LedgerKeys(read_key_ring((data_dir or Path()) / RING_NAME, os.environ), FEATURES)


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
