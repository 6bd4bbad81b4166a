"""The task modules of a runtime: loads and lists them, and makes the hash that names this state of the code.

A module is named by a dotted name or a file. Its folder is *appended* to `sys.path`, so that no file of a user can
replace a library or this product.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from helmr.errors import BadDefinition, HelmrError
from helmr.limits import IN_ADAPTERS, Limit
from helmr.models import Catalog, StreamInfo, TaskInfo
from helmr.steps import Step
from helmr.streams import Stream
from helmr.tasks import Task, declared
from helmr_runtime.core.decide import TaskPolicy

RESERVED = frozenset({"helmr", "helmr_runtime", "helmr_console"})
"""Import names of this product; a task module of that name would replace it."""


@dataclass(frozen=True)
class Registered:
    """A task with its streams and the policy that decisions read."""

    task: Task[..., Any]
    streams: Mapping[str, Stream[Any]]
    policy: TaskPolicy


class DeclaredLimits:
    """Limits that task modules declare, and the tasks and steps that name them."""

    def __init__(self) -> None:
        self.declared: dict[str, Limit] = {}
        self._steps: dict[str, str] = {}
        """Name of a limit → a step that names it."""
        self._tasks: dict[str, str] = {}

    def add(self, module: Mapping[str, Any]) -> None:
        """Add a module's limits, steps and tasks, the steps of its classes, and the limits given to them.

        Raises:
            BadDefinition: A name is declared twice, with different bounds.
        """
        methods = [
            v for one in module.values() if isinstance(one, type) for v in vars(one).values()
        ]
        for one in (*module.values(), *methods):
            if isinstance(one, Limit):
                self._declare(one)
            elif isinstance(one, Step) and one.limit is not None:
                self._declare(one.declares)
                self._steps.setdefault(one.limit, one.name)
            elif isinstance(one, Task) and one.limit is not None:
                self._declare(one.declares)
                self._tasks.setdefault(one.limit, one.id)

    def _declare(self, limit: Limit | None) -> None:
        if limit is not None and self.declared.setdefault(limit.name, limit) != limit:
            raise BadDefinition(f"limit {limit.name} is declared twice, with other bounds")

    def settled(self, said: Mapping[str, Limit]) -> dict[str, Any]:
        """Return all limits as JSON; `helmr.toml` overrides declarations in code (S-121).

        Raises:
            BadDefinition: A task or step names an undeclared limit, or a limit of tasks counts beginnings or is also a
                limit of steps.
        """
        found = {**IN_ADAPTERS, **self.declared, **said}
        for kind, named in (("step", self._steps), ("task", self._tasks)):
            for name, user in named.items():
                if name not in found:
                    raise BadDefinition(
                        f"{kind} {user}: limit {name} is not declared",
                        hint=f"Write [limits.{name}] in helmr.toml, or declare a Limit in a task module; "
                        "`unlimited = true` bounds nothing.",
                    )
        for name, user in self._tasks.items():
            if found[name].per is not None:
                raise BadDefinition(
                    f"task {user}: limit {name} counts beginnings, a limit of a task is at_once",
                    hint="Name it on a step; give the task a limit that has `at_once` alone.",
                )
            if name in self._steps:
                raise BadDefinition(
                    f"limit {name} is of task {user} and of step {self._steps[name]}",
                    hint="Runs that have all permits would wait for themselves: use two limits.",
                )
        return {name: one.to_json() for name, one in found.items()}


class Registry:
    """The tasks of some code.

    Args:
        tasks: The tasks; duplicates of the same task count once.
        modules: The names of the modules they come from.
        code_hash: Names this state of the code.

    Raises:
        BadDefinition: Two tasks with one id, or two streams with one name and different schemas.
    """

    def __init__(
        self,
        tasks: Iterable[Task[..., Any]],
        *,
        modules: Sequence[str] = (),
        code_hash: str,
        limits: DeclaredLimits | None = None,
    ) -> None:
        self.modules = tuple(modules)
        self.limits = limits or DeclaredLimits()
        self.code_hash = code_hash
        self.tasks: dict[str, Registered] = {}
        for task in tasks:
            self._add(task)

    @classmethod
    def of_modules(cls, modules: Sequence[ModuleType]) -> Registry:
        """Return a registry of the tasks among the modules' globals."""
        tasks = [v for m in modules for v in vars(m).values() if isinstance(v, Task)]
        names = [module.__name__ for module in modules]
        limits = DeclaredLimits()
        for module in modules:
            limits.add(vars(module))
        return cls(tasks, modules=names, code_hash=_code_hash(modules), limits=limits)

    @property
    def written_in(self) -> set[str]:
        """The names of the modules that hold the tasks' code."""
        return {*self.modules, *(one.task.function.__module__ for one in self.tasks.values())}

    def _add(self, task: Task[..., Any]) -> None:
        known = self.tasks.get(task.id)
        if known is not None and known.task is not task:
            raise BadDefinition(
                f"task {task.id} is declared twice: {_place(known.task)} and {_place(task)}"
            )
        streams = task.streams()
        policy = TaskPolicy(
            inputs=frozenset(n for n, s in streams.items() if s.direction == "input"),
            on_idle_input=task.on_idle_input,
            after_run=task.after_run,
            retries=task.retries,
            backoff_s=task.backoff_s,
        )
        self.tasks[task.id] = Registered(task, streams, policy)

    def catalog(self) -> Catalog:
        """Return the catalog that gateway and console read, with JSON Schemas.

        Raises:
            BadDefinition: A type that pydantic can't read.
        """
        streams: dict[tuple[str, str], StreamInfo] = {}
        for task_id, registered in self.tasks.items():
            for name, stream in registered.streams.items():
                info = _stream_info(stream, task_id)
                key = (name, repr(info.json_schema))
                known = streams.get(key)
                tasks = [*known.tasks, task_id] if known is not None else [task_id]
                streams[key] = info.model_copy(update={"tasks": tasks})
        return Catalog(
            code_hash=self.code_hash,
            modules=list(self.modules),
            tasks=[_task_info(registered) for registered in self.tasks.values()],
            streams=list(streams.values()),
        )


