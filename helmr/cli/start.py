"""The first of the command line that runs, before anything that takes time to import.

Until a command is there to be interrupted, Ctrl-C ends the process at once and in silence, as it does when the
command has ended and the interpreter puts its things away.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` first makes enums, and Ctrl-C may fall into that
import os
import sys

TYPE_CHECKING = False  # `typing` takes long
if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130
"""`ExitCode.INTERRUPTED`, whose module is not imported yet."""


def main() -> NoReturn:
    """Run the command of this process, then exit with its code."""
    _signal.signal(_signal.SIGINT, _end)
    if sys.argv[1:] == ["--version"] and sys.stdout is not None:
        _tell_version()
    if sys.argv[1:] == ["waiting", "--count"]:
        from helmr.cli import count

        count.main()
    if sys.argv[1:3] == ["gate", "hook"] and not {"-h", "--help"} & {*sys.argv}:
        from helmr.cli import hook

        if sys.argv[3:4] and sys.argv[3] in hook.CLIENTS:
            if not {hook.RULES, f"--mode={hook.RULES}"} & {*sys.argv[4:]}:
                hook.main(sys.argv[3], sys.argv[4:])
            from helmr.cli import rules_hook

            rules_hook.main(sys.argv[3], sys.argv[4:])
    _start_with_seed(sys.argv[1:])
    from helmr.cli.main import main as run

    run()


def _start_with_seed(arguments: list[str]) -> None:
    """Restart now with the runtime's hash seed, so that the rest is imported once.

    Only if the arguments plainly choose one process and a data directory; otherwise the command restarts after parsing.
    """
    from pathlib import Path

    from helmr import hash_seed

    hash_seed.is_own_program = True
    command, options = arguments[:1], arguments[1:]
    if command not in (["dev"], ["up"]):
        return
    data_dir = data_dir_of(options)
    if data_dir is not None and (command == ["dev"] or is_in_process(options, Path(data_dir))):
        hash_seed.start_with_seed(Path(data_dir))


def is_in_process(options: list[str], data_dir: Path) -> bool:
    """True if the options of `up` choose one process, or leave the choice to a `helmr.toml` that does."""
    if {"--in-process", "--ray"} & {*options}:
        return "--ray" not in options
    if any(one.startswith(("--address", "--config")) for one in options):
        return False
    import tomllib

    try:
        found = tomllib.loads((data_dir.absolute().parent / "helmr.toml").read_text("utf-8"))
        return bool(found["runtime"]["form"] == "in-process")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False  # the command says what is wrong


def data_dir_of(options: list[str]) -> str | None:
    """Return `--data-dir`, else the environment's, or the default; None if only a parser can tell."""
    from helmr.client.whereabouts import named_data_dir
    from helmr.hash_seed import DATA_DIR

    places = [at for at, one in enumerate(options) if one.startswith("--data-dir")]
    if "--" in options or len(places) > 1:
        return None
    if not places:
        return str(named_data_dir(os.environ) or DATA_DIR)
    name, equals, value = options[places[0]].partition("=")
    if not equals:
        value = "".join(options[places[0] + 1 : places[0] + 2])
    return value if name == "--data-dir" and value else None


def _tell_version() -> NoReturn:
    """Print the version without importing the rest of the command line."""
    from helmr.version import version

    try:
        sys.stdout.write(f"helmr {version()}\n")
        sys.stdout.flush()
    except OSError:  # the reader is gone, or the disk is full
        os._exit(1)
    os._exit(0)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End at once: no output waits for a flush, and an import can't handle an exception."""
    os._exit(INTERRUPTED)
