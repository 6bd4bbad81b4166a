"""What a command brings, checked by the types of the task's own code, which only its actors have (S-4, S-21).

The gateway has checked it by JSON Schema before; a pydantic validator may still refuse it. A session whose task is gone
from the code, or the stream that it waits on, keeps what people send: it is checked by the JSON Schema that its wait
was opened with, if there is one, and the run is then blocked (S-3) until code decodes it.
"""

from __future__ import annotations

from typing import Any

from helmr.errors import BadSchema, StreamNotFound, TaskNotFound
from helmr_runtime.catalog import Registered
from helmr_runtime.core.commands import AmendWait, Answer, Command, Send, StartRun
from helmr_runtime.core.corrections import question_of_wait
from helmr_runtime.core.decide import Context, TaskPolicy
from helmr_runtime.core.decide.inputs import require_open, require_stream
from helmr_runtime.core.state import SessionState
from helmr_runtime.security.completion import data_schema
from helmr_runtime.security.schemas import DataSchema

_HINT = "Start the runtime with the module that declares it."


def check_data(
    command: Command, state: SessionState, registered: Registered | None, context: Context
) -> None:
    """Raise what decoding raises, if the command brings data.

    Args:
        command: Not a repeated one: what it brought was checked then.
        state: The session.
        registered: Its task in this actor's code.
        context: The circumstances of the decision that follows.

    Raises:
        SchemaMismatch: The data does not fit.
        TaskNotFound: The code has no such task, which a new run needs.
        HelmrError: Nothing can be sent, to this stream or at all.
    """
    if isinstance(command, StartRun):
        _check_payload(command, state, registered)
        return
    if isinstance(command, AmendWait):
        _check_amendment(command, state, registered)
        return
    if not isinstance(command, Send | Answer):
        return
    wait = state.wait
    is_answer = isinstance(command, Answer) and wait is not None and wait.id == command.wait_id
    stream = command.stream if isinstance(command, Send) else None
    if is_answer and wait is not None:
        stream = wait.stream
    if stream is None:
        return
    if isinstance(command, Send):
        require_open(state)
        if registered is None and stream not in context.policy.inputs:
            raise StreamNotFound(
                f"{state.id} has had nothing to do with an input stream {stream[:128]!r}, and its task "
                f"{state.task} is not in the code of this runtime",
                hint=_HINT,
                streams=sorted(context.policy.inputs),
            )
        require_stream(state, stream, context)
    declared = registered.streams.get(stream) if registered is not None else None
    if is_answer and wait is not None and (wait.has_schema or declared is None):
        _check_by_wait(state, command.data)
    elif declared is not None:
        declared.codec.decode(command.data)


def policy_of(state: SessionState, registered: Registered | None) -> TaskPolicy:
    """What the task's declaration says; of one that is gone, the input streams that the session knows."""
    if registered is not None:
        return registered.policy
    known = set(state.input_seqs)
    if state.run is not None:
        known |= {stream for stream, _ in state.run.closed_waits}
    if state.wait is not None and state.wait.stream is not None:
        known.add(state.wait.stream)
    return TaskPolicy(inputs=frozenset(known))


def _check_payload(command: StartRun, state: SessionState, registered: Registered | None) -> None:
    if registered is None:
        raise TaskNotFound(
            f"task {state.task} of {state.id} is not in the code of this runtime", hint=_HINT
        )
    if command.payload_given:
        registered.task.payload_codec.decode(command.payload)


def _check_amendment(
    command: AmendWait, state: SessionState, registered: Registered | None
) -> None:
    """As an answer of that wait is checked; what names no wait of the run is refused by the decision."""
    run = state.run
    if run is None or not run.has_wait(command.wait_id):
        return
    question = question_of_wait(run, command.wait_id)
    stream = question.get("stream")
    declared = (
        registered.streams.get(stream) if registered is not None and stream is not None else None
    )
    schema = _usable(question.get("schema"))
    if schema is not None:
        schema.check(command.data)
    elif declared is not None:
        declared.codec.decode(command.data)


def _check_by_wait(state: SessionState, data: Any) -> None:
    """By the pending wait's own JSON Schema, if it has one that can be used (S-71)."""
    schema = _usable(state.run.wait_schema) if state.run is not None else None
    if schema is not None:
        schema.check(data)


def fits_schema(schema: Any, data: Any) -> bool:
    """Whether data fits a wait's own JSON Schema; one that can't be used refuses nothing."""
    found = _usable(schema)
    return found is None or not found.problems(data)


def _usable(schema: Any) -> DataSchema | None:
    """None for no schema, and for one of release 0.1.0 that can't be used: a pattern that needs backtracking, say."""
    if schema is None:
        return None
    try:
        return data_schema(schema)
    except BadSchema:
        return None