def load_modules(specs: Sequence[str], *, folder: Path) -> Registry:
    """Import task modules by dotted name or file name.

    Args:
        specs: `my.tasks`, `tasks.py`, `/path/to/tasks.py`.
        folder: Base of dotted names and relative files.

    Raises:
        BadDefinition: The file or module is missing, its name is taken, or it has no task.
    """
    modules = [load_module(spec, folder=folder) for spec in specs]
    registry = Registry.of_modules(modules)
    if not registry.tasks:
        raise BadDefinition(
            f"no @task in {', '.join(specs)}",
            hint="Declare one: `@task(id=…) async def …(payload)`.",
        )
    return registry


def load_registry(specs: Sequence[str], *, folder: Path) -> tuple[Registry, Catalog]:
    """Load modules as `load_modules` does, with their catalog; errors of the modules are raised as `BadDefinition`.

    Raises:
        BadDefinition: They can't be imported, or hold an unusable definition.
    """
    try:
        registry = load_modules(specs, folder=folder)
        return registry, registry.catalog()
    except HelmrError:
        raise
    except (Exception, SystemExit) as error:  # user code runs here and may raise anything
        raise BadDefinition(
            f"{', '.join(specs)} can't be imported: {type(error).__name__}: {error}"
            f"{raised_at(error)}"
        ) from error


