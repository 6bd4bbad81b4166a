"""Names the lines of task code that touch the world, clock or chance outside of steps: each resume does it again.

Two ways lead here:

- **Effects** are seen in every runtime by an audit hook: a file opened for writing, a program, a database, a
  connection, a request. If a replay repeats one at the same place, the log says so. The hook can't be removed; for
  other events it costs one dict lookup (decision 0158).
- In a harness and under `helmr dev` a few functions are wrapped too: clocks, random numbers,
  agents, drivers of databases that open their connections in C, and bytes sent on a connection that was open before.

`datetime.now` cannot be wrapped; its values are found in the requests that use them (S-126).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random  # noqa: TID251 - wraps it, draws nothing
import socket
import ssl
import sys
import sysconfig
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple, Unpack

from helmr.current import DurableRun, current_run, current_step, in_run

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

CLOCK = "use ctx.now()"
CHANCE = "use ctx.random()"
IDS = "use ctx.uuid()"
STEP = "what pays, sends or asks a model belongs in a @step"

ANOTHER = "each resume gets another value"
AGAIN = "this call is made again at each resume"
MADE_AGAIN = f"{AGAIN}; here it was made again"

DRAWN: tuple[tuple[Any, str, str], ...] = (
    *((time, name, CLOCK) for name in ("time", "time_ns")),
    *(
        (random, name, CHANCE)
        for name in ("random", "randint", "randrange", "uniform", "choice", "choices", "sample")
    ),
    (random, "shuffle", CHANCE),
    (uuid, "uuid1", IDS),
    (uuid, "uuid4", IDS),
)

AGENTS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "agents",
        "Runner",
        ("run", "run_sync", "run_streamed"),
        "call `run` of helmr.integrations.openai_agents in its place",
    ),
    (
        "pydantic_ai",
        "Agent",
        ("run", "run_sync", "run_stream", "run_stream_events", "iter"),
        "give the agent the capability HelmrDurability",
    ),
)
"""Functions of loaded frameworks that run an agent, whose model and tools a replay would call again."""

DRIVERS: tuple[tuple[str, str], ...] = (
    ("psycopg", ""),
    ("psycopg", "Connection"),
    ("psycopg", "AsyncConnection"),
    ("psycopg2", ""),
    ("duckdb", ""),
    ("oracledb", ""),
    ("pyodbc", ""),
    ("MySQLdb", ""),
)
"""Modules or classes of loaded drivers whose `connect` has no audit event."""

SENDS = ((socket.socket, ("send", "sendall")), (ssl.SSLSocket, ("send", "sendall")))

QUIET = frozenset({"importlib", "logging", "tempfile", "platform", "distro", "linecache"})
"""Packages whose own effects are not the task's: imports, logs, private temporary files."""
OURS = ("helmr.integrations.", "helmr_runtime.")
REPLAY = "helmr_runtime.replay."
BOTTOM = frozenset({f"{REPLAY}driver", f"{REPLAY}steps"})
"""The modules below all code of a run."""

NAMED_MAX = 10_000
"""Lines and runs remembered as named; beyond that they are named again."""

log = logging.getLogger("helmr.run")

_watched: Counter[str] = Counter()
_known: set[str] = set()
"""Modules of tasks that this process has loaded."""
_named: set[tuple[str, int, str]] = set()
_warns: list[bool] = []
"""One for each watcher: true if it wants a Python warning for repeated calls, as a harness does."""


