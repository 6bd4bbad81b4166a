"""How `make test` shares the files out to its workers, and what it leaves for `tests/flaky.py`; a pytest plugin.

pytest-xdist gives each worker the next file when it has done one. The files that take longest come first, so that the
workers end together. `--record-seconds` writes down what each took; new and short files need no line.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from helmr.wire.ids import WAIT, new_id

SECONDS = Path(__file__).parent / "seconds.json"
"""Seconds that each file takes, fixtures included, with four workers on two cores; `seconds_long.json` has those of
`make test-long`."""
RECORDED_FROM_S = 1.0
SHARING = (
    "alone",
    "attack",
    "call_ways",
    "chunks",
    "contract",
    "environment",
    "folder",
    "hostile_code",
    "ray_handles",
    "ray_steps",
    "safety",
    "supervisor_kills",
    "survival",
)
TOGETHER = {
    **{f"tests/stack/test_{name}.py": "stack" for name in SHARING},
    "tests/ordinary/test_habits.py": "ordinary",
    "tests/ordinary/test_shared_clients.py": "ordinary",
}
"""Files that one worker takes, one after the other, and what they are called together: they share a runtime, which each
worker would start and keep."""
DRAWN = re.compile(rf"_{new_id(WAIT)[5:10]}[0-9a-hjkmnp-tv-z]{{21}}\b|hlmr_[a-z]+_\w{{20}}")
"""In the name of a test: an id of these hours or a secret, drawn when its file was read, another one in each worker."""
EXIT_CODE = "suite/exit-code"
"""Where pytest's cache has the exit code of the newest run; null while it runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Record what the files take."""
    parser.addoption(
        "--record-seconds", action="store_true", help=f"write what each file took to {SECONDS.name}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Leave the rest to the process that is told of all tests: of several the one that shares them out."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(config))


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Have each worker of a whole run begin its imports at another file.

    All import all of them; where nothing is compiled, as in a fresh clone, each then compiles what the others need
    later. Side by side from the same first file they compile everything four times, which took 20 s of CPU.
    """
    config = collector.config
    worker = getattr(config, "workerinput", None)
    if (
        worker is None
        or not isinstance(collector, pytest.Session)
        or config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    ):
        return
    names = sorted(importable(config.rootpath))
    begins_at = len(names) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for name in (*names[begins_at:], *names[:begins_at]):
        with suppress(Exception, pytest.skip.Exception):  # its collection says what is wrong
            import_module(name)


def importable(root: Path) -> list[str]:
    """The names of the modules of tests, but of those in packages, which pytest names from the package on."""
    files = (root / "tests").rglob("test_*.py")
    return [
        ".".join(file.relative_to(root).with_suffix("").parts)
        for file in files
        if not any((above / "__init__.py").exists() for above in file.parents)
    ]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files that take longest first, after those that stay together; the tests of a file keep their order.

    Raises:
        pytest.UsageError: The name of a test is another one in each process.
    """
    drawn = [item.nodeid for item in items if DRAWN.search(item.nodeid)]
    if drawn:
        raise pytest.UsageError(f"workers can't agree on a name that is drawn anew: {drawn[0]}")
    recorded = seconds_file(config)
    seconds = json.loads(recorded.read_text(encoding="utf-8")) if recorded.exists() else {}

    def place(item: pytest.Item) -> tuple[bool, float]:
        file = file_of(item.nodeid)
        return unit_of(file) == file, -seconds.get(file, 0.0)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Share out units: a file, or a folder that stays together."""
    from xdist.scheduler import LoadFileScheduling  # only where workers run

    by_unit = LoadFileScheduling(config, log)
    by_unit._split_scope = lambda test: unit_of(file_of(test))  # as its documentation suggests
    return by_unit


def seconds_file(config: pytest.Config) -> Path:
    """What was recorded of a run like this one; the long tests of a file take other times than the others."""
    is_long = config.getoption("markexpr").startswith("long")
    return SECONDS.with_stem("seconds_long") if is_long else SECONDS


def unit_of(file: str) -> str:
    """What one worker takes with this file."""
    return TOGETHER.get(file, file)


def file_of(test: str) -> str:
    """The file of a test's id."""
    return test.partition("::")[0]


class Record:
    """What is left of a run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._leave(None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a phase of a test to its file."""
        self._seconds[file_of(report.nodeid)] += report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Leave the exit code, and the seconds if they were asked for."""
        self._leave(int(session.exitstatus))
        if self._config.getoption("--record-seconds"):
            long = {file: round(s) for file, s in self._seconds.items() if s >= RECORDED_FROM_S}
            lines = json.dumps(dict(sorted(long.items())), indent=1)
            seconds_file(self._config).write_text(f"{lines}\n", encoding="utf-8")

    def _leave(self, code: int | None) -> None:
        cache: pytest.Cache | None = getattr(self._config, "cache", None)
        if cache is not None:  # `-p no:cacheprovider` takes it away
            cache.set(EXIT_CODE, code)
