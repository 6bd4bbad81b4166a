"""`helmr gate` puts the gate's hooks into a client's settings, takes them out, and runs agents behind it.

The hook itself is `helmr.cli.hook`.
"""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import describe, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.gate_status import (
    PROBE,
    PROBE_TIMEOUT_S,
    GateClient,
    read_settings,
    register_status,
    settings_path,
)
from helmr.client.profiles import config_folder, parse_toml
from helmr.errors import NotAllowed, UsageError
from helmr.features.gate.grant_commands import grant_app, outcome_app
from helmr.features.gate.mcp_proxy import register_proxy
from helmr.features.gate.rules_commands import RulesFile, rules_app, rules_path
from helmr.gate import CALL_TASK, RUN_TASK
from helmr.gate.claude_code import (
    CLIENT,
    KEY_VARIABLE,
    TIMEOUT_S,
    HookMode,
    Mode,
    hooks_block,
    settings_text,
    with_hooks,
    without_hooks,
)
from helmr.matching import STARTER_RULES, rules_toml
from helmr.private_file import write_private
from helmr.wire.safe_text import plain

if TYPE_CHECKING:
    from helmr.client import Client


gate_app = group("Send agents' permission prompts to your inbox.")
gate_app.add_typer(rules_app, name="rules")
gate_app.add_typer(grant_app, name="grant")
gate_app.add_typer(outcome_app, name="outcome")
register_proxy(gate_app)
register_status(gate_app)


ClientName = Annotated[
    GateClient, typer.Argument(metavar="CLIENT", help="The agent's program: claude-code or codex.")
]
Project = Annotated[
    bool,
    typer.Option("--project", help="In the settings of this folder; else in those of the user."),
]
HookKey = Annotated[
    Path | None,
    typer.Option(
        "--hook-key",
        metavar="FILE",
        help="Key file for the hooks (role asker); if not given, one in your configuration, made if missing.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Write without asking.")]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file as it is and as it is to be."""

    path: Path
    old: str
    new: str
    is_secret: bool = False
    secret: str = ""

    def diff(self) -> str:
        """Return the change as a unified diff, without its secret."""
        lines = difflib.unified_diff(
            self.old.splitlines(),
            self.new.splitlines(),
            str(self.path) if self.old else "/dev/null",
            str(self.path),
            lineterm="",
        )
        text = "\n".join(lines)
        return text.replace(self.secret, "…") if self.secret else text

    def write(self) -> None:
        """Replace the file in one step; its mode stays, and where it is a link it stays one."""
        path = self.path.resolve()
        if self.is_secret:
            write_private(path, self.new)
            return
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self.new)
        Path(name).chmod(mode)
        Path(name).replace(path)


def _apply(changes: Sequence[FileChange], *, yes: bool, json: bool) -> bool:
    """Show what would be written and write it, if that is wanted; False if there is nothing to write, or it is not.

    Raises:
        UsageError: There is no one to ask.
    """
    changed = [one for one in changes if one.new != one.old]
    if not json:
        for one in changed:
            printing.write(plain(one.diff(), None))
    if not changed:
        return False
    if not yes:
        if json or not (sys.stdin.isatty() and printing.is_terminal(sys.stdout)):
            raise UsageError("no one can be asked whether to write this", hint="Say --yes.")
        if not typer.confirm("Write this?"):
            return False
    for one in changed:
        one.write()
    return True


@command(gate_app, "init", finds_runtime=False, examples="helmr gate init")
def init(cli: Cli, config: RulesFile = None, yes: Yes = False, json: Json = False) -> None:
    """Write starter rules into helmr.toml, which turns the gate of the runtime on at its next start.

    It shows the change and asks. Rules that are there stay.
    """
    path = rules_path(cli, config)
    old, table = _read_config(path)
    if "gate" in table:
        printing.note(f"{path} has rules of the gate already; they stay as they are")
        changes = []
    else:
        begin = f"{old.rstrip()}\n\n" if old.strip() else ""
        changes = [FileChange(path, old, f"{begin}{HEADING}{rules_toml(STARTER_RULES)}")]
    is_written = _apply(changes, yes=yes, json=json)
    if json:
        printing.write_json({"file": str(path), "written": is_written})
    elif is_written:
        printing.write_done(f"{path} is written. Start the runtime, or start it again: helmr up")


HEADING = """\
# What agents may do without asking a person: the first rule that matches decides, and a call that none matches is
# asked about. `helmr gate rules test` tries them.

