"""What a command brings, checked by the types of the task's own code, which only its actors have (S-4, S-21).

The gateway has checked it by JSON Schema before; a pydantic validator may still refuse it.
"""

from __future__ import annotations

from helmr.errors import TaskNotFound
from runtime.catalog import Registered
from runtime.core.commands import Answer, Command, Send, StartRun
from runtime.core.decide import Context
from runtime.core.decide.inputs import require_open, require_stream
from runtime.core.state import SessionState


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
        TaskNotFound: The code has no such task.
        HelmrError: Nothing can be sent, to this stream or at all.
    """
    if not isinstance(command, Send | Answer | StartRun):
        return
    if registered is None:
        raise TaskNotFound(
            f"task {state.task} of {state.id} is not in the code of this runtime",
            hint="Start the runtime with the module that declares it.",
        )
    if isinstance(command, StartRun):
        if command.payload_given:
            registered.task.payload_codec.decode(command.payload)
        return
    wait = state.wait
    stream = command.stream if isinstance(command, Send) else None
    if isinstance(command, Answer) and wait is not None and wait.id == command.wait_id:
        stream = wait.stream
    if stream is not None:
        if isinstance(command, Send):
            require_open(state)
            require_stream(state, stream, context)
        registered.streams[stream].codec.decode(command.data)