class RepeatedCall(UserWarning):
    """Code outside of steps had a side effect, and a replay repeated it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of task code; without a file if unknown."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "task code"


NOWHERE = Place()


# --- effects: what an audit hook sees --------------------------------------------------------------


def look_for_effects(modules: Iterable[str]) -> None:
    """From now on, name side effects outside of steps of the tasks in these modules."""
    _known.update(modules)
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_heard)
        setattr(threading.Thread, "start", _starting(threading.Thread.start))  # noqa: B010


_hooked: list[bool] = []

WRITES = os.O_WRONLY | os.O_RDWR
NO_FILES = frozenset({os.devnull, "/dev/tty", "/dev/stdout", "/dev/stderr", "/dev/null"})


def _opened(path: Any, mode: Any, flags: Any) -> str | None:
    if not isinstance(flags, int) or not flags & WRITES or isinstance(path, int):
        return None
    name = _name_of(path)
    return None if name in NO_FILES else f"{name} is opened for writing"


def _database(path: Any) -> str | None:
    name = _name_of(path)
    if name in ("", ":memory:"):
        return None
    if name.startswith("file:") and ("mode=ro" in name or "mode=memory" in name):
        return None
    return f"the database {name} is opened"


def _program(executable: Any, args: Any, *_: Any) -> str:
    given = args[0] if isinstance(args, list | tuple) and args else args
    return f"the program {os.path.basename(_name_of(executable or given))} is started"


def _connection(_: Any, address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"a connection to {address[0]}:{address[1]} is opened"
    return f"a connection to {_name_of(address)} is opened"


def _changed(verb: str) -> Callable[..., str]:
    return lambda path, *_: f"{_name_of(path)} is {verb}"


def _said(text: str) -> Callable[..., str]:
    return lambda *_: text


EFFECTS: Mapping[str, Callable[..., str | None]] = {
    "open": _opened,
    "os.remove": _changed("removed"),
    "os.rename": _changed("renamed"),
    "os.truncate": _changed("cut"),
    "os.link": _changed("linked"),
    "os.symlink": _changed("linked"),
    "sqlite3.connect": _database,
    "subprocess.Popen": _program,
    "os.posix_spawn": _program,
    "os.spawn": _said("a program is started"),
    "os.system": _said("a shell command is started"),
    "os.exec": _said("a program is started"),
    "os.fork": _said("a process is started"),
    "os.forkpty": _said("a process is started"),
    "os.kill": _said("a signal is sent"),
    "socket.connect": _connection,
    "socket.sendto": _said("a datagram is sent"),
    "http.client.send": lambda client, _: f"a request to {client.host} is sent",
    "smtplib.send": _said("mail is sent"),
    "ftplib.sendcmd": _said("a command to an FTP server is sent"),
    "imaplib.send": _said("a command to a mail server is sent"),
    "poplib.putline": _said("a command to a mail server is sent"),
    "syslog.syslog": _said("a line is sent to syslog"),
}
"""Description of each audit event; None if it is no side effect."""


def _name_of(path: Any) -> str:
    try:
        text = os.fsdecode(path)
    except TypeError:
        text = type(path).__name__
    return text if len(text) <= 100 else f"…{text[-99:]}"


def _heard(event: str, args: tuple[Any, ...]) -> None:
    """The audit hook: called for much of what Python does, on the thread that does it."""
    said = EFFECTS.get(event)
    if said is None:
        return
    if current_run.get() is None and _work_of_thread() is None:
        return
    if (what := said(*args)) is not None:
        _name_effect(what)


def _name_effect(what: str, advice: str = STEP) -> None:
    """Log a side effect outside of steps: its line, and whether this run repeats it."""
    run, handed_at = _whose()
    if run is None or getattr(_busy, "is_so", False):
        return
    _busy.is_so = True  # effects of the logging itself are not the task's
    try:
        place = place_of(sys._getframe(2))
        if place is not None:
            _say(run, place if place.file else handed_at, what, advice)
    finally:
        _busy.is_so = False


_busy = threading.local()


def _whose() -> tuple[DurableRun | None, Place]:
    """Return the run whose code does this outside of steps, and the place where it handed this to a thread or task, if
    it did."""
    if current_step.get() is not None:
        return None, NOWHERE
    return _work_of_thread() or (current_run.get(), _made_at())


def place_of(frame: FrameType | None) -> Place | None:
    """Return the innermost line of a task's module, else of code that is no library; None if there is none."""
    found = NOWHERE
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name in _known or name in _watched:
            return Place(frame.f_code.co_filename, frame.f_lineno)
        if name in BOTTOM:
            return found
        is_ours = name.startswith(OURS) and not name.startswith(REPLAY)
        if is_ours or name.partition(".")[0] in QUIET:
            return None
        if not found.file and not is_library(frame.f_code.co_filename):
            found = Place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return found


@lru_cache(4096)
def is_library(file: str) -> bool:
    """True if the file is Python's own, an installed package's or Helmr's."""
    return file.startswith(("<", *_LIBRARIES)) or "-packages" + os.sep in file


_LIBRARIES = tuple(
    {
        *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib")),
        os.path.dirname(os.path.abspath(inspect.getfile(in_run))) + os.sep,
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    }
)


def _say(run: DurableRun, place: Place, what: str, advice: str) -> None:
    is_again = run.has_been_here
    kind = f"again {run.run.id}" if is_again else "effect"
    if not is_new(place, kind if place.file else f"{kind} {what}"):
        return
    message = f"{what} outside of steps: {MADE_AGAIN if is_again else AGAIN}; {advice}"
    log.warning("%s: %s", place, message)
    if is_again and _warns:
        warnings.warn_explicit(message, RepeatedCall, place.file or "task code", place.line)


def is_new(place: Place, kind: str) -> bool:
    """Note this effect of that line as named; False if it already was."""
    key = place.file, place.line, kind
    if key in _named:
        return False
    if len(_named) >= NAMED_MAX:
        _named.clear()
    _named.add(key)
    return True


# --- threads and tasks ----------------------------------------------------------------------------

Work = tuple[DurableRun, Place]
"""The run that a thread works for outside of steps, and the place where its code handed the work over."""

WORK = "helmr_work"
"""Attribute of such threads, which lack the run's context."""


def _work_of_thread() -> Work | None:
    return vars(threading.current_thread()).get(WORK)