"""


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return "", {}
    return raw.decode("utf-8", "replace"), parse_toml(raw, str(path))


@command(
    gate_app,
    "install",
    examples="helmr gate install claude-code\nhelmr gate install claude-code --headless --project",
)
def install(
    cli: Cli,
    client: ClientName,
    project: Project = False,
    headless: Annotated[
        bool,
        typer.Option(
            "--headless",
            help="For `claude -p` and `codex exec`: a hook that denies where no one can be asked.",
        ),
    ] = False,
    hook_key: HookKey = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Have a client ask the gate: show the change of its settings, and write it. What is there stays.

    It needs a runtime whose gate is on, and makes a key with the role asker for the hooks. Settings of Claude Code are
    `settings.json` in `~/.claude` or `CLAUDE_CONFIG_DIR`, with --project `.claude/settings.local.json` of this folder.
    """
    is_codex = client is GateClient.CODEX
    mode = Mode.HEADLESS if headless else Mode.INTERACTIVE
    is_over_http = mode is Mode.INTERACTIVE and not is_codex
    path = settings_path(os.environ, project=project, client=client)
    old, settings = read_settings(path)
    with cli.client() as runtime:
        _check_task(runtime, CALL_TASK, "`helmr gate init` turns it on.")
        url = runtime.endpoint.url
        kept = hook_key or key_path(os.environ)
        key = _working_key(url, kept) or _make_key(runtime, kept, is_given=hook_key is not None)
    key_file = str(kept.resolve())
    block = hooks_block(mode, url, key_file, program=_program(), client=client.value)
    wanted = with_hooks(settings, block)
    if is_over_http:
        wanted["env"] = {**(wanted.get("env") or {}), KEY_VARIABLE: key}
    change = FileChange(path, old, settings_text(wanted), is_over_http, key)
    is_written = _apply([change], yes=yes, json=json)
    if is_written and mode is Mode.INTERACTIVE:
        _fetch_copy(url, key_file, key)
    if json:
        printing.write_json({"file": str(path), "mode": mode.value, "written": is_written})
    elif is_written:
        printing.write_done(f"{client.value} asks {url} from its next start ({path}).")
        if is_codex:
            printing.note(
                "Codex asks once whether to trust the hooks: until then it does not run them."
            )
    elif change.new == change.old:
        printing.write_done(f"{client.value} asks {url} already ({path}).")


def _fetch_copy(url: str, key_file: str, key: str) -> None:
    """Fetch the rules now; without a copy every call is asked about until the runtime first answers."""
    from helmr.cli import hook, rules_hook

    try:
        rules_hook.renew_copy(url, key_file, key, PROBE, PROBE_TIMEOUT_S)
    except hook.Unasked as error:
        printing.note(f"the rules were not fetched: {error}")


@command(gate_app, "uninstall", finds_runtime=False, examples="helmr gate uninstall claude-code")
def uninstall(
    cli: Cli, client: ClientName, project: Project = False, yes: Yes = False, json: Json = False
) -> None:
    """Take the gate's hooks out of a client's settings; everything else stays."""
    path = settings_path(os.environ, project=project, client=client)
    old, settings = read_settings(path)
    left = without_hooks(settings)
    environ = dict(left.get("env") or {})
    key = environ.pop(KEY_VARIABLE, None)
    if key is not None:
        left = {name: value for name, value in left.items() if name != "env"}
        left |= {"env": environ} if environ else {}
    new = settings_text(left) if left != settings else old
    is_written = _apply(
        [FileChange(path, old, new, secret=key if isinstance(key, str) else "")],
        yes=yes,
        json=json,
    )
    if json:
        printing.write_json({"file": str(path), "written": is_written})
    elif is_written:
        printing.write_done(f"{client.value} asks the gate no more ({path}).")
        printing.note("The key still works: `helmr key list` shows it, `helmr key revoke` ends it.")
    elif new == old:
        printing.write_done(f"{path} has no hooks of the gate.")


