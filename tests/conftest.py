"""What every test gets: a guard against blocking an event loop, and one Hypothesis profile."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings
from pydantic import TypeAdapter

from helmr.version import version
from tests import reaper
from tests.budget import examples

# Also for tests that start Ray without make; the Makefile says why.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# In a worker readline has set them; a terminal that a test makes has its own.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)
# What this user's runtimes and console have left in their home is no part of a test. From here on this process is
# watched: what it starts ends with it.
home = reaper.folder("helmr-tests-home-")
os.environ.update(dict.fromkeys(("XDG_STATE_HOME", "XDG_CONFIG_HOME"), str(home)))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell has it of what it runs in the background: what tests start is to end by Ctrl-C all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: two shared cores make single examples slow for reasons that are not ours.
settings.register_profile(
    "helmr",
    deadline=None,
    print_blob=True,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("helmr")

pytest_plugins = ["tests.secret_search", "tests.suite"]

NEW_OBJECTS_MAX = 50_000
"""So many between two looks of the garbage collector, instead of 700: of what is collected here almost all lives on."""
gc.set_threshold(NEW_OBJECTS_MAX, 20, 20)


def pytest_collection_finish() -> None:
    """Spare the collector what is loaded by now: it took a third of the CPU time of the console's tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test whose code takes the process's log for its own fails, instead of those after it in its process."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    left = root.level, [*root.handlers]
    root.setLevel(level)
    for handler in {*root.handlers} - {*handlers}:
        root.removeHandler(handler)
        handler.close()
    root.handlers[:] = handlers
    assert left == (level, handlers), "the test leaves another log behind"


@pytest.fixture(autouse=True)
def no_blocking(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call that our code makes on an event loop raises `BlockingError`.

    Calls from a thread without a loop pass. A test that blocks on purpose is marked
    `allows_blocking`.
    """
    if request.node.get_closest_marker("allows_blocking"):
        yield
        return
    blockbuster = _blockbuster()
    blockbuster.activate()
    try:
        yield
    finally:
        blockbuster.deactivate()


@cache
def _blockbuster() -> BlockBuster:
    """Made once: it looks at sixty functions, which took 0.7 ms a test."""
    blockbuster = BlockBuster(scanned_modules=["helmr", "helmr_runtime", "helmr_console"])
    TypeAdapter(int)  # the first of a process looks for plugins on the disk
    version()  # and this for what is installed
    # A module imported late is read from disk wherever the import stands.
    for function in blockbuster.functions.values():
        # Also of what another thread is importing.
        function.can_block_in(
            "<frozen importlib._bootstrap>", ("_find_and_load", "_lock_unlock_module")
        )
        # The kernel's own list, which is on no disk.
        function.can_block_in("http/accepting.py", ("open_files",))
    return blockbuster
