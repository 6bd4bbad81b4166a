"""What is installed of Helmr: its version, which stands in `pyproject.toml`, and its extras."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from helmr.errors import MissingExtra

SOURCE_TREE = "0.0.0+source"
"""Of code that was never installed."""


@cache
def version() -> str:
    """The version that is installed."""
    try:
        return importlib.metadata.version("helmr")
    except importlib.metadata.PackageNotFoundError:
        return SOURCE_TREE


RAY_TRIED = ("2.60",)
"""Minor versions of Ray that runtimes were tried with; `pyproject.toml` allows newer ones too."""


def ray_untried(ray: str) -> str | None:
    """What to say of a version of Ray that Helmr was not tried with; None of others."""
    if ".".join(ray.split(".")[:2]) in RAY_TRIED:
        return None
    return f"Helmr is tested with Ray {' and '.join(RAY_TRIED)}, not with {ray}"


MODULES = {
    "local": ("duckdb", "starlette", "uvicorn", "uvloop"),
    "runtime": ("duckdb", "starlette", "uvicorn", "uvloop", "ray"),
    "console": ("textual",),
    "bucket": ("obstore",),
    "postgres": ("psycopg", "psycopg_binary"),
}
"""Each extra and modules that it brings and the base does not."""

REQUIRED = {
    "local": ("duckdb", "starlette", "uvicorn"),
    "runtime": ("duckdb", "starlette", "uvicorn", "ray"),
    "console": ("textual",),
}
"""Those without which it can't start at all."""

INSTEAD = {
    "ray": ", or run it without Ray: `helmr up --in-process`, `embedded.start(…, in_process=True)`, or "
    '`form = "in-process"` below [runtime] in helmr.toml'
}
"""What else can be done where a module is missing."""


def check_extra(name: str) -> None:
    """Say before anything starts that an extra is missing; some of it is imported long after the start.

    Raises:
        MissingExtra: One of its modules can't be found.
    """
    with needed(name):
        for module in REQUIRED[name]:
            if not has_module(module):
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def has_module(name: str) -> bool:
    """Whether it is installed; nothing of it is imported."""
    return importlib.util.find_spec(name) is not None


def has_extra(name: str) -> bool:
    """Whether `check_extra` finds it."""
    with suppress(MissingExtra):
        check_extra(name)
        return True
    return False


@contextmanager
def needed(*names: str) -> Iterator[None]:
    """Imports inside need these extras.

    Raises:
        MissingExtra: One of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        for name in names:
            if missing in MODULES[name]:
                raise MissingExtra(
                    f"this needs the extra `{name}`, which is not installed (no module {missing})",
                    hint=f"pip install 'helmr[{name}]'{INSTEAD.get(missing, '')}",
                    extra=name,
                ) from error
        raise
