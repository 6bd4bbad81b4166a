"""A runtime keeps to itself: its data and its ports are this user's and this machine's alone."""

from __future__ import annotations

import pytest

from tests.process.test_supervisor_life import assert_private, listening_elsewhere
from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.allows_blocking]


def test_it_listens_on_loopback_alone_and_no_one_else_reads_what_it_stores(
    shared: LiveRuntime,
) -> None:
    assert len(shared.pids()) > 6
    assert listening_elsewhere(shared.pids()) == []
    assert_private(shared.data_dir)
