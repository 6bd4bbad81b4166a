"""What a command brings, checked by the types of the task's own code, which only its actors have (S-4, S-21).

The gateway has checked it by JSON Schema before; a pydantic validator may still refuse it. A session whose task is gone
from the code, or the stream that it waits on, keeps what people send: it is checked by the JSON Schema that its wait
was opened with, if there is one, and the run is then blocked (S-3) until code decodes it.
"""

from __future__ import annotations

from typing import Any

from helmr.errors import BadSchema, StreamNotFound, TaskNotFound
from helmr_runtime.catalog import Registered
from helmr_runtime.core.commands import Answer, Command, Send, StartRun
from helmr_runtime.core.decide import Context, TaskPolicy
from helmr_runtime.core.decide.inputs import require_open, require_stream
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.run import Wait
from helmr_runtime.core.state import SessionState
from helmr_runtime.security.completion import data_schema

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
    if declared is not None:
        declared.codec.decode(command.data)
    elif is_answer and wait is not None:
        _check_by_wait(wait, state, command.data)


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


def _check_by_wait(wait: Wait, state: SessionState, data: Any) -> None:
    """By the JSON Schema in the entry that opened the wait, if it has one that can be used."""
    journal = state.run.journal if state.run is not None else ()
    opened = (e for e in journal if e.kind is EntryKind.WAIT_OPENED and e.op == wait.op)
    found = next((entry.body.get("schema") for entry in opened), None)
    if found is None:
        return
    try:
        schema = data_schema(found)
    except BadSchema:  # a pattern that only a backtracking engine can run, say
        return
    schema.check(data)
