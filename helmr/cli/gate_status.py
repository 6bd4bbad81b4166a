"""`helmr gate status`: which clients ask the gate, how they start, and what the gate does not see of them.

Here are the files of settings, too: where each client keeps them, and what they say.
"""

from __future__ import annotations

import itertools
import json as json_module
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command
from helmr.client.profiles import read_toml
from helmr.errors import HelmrError, UsageError
from helmr.gate import CODEX
from helmr.gate.claude_code import CLIENT, KEY_VARIABLE, TRIED, Mode, installed, mode_of
from helmr.gate.starts import is_out_of_date, start_mode, unseen

PROBE_TIMEOUT_S = 5.0
PROBE = b'{"hook_event_name": "Probe"}'
"""An event that tells the gate nothing: the answer says whether the key is taken."""

SETTINGS_BYTES_MAX = 4 * 1024 * 1024
VERSION_TIMEOUT_S = 10.0
STATUS_COLUMNS = ("FILE", "MODE", "TIMEOUT", "ASKS", "STATE")
OUT_OF_DATE = "out of date"
"""The state of hooks of which one is missing that this version of Helmr needs."""

_MANAGED = {
    "linux": Path("/etc/claude-code/managed-settings.json"),
    "darwin": Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
}
"""Administrators' settings of Claude Code, which take precedence over all others."""


class GateClient(StrEnum):
    """Programs that the gate knows."""

    CLAUDE_CODE = CLIENT
    CODEX = CODEX

    @property
    def program(self) -> str:
        """The command that its users type."""
        return {CLIENT: "claude", CODEX: "codex"}[self.value]


@dataclass(frozen=True, slots=True)
class Installation:
    """Hooks of the gate in a file of settings.

    Attributes:
        client: Whose settings they are.
        path: Path of the file.
        is_project: It is that of this folder.
        mode: For which clients the hooks ask.
        timeout_s: Timeout of the hook that asks people, in seconds.
        url: The runtime that it asks.
        key: By which it does; empty if it has none.
        is_out_of_date: A hook is missing.
    """

    client: GateClient
    path: Path
    is_project: bool
    mode: Mode
    timeout_s: float | None
    url: str
    key: str
    is_out_of_date: bool

    @property
    def install(self) -> str:
        """The command that writes the hooks as they are to be."""
        options = " --headless" * (self.mode is Mode.HEADLESS) + " --project" * self.is_project
        return f"helmr gate install {self.client.value}{options}"


def register_status(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "status", finds_runtime=False)(status)


def status(cli: Cli, json: Json = False) -> None:
    """Say which settings have hooks of the gate, whom they ask, how the client starts, and what is not seen.

    Of each client it says the version, and if that was tried; of hooks of an earlier version of Helmr, the command that
    mends them.
    """
    found = [_described(one) for one in installations(os.environ)]
    if json:
        printing.write_json({"items": found, "next_cursor": None})
        return
    if not found:
        printing.note("no settings have hooks of the gate: helmr gate install claude-code")
        return
    columns = ("file", "mode", "timeout_s", "url", "state")
    printing.table(STATUS_COLUMNS, [tuple(one[name] for name in columns) for one in found])
    for one in found:
        for line in _lines(one):
            printing.write(line)


def _described(one: Installation) -> dict[str, Any]:
    version = _version(one.client)
    starts_in = start_mode(one.client.value, version, _said(one.client, os.environ))
    return {
        "file": str(one.path),
        "mode": one.mode.value,
        "timeout_s": one.timeout_s,
        "url": one.url,
        "state": OUT_OF_DATE if one.is_out_of_date else _state(one.url, one.key),
        "install": one.install if one.is_out_of_date else None,
        "client": one.client.value,
        "version": version or None,
        "is_tried": version == TRIED[one.client.value],
        "starts_in": starts_in if one.mode is Mode.INTERACTIVE else None,
        "unseen": unseen(one.mode, starts_in),
    }


