"""Tests on the real stack: Ray, DuckDB and HTTP as `helmr up` starts them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.live import LiveRuntime, is_alive, until

HERE = Path(__file__).parent
RAY_PAGE = HERE.parents[1] / "docs" / "ray.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.M | re.S)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    """One runtime for tests that leave the supervisor alive."""
    page = tmp_path_factory.mktemp("docs") / "docs_ray.py"
    page.write_text("\n\n".join(BLOCK.findall(RAY_PAGE.read_text(encoding="utf-8"))))
    live = LiveRuntime(
        tmp_path_factory.mktemp("live"),
        also=[
            HERE / "ray_tasks.py",
            HERE / "environment_tasks.py",
            HERE / "safety_tasks.py",
            HERE.parent / "contract" / "contract_tasks.py",
            HERE.parent / "process" / "work.py",
            page,
        ],
        beside=[HERE / "ray_beside.py"],
        hosts=2,
        environ={"HELMR_MASTER_KEYS": "k1:" + base64.b64encode(bytes(range(32))).decode()},
    )
    try:
        live.start()
        until(lambda: has_whole_pool(live, 2), within_s=60, what="two hosts")
        live.idle_at_start = live.idle_workers()
        yield live
    finally:
        live.stop()


def has_whole_pool(live: LiveRuntime, size: int) -> bool:
    """All hosts have started."""
    hosts = live.hosts()
    return len(hosts) == size and all(one["pid"] for one in hosts)


@pytest.fixture
def make_runtime(tmp_path: Path) -> Iterator[Callable[..., LiveRuntime]]:
    """Makes runtimes of a test's own, and sees that nothing of them is left."""
    made: list[LiveRuntime] = []
    seen: set[int] = set()

    def make(**options: Any) -> LiveRuntime:
        live = LiveRuntime(tmp_path, **options)
        made.append(live)
        live.start()
        seen.update(live.pids())
        return live

    yield make
    for live in made:
        if live._process is not None:
            seen.update(live.pids())
        live.stop()
    until(lambda: not any(map(is_alive, seen)), within_s=10, what="nothing outlives the runtime")
