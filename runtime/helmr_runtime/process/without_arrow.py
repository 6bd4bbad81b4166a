"""Keeps Ray from importing Arrow where no task code runs.

Ray imports pyarrow, if it is installed, into each process that sends or receives, so that tables are sent by its own
serializer: 10 MB for each of them. Between our actors no table goes.
"""

from __future__ import annotations

from typing import Any

from ray._private import arrow_serialization

arrow: Any = arrow_serialization


def leave_out_arrow() -> None:
    """From here on, in this process: before Ray has sent or received anything."""
    arrow._register_custom_datasets_serializers = _register_none


def _register_none(context: object) -> None:
    """Leave tables to pickle."""