def _lines(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for what the table has no room for."""
    if one["install"]:
        yield f"  These hooks are of an earlier version of Helmr. Mend them: {one['install']}"
    tried = TRIED[one["client"]]
    version = one["version"] or "is not on the PATH"
    said = "" if one["is_tried"] else f" (tried with {tried})"
    starts = f"; starts in {one['starts_in']}" if one["starts_in"] else ""
    yield f"  {one['client']} {version}{said}{starts}. Not seen by the gate: {one['unseen']}."


def installations(environ: Mapping[str, str]) -> Iterator[Installation]:
    """The settings that have hooks of the gate."""
    for client, is_project in itertools.product(GateClient, (False, True)):
        path = settings_path(environ, project=is_project, client=client)
        _, settings = read_settings(path)
        hooks = installed(settings)
        asking = next(
            (hooks[one] for one in ("PermissionRequest", "PreToolUse") if one in hooks), None
        )
        if asking is None:
            continue
        url, key = _asks(asking[0], settings, environ)
        mode = mode_of(asking[0])
        yield Installation(
            client=client,
            path=path,
            is_project=is_project,
            mode=mode,
            timeout_s=asking[0].get("timeout"),
            url=url,
            key=key,
            is_out_of_date=is_out_of_date(client.value, mode, hooks),
        )


def _version(client: GateClient) -> str:
    """Return the version of the client that this user would start; empty if there is none."""
    program = shutil.which(client.program)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    words = done.stdout.split()
    return next((word for word in words if word[:1].isdigit()), "")


def _said(client: GateClient, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Read the client's settings files, highest precedence first; skips files that can't be read."""
    users = settings_path(environ, project=False, client=client)
    here = settings_path(environ, project=True, client=client)
    if client is GateClient.CODEX:
        paths = [one.with_name("config.toml") for one in (here, users)]
    else:
        paths = [here, here.with_name("settings.json"), users]
        paths[:0] = [_MANAGED[sys.platform]] if sys.platform in _MANAGED else []
    for path in paths:
        try:
            if client is GateClient.CODEX:
                yield read_toml(path, bytes_max=SETTINGS_BYTES_MAX)
            else:
                yield read_settings(path)[1]
        except (OSError, HelmrError):
            continue


def _asks(
    one: Mapping[str, Any], settings: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, str]:
    """The runtime that a hook asks, and its key."""
    if one.get("type") == "http":
        key = (settings.get("env") or {}).get(KEY_VARIABLE) or environ.get(KEY_VARIABLE, "")
        return str(one.get("url")).partition("/v1/gate/")[0], str(key)
    words = shlex.split(str(one.get("command")))
    options = dict(itertools.pairwise(words))
    try:
        key = Path(options.get("--key-file", "")).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        key = ""
    return options.get("--url", ""), key


def _state(url: str, key: str) -> str:
    from helmr.cli import hook

    if not key:
        return "has no key"
    try:
        hook.post(url, key, PROBE, PROBE_TIMEOUT_S)
    except hook.Away:
        return "does not answer"
    except hook.Unasked:
        return "refuses the key"
    return "answers"


def settings_path(
    environ: Mapping[str, str], *, project: bool, client: GateClient = GateClient.CLAUDE_CODE
) -> Path:
    """A client's hooks: of this folder, in Claude Code's settings that are not checked in, or of the user."""
    if client is GateClient.CODEX:
        folder = environ.get("CODEX_HOME")
        home = Path(folder) if folder else Path.home() / ".codex"
        return (Path.cwd() / ".codex" if project else home) / "hooks.json"
    if project:
        return Path.cwd() / ".claude" / "settings.local.json"
    folder = environ.get("CLAUDE_CONFIG_DIR")
    return (Path(folder) if folder else Path.home() / ".claude") / "settings.json"


def read_settings(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of the settings, and what it says.

    Raises:
        UsageError: It can't be read; the client would not read it either.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "", {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    try:
        found = json_module.loads(text) if text.strip() else {}
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", hint="Mend it first.") from error
    if not isinstance(found, dict) or not isinstance(found.get("hooks", {}), dict):
        raise UsageError(f"{path} holds no settings", hint="Mend it first.")
    return text, found
