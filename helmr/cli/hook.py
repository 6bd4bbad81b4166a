"""`helmr gate hook CLIENT`: the program that Claude Code and Codex run as a hook, once for each call of a tool.

It carries the event from stdin to the runtime and the decision to stdout. It runs very often, so it loads neither Typer
nor the client: `helmr.cli.start` comes here before anything else is imported.

- A denial is one on stdout, whose text the model sees. Where no call is known, or nothing can be written, exit code 2
  denies it too, also where the client asks about nothing. So every failure of an event that asks denies (S-106), and so
  does the time: a hook that the client kills at its timeout lets the tool run (S-105).
- While a runtime starts again the same call is asked again, in a request with the same operation id: a call that has no
  id itself gets the decision that it has taken, if the answer was lost (S-103, S-107).

Codex takes the same events and denials. Before a call an `allow` is a mistake to it unless it changes the input, and a
mistake lets the call run: it gets no output in its place. Its hooks are commands also where it has a prompt of its own
(`--mode interactive`): there a failure is no denial, it ends with 1, and the prompt shows. Before a call an interactive
client asks rules only: `helmr.cli.rules_hook`.

Source: code.claude.com/docs/en/hooks; tried with Claude Code 2.1.332 and Codex 0.171.0.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # `typing` takes long
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import Any, NoReturn

CLAUDE_CODE, CODEX = "claude-code", "codex"
CLIENTS = (CLAUDE_CODE, CODEX)
"""The command line of this program begins with `gate hook` and one of them; behind it stand options with values."""

DENIED, FAILED, LEFT = 2, 1, 0
"""Exit codes: the call is denied; the client's own prompt decides; the client goes on."""

HEADLESS, INTERACTIVE, RULES = "headless", "interactive", "rules"

TIMEOUT_S = 600.0
MARGIN_S = 5.0
"""Time between the program's end and the client's timeout; the runtime answers 5 s earlier, if it can."""

PATIENCE_S = 10.0
"""Longest outage of a runtime that is waited for: a restart takes less."""

PAUSE_S = 0.25
PROMPT_S = 0.25
"""An answer that takes no longer was there at once."""

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
"""Alphabet of operation ids; `helmr.wire.ids` makes them elsewhere, but loads too much for here."""

ASKS = ("PreToolUse", "PermissionRequest", "")
"""Kinds of events that want a decision; the last one is not known."""

UNASKED = "Helmr can't ask a person about this call"
OVER = "the time is up, and no one has decided; call it again"
KEY_VARIABLE = "HELMR_GATE_KEY"
RUN_VARIABLE = "HELMR_GATE_RUN"
"""Set by `helmr.gate.runs`: the session in which the client runs."""

KEY_BYTES_MAX = 4096
EVENT_BYTES_MAX = 64 * 1024 * 1024


class Unasked(Exception):
    """The runtime was not asked, or said nothing that decides; the text says why."""


class Away(Unasked):
    """The runtime can't be reached now and may be back in a moment."""


def main(client: str, options: Sequence[str]) -> NoReturn:
    """Run the hook of this process for a client with these options, `--name value` or `--name=value`."""
    try:
        found = read_options(options)
    except Unasked as error:
        end(DENIED, str(error))
    timeout_s, mode = float(found["--timeout"]), found.get("--mode", HEADLESS)
    run(found.get("--url"), found.get("--key-file"), timeout_s, client, mode)


def run(
    url: str | None,
    key_file: str | None,
    timeout_s: float,
    client: str = CLAUDE_CODE,
    mode: str = HEADLESS,
) -> NoReturn:
    """Ask the runtime about the event on stdin and end the process with what it says.

    Args:
        url: The runtime's.
        key_file: Holds the key; else the environment variable HELMR_GATE_KEY does.
        timeout_s: Timeout of the hook, as the client has it.
        client: Name of the client.
        mode: Mode of the client: one with its own prompt lets that decide where no one else does.
    """
    ends_at = _set_alarm(timeout_s, mode)
    raw = sys.stdin.buffer.read(EVENT_BYTES_MAX)
    try:
        kind = _kind(raw)
    except Unasked as error:
        end(FAILED if mode == INTERACTIVE else DENIED, str(error))
    _carry(url, key_file, raw, kind, ends_at, client, mode)


