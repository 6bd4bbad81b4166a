"""The installed version of Helmr, which stands in `pyproject.toml`, and its installed extras."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from helmr.errors import MissingExtra

SOURCE_TREE = "0.0.0+source"
"""Version of code that was never installed."""


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
    """Return a warning about a version of Ray that Helmr is not tested with; None for a tested one."""
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
"""Modules that each extra adds to the base."""

REQUIRED = {
    "local": ("duckdb", "starlette", "uvicorn"),
    "runtime": ("duckdb", "starlette", "uvicorn", "ray"),
    "console": ("textual",),
}
"""Modules without which the extra's part can't start."""

INSTEAD = {
    "ray": ", or run it without Ray: `helmr up --in-process`, `embedded.start(…, in_process=True)`, or "
    '`form = "in-process"` below [runtime] in helmr.toml'
}
"""Alternatives for a missing module, for the hint."""


def check_extra(name: str) -> None:
    """Raise before the start if an extra is missing, since some of its modules are imported much later.

    Raises:
        MissingExtra: One of its modules can't be found.
    """
    with needed(name):
        for module in REQUIRED[name]:
            if not has_module(module):
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def has_module(name: str) -> bool:
    """Return True when the module is installed, without importing it."""
    return importlib.util.find_spec(name) is not None


def has_extra(name: str) -> bool:
    """Return True when the extra is installed."""
    with suppress(MissingExtra):
        check_extra(name)
        return True
    return False


@contextmanager
def needed(*names: str) -> Iterator[None]:
    """Translate failed imports in this block into an error that names the missing extra.

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
