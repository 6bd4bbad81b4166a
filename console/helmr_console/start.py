"""Starts the console: settings, log, terminal, signals; with `--check` it only reports whether it could.

The user's own settings: `$XDG_CONFIG_HOME/helmr/console.toml`.

```
name = "prod-eu"  # shown in the header, so that a wrong window is noticed
theme = "helmr-light"
identity = "ana"  # the person answers are recorded for; $USER without it
[keys]
answer = "A"  # an action's id and its keys, comma-separated
```

The file also holds filters, notices and profiles, which `helmr.client.profiles` reads.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import os
import platform
import shutil
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helmr.client.aio import AsyncClient
from helmr.client.calls import Retry
from helmr.client.endpoint import Endpoint
from helmr.client.profiles import Profile, person, read_profile, read_settings, state_folder, texts
from helmr.errors import HelmrError, UsageError
from helmr.person.review.sending import HOLD_S
from helmr.wire.safe_text import one_line
from helmr_console.actions import BY_ID
from helmr_console.app import ConsoleApp
from helmr_console.console import Options
from helmr_console.look import DEFAULT_THEME, THEMES
from helmr_console.screens.base import HEIGHT_MIN, WIDTH_MIN


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the file."""

    name: str = ""
    theme: str = DEFAULT_THEME
    keys: Mapping[str, str] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)


def read_config(environ: Mapping[str, str], profile: str | None = None) -> Config:
    """Read the file's settings; without a file, the defaults.

    Args:
        profile: Replaces the one that the file names.

    Raises:
        UsageError: The file can't be read, or names an unknown theme, profile or action.
    """
    found, path = read_settings(environ)
    keys = texts(found.get("keys"), path, "keys")
    unknown = sorted(set(keys) - set(BY_ID))
    if unknown:
        raise UsageError(
            f"{path}: there is no action {unknown[0]!r}",
            hint="F1 in the console lists them by key.",
        )
    return Config(
        name=str(found.get("name", "")),
        theme=check_theme(str(found.get("theme", DEFAULT_THEME))),
        keys=keys,
        profile=read_profile(environ, profile),
    )


def check_theme(name: str) -> str:
    """The theme's name.

    Raises:
        UsageError: No theme has that name; the hint lists them.
    """
    if name not in THEMES:
        raise UsageError(f"there is no theme {name!r}", hint=f"Themes: {', '.join(THEMES)}.")
    return name


LOG_BYTES_MAX = 1_000_000
RETRY = Retry(tries_max=3, total_s=4.0, pause_s=0.1, pause_max_s=0.5)
"""A few quick tries inside a call; the console itself shows STALE and reconnects."""
NEW_OBJECTS, MIDDLE_EVERY, FULL_EVERY = 5_000, 10, 4
"""Thresholds of the garbage collector's three generations (`gc.set_threshold`)."""


def main(
    *,
    endpoint: Endpoint,
    name: str | None = None,
    on_behalf_of: str | None = None,
    read_only: bool = False,
    ascii_only: bool = False,
    theme: str | None = None,
    check: bool = False,
    hold_s: float = HOLD_S,
    profile: str | None = None,
) -> int:
    """Run the console until the operator leaves; return the exit code.

    Args:
        endpoint: The gateway.
        name: The gateway's name in the header; without it the config's name, else its address.
        on_behalf_of: The person who answers; without it the config's `identity`, else `$USER`.
        read_only: Refuse all actions that write.
        ascii_only: Use only signs that a plain terminal has.
        theme: Replaces the config's.
        check: Only print a report, and end.
        hold_s: Seconds in which a confirmed answer can be taken back.
        profile: Replaces the config's.

    Raises:
        UsageError: The config can't be read, the theme or profile does not exist, or this is not a terminal.
    """
    environ = dict(os.environ)
    config = read_config(environ, profile)
    chosen = check_theme(theme) if theme is not None else config.theme
    if check:
        sys.stdout.write(asyncio.run(report(endpoint, environ)) + "\n")
        return asyncio.run(_reachable(endpoint))
    streams = (sys.stdin, sys.stdout, sys.stderr)  # Textual draws on stderr
    if not all(one.isatty() for one in streams) or environ.get("TERM") == "dumb":
        raise UsageError(
            "the console needs a terminal that can move its cursor, also as stderr",
            hint="`helmr wait list` and `helmr wait answer` do the same in plain lines.",
        )
    options = Options(
        read_only=read_only,
        ascii_only=ascii_only,
        theme=chosen,
        name=name or config.name,
        identity=person(environ, on_behalf_of),
        keys=config.keys,
        profile=config.profile,
        state_folder=state_folder(environ),
        environ=environ,
        handle_signals=True,
        hold_s=hold_s,
    )
    _log_to(options.log_path)
    return _run(endpoint, options)