def hold(
    url: str | None, key_file: str | None, raw: bytes, timeout_s: float, client: str
) -> NoReturn:
    """Have a person decide the call of this event as a headless client does, and end the process with the decision."""
    ends_at = _set_alarm(timeout_s, HEADLESS)
    _carry(url, key_file, raw, ASKS[0], ends_at, client, HEADLESS)


def _carry(
    url: str | None,
    key_file: str | None,
    raw: bytes,
    kind: str,
    ends_at: float,
    client: str,
    mode: str,
) -> NoReturn:
    if kind not in ASKS:
        signal.signal(signal.SIGALRM, _report_out_of_time)
    elif kind == ASKS[0] and mode != INTERACTIVE:
        signal.signal(signal.SIGALRM, _call_out_of_time)
    try:
        said = _patiently(url, key_of(key_file), raw, ends_at, client, mode)
        is_decided = "permissionDecision" in said.get("hookSpecificOutput", {})
        if kind in ASKS and mode != INTERACTIVE and not is_decided:
            raise Unasked("the runtime has decided nothing")
    except Unasked as error:
        if kind not in ASKS:
            end(LEFT, str(error))
        if mode == INTERACTIVE:
            end(FAILED, str(error))
        deny(str(error), kind)
    say(_for_codex(said) if client == CODEX else said)


def _set_alarm(timeout_s: float, mode: str) -> float:
    """Start the alarm; returns the monotonic time at which the hook's timeout ends."""
    ends_at = time.monotonic() + max(timeout_s, MARGIN_S + 1)
    signal.signal(signal.SIGALRM, _report_out_of_time if mode == INTERACTIVE else _out_of_time)
    signal.setitimer(signal.ITIMER_REAL, ends_at - MARGIN_S - time.monotonic())
    return ends_at


def say(said: dict[str, Any]) -> NoReturn:
    """End with this decision on stdout; with none the client goes on."""
    if said:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
    end(LEFT)


def _for_codex(said: dict[str, Any]) -> dict[str, Any]:
    """The decision as Codex takes it: none for an allowed call whose input stays."""
    found = said.get("hookSpecificOutput", {})
    if found.get("permissionDecision") != "allow":
        return said
    if "updatedInput" not in found:
        return {}
    kept = {name: value for name, value in found.items() if name != "permissionDecisionReason"}
    return {"hookSpecificOutput": kept}


def read_options(given: Sequence[str]) -> dict[str, str]:
    """Return the options by name; `--timeout` is always there, and a number.

    Raises:
        Unasked: One is not known, or is no number.
    """
    found = {"--timeout": str(TIMEOUT_S)}
    rest = list(given)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in ("--url", "--key-file", "--timeout", "--mode") or not (equals or rest):
            raise Unasked(f"the hook does not take {name!r}")
        found[name] = value if equals else rest.pop(0)
    try:
        float(found["--timeout"])
    except ValueError as error:
        raise Unasked(f"--timeout {found['--timeout']} is no number") from error
    return found


def _kind(raw: bytes) -> str:
    """The event's kind. One that can't be read is taken for one that wants a decision."""
    try:
        event = json.loads(raw)
    except ValueError as error:
        raise Unasked(f"the event on stdin is not JSON: {error}") from error
    kind = event.get("hook_event_name") if isinstance(event, dict) else None
    return kind if isinstance(kind, str) else ""


