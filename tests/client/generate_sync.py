"""Makes the blocking client from the awaited one: `make clients`. What a method does is written once.

The awaited files are the source; the blocking ones say so in their first line and are not edited. A test compares.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[2] / "helmr" / "client"
NAMES = {
    "aio.py": "sync.py",
    "aio_sessions.py": "sync_sessions.py",
    "aio_streams.py": "sync_streams.py",
    "aio_access.py": "sync_access.py",
    "aio_notices.py": "sync_notices.py",
    "aio_schedules.py": "sync_schedules.py",
    "aio_waits.py": "sync_waits.py",
}

HEADER = "# Made by `make clients` from {source}; edit that one.\n"

WORDS: tuple[tuple[str, str], ...] = (
    # Texts that say how it is used.
    (r"Belongs to one event loop; close", "May be used from several threads; close"),
    (r"in an `async with`", "in a `with`"),
    (r"the same methods as `Client`, awaited\.", "what a program does with sessions, runs and waits, blocking."),
    (r", awaited\b", ", blocking"),
    (r"Lists and follows are async iterators\.", "Lists and follows are iterators."),
    # Code.
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b(Async)(?=[A-Z])", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\baclose\b", "close"),
    (r"\b(all_pages|wait)_async\b", r"\1"),
    (r"\bclient\.aio\b", "client.sync"),
    (r"\baio_(sessions|streams|access|notices|schedules|waits)\b", r"sync_\1"),
    (r"(Generator\[\w+, None)\]", r"\1, None]"),
)  # fmt: skip


def made_from(source: Path) -> str:
    """The blocking file, formatted."""
    text = source.read_text(encoding="utf-8")
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return _ruff("format", _ruff("check", HEADER.format(source=source.name) + text, "--select=I"))


def _ruff(command: str, text: str, *options: str) -> str:
    fix = ("--fix-only", "--exit-zero") if command == "check" else ()
    arguments = [sys.executable, "-m", "ruff", command, *fix, *options, "--quiet"]
    done = subprocess.run(
        [*arguments, "--stdin-filename", str(CLIENT / "sync.py"), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def outdated() -> list[str]:
    """The blocking files that are not what their source makes."""
    return [
        made
        for source, made in NAMES.items()
        if (CLIENT / made).read_text(encoding="utf-8") != made_from(CLIENT / source)
    ]


def main() -> None:
    """Write them."""
    for source, made in NAMES.items():
        (CLIENT / made).write_text(made_from(CLIENT / source), encoding="utf-8")


if __name__ == "__main__":
    main()
