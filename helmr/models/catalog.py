"""The catalog on the wire lists the tasks and streams that a runtime serves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from helmr.models.common import Wire
from helmr.models.system import TaskSchedule


class StreamInfo(Wire):
    """A stream of a task."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    name: str
    direction: Literal["input", "output"]
    json_schema: dict[str, Any] | bool = Field(alias="schema")
    tasks: list[str] = Field(default_factory=list)
    declared_in: str | None = None


class TaskInfo(Wire):
    """A task of the catalog."""

    id: str
    module: str
    doc: str | None = None
    payload_schema: dict[str, Any] | bool = True
    result_schema: dict[str, Any] | bool = True
    inputs: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    on_idle_input: Literal["keep", "run", "reject"] = "keep"
    after_run: Literal["keep", "close"] = "keep"
    retries: int = 0
    isolated: bool = False
    schedule: TaskSchedule | None = None
    mcp: bool = True


class Catalog(Wire):
    """The tasks and streams that `up` found in the task modules; `code_hash` names this state of the code."""

    code_hash: str
    modules: list[str]
    tasks: list[TaskInfo]
    streams: list[StreamInfo]