def key_of(path: str | None) -> str:
    """The key that a file or the environment holds.

    Raises:
        Unasked: There is none.
    """
    if not path:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key:
            raise Unasked(f"neither --key-file nor {KEY_VARIABLE} names a key")
        return key
    try:
        with open(path, encoding="ascii") as file:
            return file.read(KEY_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unasked(f"the key file {path} can't be read: {error}") from error


def _patiently(
    url: str | None, key: str, raw: bytes, ends_at: float, client: str, mode: str
) -> dict[str, Any]:
    """Return the runtime's answer; retries while the runtime starts."""
    if not url:
        raise Unasked("--url does not say where the runtime is")
    gone_at = time.monotonic()
    operation_id = new_operation_id()
    while True:
        began_at = time.monotonic()
        try:
            return post(url, key, raw, ends_at - began_at, client, mode, operation_id)
        except Away as error:
            now = time.monotonic()
            if now - began_at > PATIENCE_S:  # it was there until now
                gone_at = now
            if now - gone_at > PATIENCE_S:
                raise Unasked(f"{error}; is `helmr up` running?") from error
            time.sleep(PAUSE_S)


def new_operation_id() -> str:
    """A TypeID of an operation: a random UUID in base32."""
    number = int.from_bytes(os.urandom(16), "big")
    number = number & ~(15 << 76 | 3 << 62) | 4 << 76 | 2 << 62
    return "op_" + "".join(BASE32[number >> 5 * place & 31] for place in reversed(range(26)))


def post(
    url: str,
    key: str,
    raw: bytes,
    timeout_s: float,
    client: str = CLAUDE_CODE,
    mode: str = HEADLESS,
    operation_id: str = "",
    *,
    more: str = "",
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Return the runtime's answer to an event; a repeat under the same operation id is the same request.

    `more` is appended to the query; `meanwhile` is called if the answer does not come at once.

    Raises:
        Away: It can't be reached, or can't answer now.
        Unasked: It refuses the event or the key.
    """
    scheme, _, rest = url.rstrip("/").partition("://")
    place, slash, path = rest.partition("/")
    secure = {"http": False, "https": True}.get(scheme)
    if secure is None:
        raise Unasked(f"{url!r} is not an http or https URL")
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if operation_id:
        headers["Operation-Id"] = operation_id
    target = f"{slash}{path}/v1/gate/claude-code?mode={mode}&timeout_s={timeout_s:.3f}"
    target += more
    if client != CLAUDE_CODE:
        target += f"&client={client}"
    run = os.environ.get(RUN_VARIABLE, "")
    if run.replace("_", "").isalnum():
        target += f"&run={run}"
    try:
        connection = kind(place, timeout=timeout_s)
        try:
            connection.request("POST", target, raw, headers)
            if meanwhile is not None and not select.select([connection.sock], [], [], PROMPT_S)[0]:
                meanwhile()
            reply = connection.getresponse()
            body = reply.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Away(f"the runtime at {url} is not there ({error})") from error
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if reply.status >= 500:
        raise Away(f"the runtime at {url} can't answer ({_why(said, reply.status)})")
    if reply.status != 200 or not isinstance(said, dict):
        raise Unasked(f"the runtime at {url} refuses: {_why(said, reply.status)}")
    return said


def _why(said: Any, status: int) -> str:
    detail = said.get("detail") if isinstance(said, dict) else None
    return str(detail or f"HTTP {status}")


def _out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    deny(OVER, "")


def _call_out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    deny(OVER, ASKS[0])


def _report_out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    end(LEFT, "the time is up")


def deny(why: str, kind: str) -> NoReturn:
    """Deny the call, with the reason for the model.

    Before a call the denial goes to stdout: on stderr the client would prefix it with the hook's whole command.
    """
    if kind == ASKS[0]:
        said = {"permissionDecision": "deny", "permissionDecisionReason": f"{UNASKED}: {why}"}
        raw = json.dumps({"hookSpecificOutput": {"hookEventName": kind, **said}}) + "\n"
        try:
            os.write(1, raw.encode())
        except OSError:
            end(DENIED, why)
        end(LEFT)
    end(DENIED, why)


def end(code: int, why: str = "") -> NoReturn:
    """End the process at once: the interpreter's cleanup takes as long as the hook itself."""
    if why:
        os.write(2, f"{UNASKED}: {why}\n".encode(errors="replace"))
    os._exit(code)