async def _proven(endpoint: Endpoint) -> str | None:
    """The person that the credential proves; None for a service's, or while the gateway does not answer."""
    try:
        once = replace(RETRY, tries_max=1, total_s=1.0)
        async with AsyncClient(url=endpoint.address, key=endpoint.key, retry=once) as client:
            found = await client.people.whoami()
    except HelmrError:
        return None
    return found.person.id if found.person is not None else None


def _run(endpoint: Endpoint, options: Options) -> int:
    proven = asyncio.run(_proven(endpoint))
    options = replace(options, identity=proven or options.identity)
    client = AsyncClient(
        url=endpoint.address,
        key=endpoint.key,
        on_behalf_of=options.identity if proven is None else None,
        retry=RETRY,
    )
    settle()
    draw_buffered()
    app = ConsoleApp(client, options)
    # Drop keys typed before anything was on screen: an early `q` would end the console.
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    code = app.run()
    if app.fatal:
        sys.stderr.write(
            f"helmr: the console met a fault of its own: {app.fatal}\n"
            f"hint: Start it again, drafts are kept; the trace is in {options.log_path}.\n"
        )
    # A fault ends the app without a result; exit with the app's code then.
    return code if code is not None else app.return_code or 0


def settle() -> None:
    """Exempt all loaded objects from garbage collection, and collect the rest less often.

    A full collection over Textual's modules takes about 130 ms, and opening a screen makes enough objects to trigger
    one: measured, every other session opened in 190 ms instead of 60. With CPython's thresholds a pause of 60 ms
    remained at every second form; with these, one of 100 ms at about every tenth.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, MIDDLE_EVERY, FULL_EVERY)


def draw_buffered() -> None:
    """Give Textual a buffered stderr, which finishes a write that a signal cut short.

    With `PYTHONUNBUFFERED`, as in most containers, stderr has no buffer: a frame interrupted by a stop (`SIGSTOP`, a
    debugger) lost its rest, in the middle of a character or an escape sequence.
    """
    stream = sys.__stderr__
    if stream is not None and isinstance(stream.buffer, io.RawIOBase):
        sys.__stderr__ = open(  # type: ignore[misc]  # noqa: SIM115 - Textual takes this one, for as long as it lives
            stream.fileno(), "w", encoding=stream.encoding, errors=stream.errors, closefd=False
        )


async def report(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """Report for `--check`: one fact a line, the important word first."""
    size = shutil.get_terminal_size()
    fits = "" if size.columns >= WIDTH_MIN and size.lines >= HEIGHT_MIN else ", too small"
    lines = [
        f"helmr {_version('helmr')}, textual {_version('textual')}, python {platform.python_version()}",
        f"terminal {environ.get('TERM', 'unknown')}, {size.columns}x{size.lines}{fits}",
        f"colours {_colours(environ)}",
        f"gateway {endpoint.address}",
    ]
    try:
        async with AsyncClient(url=endpoint.address, key=endpoint.key, retry=RETRY) as client:
            health = await client.health()
            state = "ready" if health.ready else f"not ready: {'; '.join(health.reasons)}"
            lines.append(f"runtime {one_line(health.version, 40)}, {one_line(state, 200)}")
            page = await client.waits.page(limit=1)
            lines.append(f"key accepted, {'waits are open' if page.items else 'no wait is open'}")
    except HelmrError as error:
        lines.append(f"error {one_line(error.message, 300)}")
        if error.hint:
            lines.append(f"hint {one_line(error.hint, 300)}")
    return "\n".join(lines)


async def _reachable(endpoint: Endpoint) -> int:
    try:
        async with AsyncClient(url=endpoint.address, key=endpoint.key, retry=RETRY) as client:
            await client.waits.page(limit=1)
    except HelmrError as error:
        return error.exit_code
    return 0


def _colours(environ: Mapping[str, str]) -> str:
    if environ.get("NO_COLOR"):
        return "off by NO_COLOR"
    if environ.get("COLORTERM") in ("truecolor", "24bit"):
        return "16 million"
    return "256" if "256" in environ.get("TERM", "") else "16"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _log_to(path: Path) -> None:
    """Log to a private file, emptied at the start when over `LOG_BYTES_MAX`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = not path.exists() or path.stat().st_size > LOG_BYTES_MAX
    path.touch(mode=0o600)
    handler = logging.FileHandler(path, mode="w" if fresh else "a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("helmr.console")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
