"""A gateway over a whole runtime, and a restore of a whole backup: a few inputs here, many in `make fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs.fuzz.file_parsers import restoring
from tests.programs.fuzz.parsers import Parser
from tests.programs.fuzz.served import served
from tests.programs.fuzz.trying import try_one

pytestmark = pytest.mark.allows_blocking


@pytest.fixture(scope="module")
def gateway() -> Iterator[Parser]:
    with served() as parser:
        yield parser


@settings(max_examples=60)
@given(data=st.data())
def test_no_request_is_answered_with_5xx(gateway: Parser, data: Any) -> None:
    try_one(gateway, data.draw(gateway.inputs))


@settings(max_examples=10)
@given(data=st.data())
def test_a_backup_is_restored_or_refused(data: Any) -> None:
    parser = restoring()
    try_one(parser, data.draw(parser.inputs))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_minutes_of_it(project_root: Path) -> None:
    command = [sys.executable, "-m", "tests.programs.fuzz", "--seconds", "300"]
    said = subprocess.run(
        command, cwd=project_root, env=dict(os.environ), capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