def load_module(spec: str, *, folder: Path) -> ModuleType:
    """Import one module, named as for `load_modules`.

    Raises:
        BadDefinition: It is missing, or its name is taken.
    """
    if not spec.endswith(".py"):
        return _load_dotted(spec, folder)
    path = (folder / spec).resolve()
    if not path.is_file():
        raise BadDefinition(f"{spec}: no such file in {folder}")
    name = path.stem
    if not name.isidentifier():
        raise BadDefinition(f"{spec}: {name!r} can't be imported", hint="Rename the file.")
    _refuse_reserved(name, spec)
    if (path.parent / "__init__.py").exists():
        raise BadDefinition(
            f"{spec}: its folder {path.parent} is a package",
            hint="Name the module by its dotted name instead.",
        )
    taken = (
        importlib.util.find_spec(name) if name not in sys.modules else sys.modules[name].__spec__
    )
    origin = taken.origin if taken is not None else None
    if origin is not None and (origin == "built-in" or Path(origin).resolve() != path):
        raise BadDefinition(
            f"{spec}: the name {name} is already {origin}, not {path}", hint="Rename the file."
        )
    _append(path.parent)
    return _import(name, spec)


def _load_dotted(name: str, folder: Path) -> ModuleType:
    root = name.split(".")[0]
    if not all(part.isidentifier() for part in name.split(".")):
        raise BadDefinition(
            f"{name!r} names no module",
            hint="Name a task module with dots, like app.tasks, or its file, like app/tasks.py.",
        )
    if _is_ours(name) and not _has_built_in(name):
        _refuse_reserved(root, name)
    _append(folder)
    return _import(name, name)


def _is_ours(name: str) -> bool:
    """True for a module of this product; its examples stand for a user's code."""
    return name.partition(".")[0] in RESERVED and not f"{name}.".startswith("helmr.examples.")


def _has_built_in(name: str) -> bool:
    """True for a module of built-in tasks, whose ids begin with the product's name."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    found = [one for one in vars(module).values() if isinstance(one, Task)]
    return any(one.id.startswith("helmr.") for one in found)


def _refuse_reserved(name: str, spec: str) -> None:
    if name in RESERVED:
        raise BadDefinition(f"{spec}: the name {name} belongs to Helmr", hint="Rename the module.")


def _append(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import(name: str, spec: str) -> ModuleType:
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise BadDefinition(f"{spec}: no module named {error.name}") from error
        raise BadDefinition(
            f"{spec}: {error}{raised_at(error)}", hint="Install what it imports."
        ) from error


def raised_at(error: BaseException) -> str:
    """Return ` (tasks.py, line 3)`, the innermost line of the user's own code; empty if there is none or the error
    names it."""
    if isinstance(error, SyntaxError):
        return ""
    theirs = [f for f in traceback.extract_tb(error.__traceback__) if not _is_installed(f.filename)]
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


def _is_installed(filename: str) -> bool:
    """True for a file of Python, of an installed package or of this one."""
    places = (
        *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")),
        str(Path(__file__).parent),
    )
    return filename.startswith(("<", *places))


def _code_hash(modules: Sequence[ModuleType]) -> str:
    """Return the SHA-256 over the sources of the task modules and of their imports from their own folders."""
    files = {Path(f) for m in modules if (f := getattr(m, "__file__", None)) is not None}
    theirs = [
        m for m in modules if not _is_ours(m.__name__)
    ]  # beside ours are modules that not every process loads
    folders = {Path(f).parent for m in theirs if (f := getattr(m, "__file__", None)) is not None}
    for module in tuple(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if name is not None and Path(name).parent in folders:
            files.add(Path(name))
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.suffix == ".py" and path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _task_info(registered: Registered) -> TaskInfo:
    task = registered.task
    doc = inspect.getdoc(task.function)
    return TaskInfo(
        id=task.id,
        module=task.function.__module__,
        doc=doc.splitlines()[0] if doc else None,
        payload_schema=task.payload_codec.json_schema(),
        result_schema=task.result_codec.json_schema(),
        inputs=sorted(n for n, s in registered.streams.items() if s.direction == "input"),
        outputs=sorted(n for n, s in registered.streams.items() if s.direction == "output"),
        **declared(task),
    )


def _stream_info(stream: Stream[Any], task_id: str) -> StreamInfo:
    return StreamInfo.model_validate(
        {
            "name": stream.id,
            "direction": stream.direction,
            "schema": stream.codec.json_schema(),
            "tasks": [task_id],
            "declared_in": Path(stream.declared_in).name,
        }
    )


def _place(task: Task[..., Any]) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"