def _starting(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """Wrap `Thread.start`, which has no audit event before Python 3.12."""

    @wraps(original)
    def start(self: threading.Thread) -> None:
        run = current_run.get()
        if run is not None and current_step.get() is None:
            module = getattr(getattr(self, "_target", None), "__module__", "")
            place = place_of(sys._getframe(1))
            # A pool's thread may work for any run.
            if place is not None and module != "concurrent.futures.thread":
                vars(self)[WORK] = run, place
        original(self)

    return start


def place_of_task() -> Place:
    """Return the line of the run's code that makes an asyncio task now."""
    if not _hooked or not in_run():
        return NOWHERE
    found = place_of(sys._getframe(2)) or NOWHERE
    return found if found.file else _made_at()


def _made_at() -> Place:
    """Return the place where the current asyncio task was made."""
    loop = asyncio._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    return getattr(task, "made_at", NOWHERE)


def handed_over(call: Callable[[Unpack[Ts]], R]) -> Callable[[Unpack[Ts]], R]:
    """Wrap a call for another thread, so that the thread knows the run whose code hands it over outside of steps."""
    run = current_run.get()
    if run is None or current_step.get() is not None or not _hooked:
        return call
    work = run, place_of(sys._getframe(2)) or _made_at()

    @wraps(call)
    def with_work(*args: *Ts) -> R:
        own = vars(threading.current_thread())
        own[WORK] = work
        try:
            return call(*args)
        finally:
            del own[WORK]

    return with_work


# --- while something watches -----------------------------------------------------------------------


@contextmanager
def watching(modules: Iterable[str], *, warns: bool = False) -> Iterator[None]:
    """Watch the code of these modules meanwhile; with `warns`, repeated calls also raise a `RepeatedCall` warning."""
    names = set(modules)
    if not _watched:
        _wrap()
    _watched.update(names)
    _warns.extend([True] * warns)
    try:
        yield
    finally:
        del _warns[: int(warns)]
        _watched.subtract(names)
        for name in names:
            if _watched[name] <= 0:
                del _watched[name]
        if not _watched:
            _unwrap()


_originals: list[tuple[Any, str, Any, Any]] = []
_INHERITED = object()
"""Placeholder of an original that a base class has."""


def _wrap() -> None:
    for owner, name, advice in DRAWN:
        _put(owner, name, partial(_drawing, what=f"{owner.__name__}.{name}()", advice=advice))
    for kind, names in SENDS:
        for name in names:
            _put(kind, name, _sending)
    for module, attribute in DRIVERS:
        owner = sys.modules.get(module)
        owner = getattr(owner, attribute, None) if attribute else owner
        if owner is not None:
            _put(owner, "connect", _connecting)
    for module, attribute, methods, advice in AGENTS:
        owner = getattr(sys.modules.get(module), attribute, None)
        for name in methods if isinstance(owner, type) else ():
            _put(owner, name, partial(_running, what=f"{attribute}.{name}()", advice=advice))


def _put(owner: Any, name: str, notice: Callable[..., Callable[..., Any]]) -> None:
    """Wrap an attribute with `notice`; a class method stays a class method."""
    found = inspect.getattr_static(owner, name, None)
    if found is None:
        return
    is_of_class = isinstance(found, classmethod)
    wrapped: Any = notice(found.__func__ if is_of_class else found)
    if is_of_class:
        wrapped = classmethod(wrapped)
    _originals.append((owner, name, vars(owner).get(name, _INHERITED), wrapped))
    setattr(owner, name, wrapped)


def _unwrap() -> None:
    """Restore the originals, except where others have wrapped them since."""
    while _originals:
        owner, name, original, wrapped = _originals.pop()
        if inspect.getattr_static(owner, name) is not wrapped:
            continue
        if original is _INHERITED:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def _drawing(original: Callable[..., Any], what: str, advice: str) -> Callable[..., Any]:
    """Wrap a function that draws a value: only calls from a task's own module are named, not those of libraries."""

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        if frame.f_globals.get("__name__") in _watched and in_run():
            place = Place(frame.f_code.co_filename, frame.f_lineno)
            if is_new(place, what):
                log.warning("%s: %s outside of steps: %s; %s", place, what, ANOTHER, advice)
        return original(*args, **kwargs)

    return call


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if current_run.get() is not None and self.family in (socket.AF_INET, socket.AF_INET6):
            _name_effect("a request is sent")
        return original(self, *args, **kwargs)

    return call


def _connecting(original: Callable[..., Any]) -> Callable[..., Any]:
    module = (getattr(original, "__module__", None) or "").partition(".")[0].lstrip("_")

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        is_own = module == "duckdb" and (not args or args[0] == ":memory:") and not kwargs
        if current_run.get() is not None and not is_own:
            _name_effect(f"a connection of {module} is opened")
        return original(*args, **kwargs)

    return call


def _running(original: Callable[..., Any], what: str, advice: str) -> Callable[..., Any]:
    """Wrap the method that runs an agent, or the class method of its runner."""

    @wraps(original)
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        is_of_task = sys._getframe(1).f_globals.get("__name__") in _watched
        if is_of_task and in_run() and not _is_durable(owner):
            _name_effect(f"{what} is called", advice)
        return original(owner, *args, **kwargs)

    return call


def _is_durable(owner: Any) -> bool:
    """True if the agent has an engine for durable agents: Helmr's, or another of its author's choice."""
    root = getattr(owner, "root_capability", None)
    return any(hasattr(one, "engine_spec") for one in (root, *getattr(root, "capabilities", ())))


def forget() -> None:
    """Forget the named lines; for tests."""
    _named.clear()