def _check_task(runtime: Client, task_id: str, turns_on: str) -> None:
    if not any(task.id == task_id for task in runtime.tasks.list()):
        raise UsageError(
            f"the runtime at {runtime.endpoint.url} does not have the task {task_id}",
            hint=f"{turns_on} It counts from the runtime's next start.",
        )


def _working_key(url: str, path: Path) -> str | None:
    from helmr.cli import hook

    try:
        key = path.read_text(encoding="ascii").strip()
        hook.post(url, key, PROBE, PROBE_TIMEOUT_S)
    except (OSError, UnicodeDecodeError, hook.Unasked):
        return None
    return key


def _make_key(runtime: Client, path: Path, *, is_given: bool) -> str:
    if is_given:
        raise UsageError(f"the runtime does not take the key in {path}")
    try:
        made = runtime.keys.create("asker", name=f"{CLIENT}@{socket.gethostname()}"[:100])
    except NotAllowed as error:
        raise NotAllowed(
            "your key may not make the key of a hook",
            hint="Ask an admin for `helmr key create --role asker`, and name its file with --hook-key.",
        ) from error
    write_private(path, made.secret + "\n")
    return made.secret


def key_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the key of this user's hooks."""
    return config_folder(environ) / f"gate-{CLIENT}.key"


def _program() -> str:
    """Return the shell words that run `helmr` from any folder."""
    own = Path(sys.argv[0])
    if own.name == "helmr" and own.is_file():
        return shlex.quote(str(own.absolute()))
    found = shutil.which("helmr")
    return shlex.quote(found) if found else f"{shlex.quote(sys.executable)} -m helmr.cli"


@command(gate_app, "hook", finds_runtime=False)
def hook_(
    cli: Cli,
    client: ClientName,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Of the hook, in the settings.")
    ] = TIMEOUT_S,
    mode: Annotated[
        HookMode,
        typer.Option(
            "--mode",
            help="Interactive where the client's own prompt may decide; rules asks no person.",
        ),
    ] = HookMode.HEADLESS,
) -> None:
    """Run by a client as its hook: reads an event on stdin, writes the decision to stdout; exit code 2 denies.

    `helmr gate install` puts it into the settings of clients. With --mode rules, which interactive clients run before
    each call, it asks no person: it answers within 2 s what a rule says. With --mode interactive a failure denies
    nothing: it exits with 1, and the client shows its own prompt. It ends 5 s before its --timeout. It takes --url and
    --key-file, or the key from the environment variable `HELMR_GATE_KEY`.
    """
    from helmr.cli import hook, rules_hook

    key_file = str(cli.key_file) if cli.key_file is not None else None
    if mode is HookMode.RULES:
        rules_hook.run(cli.url, key_file, timeout, client.value)
    hook.run(cli.url, key_file, timeout, client.value, mode.value)


@command(
    gate_app,
    "run",
    examples='helmr gate run -- claude -p "Mend the failing test"\n'
    'helmr gate run --wait 1h -- claude -p "Publish the release" --model opus',
)
def run(
    cli: Cli,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="`claude -p PROMPT …`, behind `--`.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it works; this folder if not given.")
    ] = None,
    hook_key: HookKey = None,
    wait: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Return when it has ended, or after this time."),
    ] = None,
    json: Json = False,
) -> None:
    """Run Claude Code as a session: it parks while a call waits for a person, and outlives crashes.

    The runtime needs `runs = true` in the table `[gate]` of helmr.toml, and the client on its `PATH`.
    """
    from helmr.gate.runs import read_command

    prompt, options = read_command(words or [])
    kept = hook_key or key_path(os.environ)
    with cli.client() as runtime:
        _check_task(
            runtime, RUN_TASK, "`runs = true` in the table [gate] of helmr.toml turns it on."
        )
        url = runtime.endpoint.url
        if _working_key(url, kept) is None:
            _make_key(runtime, kept, is_given=hook_key is not None)
        payload = {
            "prompt": prompt,
            "folder": str((folder or Path.cwd()).resolve()),
            "url": url,
            "key_file": str(kept.resolve()),
            "options": options,
        }
        started = runtime.sessions.start(RUN_TASK, payload)
        ended = started.started_run
        if wait is not None:
            ended = runtime.runs.wait(ended.id, timeout=wait)
    describe.show(ended, json)
