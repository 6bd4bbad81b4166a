"""`run` and `sweep`: an experiment under the fake clock, or against a live runtime in real time.

Both blocking, both usable where a loop runs already (a notebook): the work has a loop and a thread of its own. A
progress bar shows on a terminal and in a notebook.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from helmr.errors import UsageError
from helmr.experiments.direction import Budget, StandIn, check_steps
from helmr.experiments.operators import Operator
from helmr.experiments.results import Results, Scalar, Tell, check_parameters, progress
from helmr.experiments.simulation import Experiment
from helmr.tasks import Task

if TYPE_CHECKING:
    from helmr.client import AsyncClient
    from helmr.experiments.replays import Replays
    from helmr.testing.recorded import Recording


T = TypeVar("T")

Connect = Callable[..., "AsyncClient"]
"""Makes a client: `AsyncClient` itself, or `partial(AsyncClient, url=…, key=…)`. Called once for the experiment and
once per operator, with `on_behalf_of=` the operator's name."""

CELLS_MAX = 10_000


def run(
    experiment: Experiment,
    *,
    seed: int = 0,
    client: Connect | None = None,
    shows_progress: bool | None = None,
) -> Results:
    """Run one experiment.

    Args:
        experiment: The experiment.
        seed: Source of all chance; the same seed gives the same rows under the fake clock.
        client: Makes clients of a live runtime that has the task; None runs in this process under the fake clock.
        shows_progress: None: on a terminal or in a notebook.

    Raises:
        UsageError: The seed is not an int, or a policy or payload gave what is not JSON.
        SchemaMismatch: A payload or an answer does not fit; the experiment ends there.
    """
    with progress(experiment.sessions, shows=shows_progress) as tell:
        return Results([({}, *_run_one(experiment, _seed(seed), client, tell))])


def sweep(
    make: Callable[..., Experiment],
    *,
    over: Mapping[str, Sequence[Scalar] | Mapping[str, Any]],
    seed: int = 0,
    client: Connect | None = None,
    shows_progress: bool | None = None,
) -> Results:
    """Run an experiment for every combination of parameters.

    All of them under the same seed: the same arrivals meet the same people, so that what differs is due to the
    parameters.

    Args:
        make: Makes the experiment from keyword arguments, one per parameter.
        over: For each parameter its values: texts, numbers, or a mapping from a label to anything. Values and labels
            become columns of the results.
        seed: As `run`.
        client: As `run`.
        shows_progress: As `run`.

    Raises:
        UsageError: A parameter has no values or unfit ones, or its name is taken; and as `run`.
        SchemaMismatch: As `run`.
    """
    axes = {name: _axis(name, values) for name, values in over.items()}
    check_parameters(axes)
    cells = list(itertools.islice(itertools.product(*axes.values()), CELLS_MAX + 1))
    if not axes or len(cells) > CELLS_MAX:
        raise UsageError(f"a sweep has 1 to {CELLS_MAX:,} combinations")
    labels = [dict(zip(axes, (label for label, _ in cell), strict=True)) for cell in cells]
    made = [make(**dict(zip(axes, (value for _, value in cell), strict=True))) for cell in cells]
    for one in made:
        if not isinstance(one, Experiment):
            raise UsageError(f"the function returned {one!r}, not an Experiment")
    parts = []
    done = 0
    with progress(sum(one.sessions for one in made), shows=shows_progress) as tell:
        for parameters, one in zip(labels, made, strict=True):
            rows = _run_one(one, _seed(seed), client, _counted_on(tell, done))
            parts.append((parameters, *rows))
            done += one.sessions
            tell(done)
    return Results(parts)


def replay(
    sessions: Iterable[Recording],
    *,
    task: Task[..., Any],
    answers: Literal["keep", "ask", "compare"] = "keep",
    operators: Sequence[Operator] = (),
    agree: Callable[[Any, Any], bool] | None = None,
    steps: Mapping[str, StandIn] | None = None,
    budget: Budget | None = None,
    also: Sequence[Task[..., Any]] = (),
    runs: Literal["newest", "all"] = "newest",
    seed: int = 0,
    shows_progress: bool | None = None,
) -> Replays:
    """Replay recorded sessions with other code, or with other answers.

    Steps have no effects unless they are to execute: each returns the outcome recorded for its name and number,
    whatever its arguments are now. Kept answers keep the people who gave them. A session that can't be replayed is a
    row whose `problem` says why.

    Args:
        sessions: Names of session files, or sessions of a blocking client (`client.sessions.open(id)`).
        task: The code.
        answers: `keep`: a question asked word for word as recorded gets the recorded answer, after the same time.
            `ask`: everything is asked again. `compare`: as `keep`, and operators say what they would answer.
        operators: Answer the questions without a kept answer; without operators these stay open.
        agree: Returns True if a person's answer and a proposed one, both JSON, mean the same; None: if they are equal.
        steps: By a step's name, a function that takes the step's arguments and returns its value: for new steps, and
            in place of recorded outcomes. `"execute"`: the step runs with its real effects, within the budget.
        budget: Bounds on the steps that execute. When it is spent the replay stops, and keeps the sessions it has.
        also: Further tasks that the code needs.
        runs: Each session's newest run, or `all`: a row for each run of a session that goes on by `continue_as`. A
            later one begins with what its session had when it began.
        seed: Source of all chance; the same seed gives the same rows.
        shows_progress: None: on a terminal or in a notebook.

    Raises:
        UsageError: A file can't be read, or is of another task; an operator can't be used.
        SessionFileDamaged: A file is not as it was written.
    """
    # Here, so that the harness and what it loads come only when it runs.
    from helmr.experiments.what_if import Change, check_operators, recorded_runs, replay_all

    if answers not in ("keep", "ask", "compare"):
        raise UsageError(f"answers is {answers!r}, not 'keep', 'ask' or 'compare'")
    if runs not in ("newest", "all"):
        raise UsageError(f"runs is {runs!r}, not 'newest' or 'all'")
    check_operators(operators)
    steps = steps or {}
    check_steps(steps, budget)
    found = recorded_runs(sessions, task.id, newest=runs == "newest")
    change = Change(task, also, answers, operators, steps, _seed(seed), budget, agree, runs)
    with progress(sum(map(len, found)), shows=shows_progress) as tell:
        return _in_thread(replay_all(found, change, tell=tell))


def _counted_on(tell: Tell, before: int) -> Tell:
    return lambda done: tell(before + done)


def _axis(name: str, values: Sequence[Scalar] | Mapping[str, Any]) -> list[tuple[Scalar, Any]]:
    if isinstance(values, Mapping):
        pairs: list[tuple[Scalar, Any]] = list(values.items())
    elif isinstance(values, str) or not isinstance(values, Sequence):
        raise UsageError(f"{name} is swept over {values!r}, not over a list or a mapping")
    else:
        pairs = [(value, value) for value in values]
    kinds = {type(label) for label, _ in pairs}
    if not pairs or len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        raise UsageError(
            f"{name} needs one or more values, all texts or all numbers of one type",
            hint="Name other values: a mapping from a label to each.",
        )
    if len({label for label, _ in pairs}) < len(pairs):
        raise UsageError(f"{name} has a value twice")
    return pairs


def _seed(seed: int) -> int:
    if type(seed) is not int:
        raise UsageError(f"the seed is an int, not {seed!r}")
    return seed


def _run_one(
    experiment: Experiment, seed: int, client: Connect | None, tell: Tell
) -> tuple[list[Any], list[Any]]:
    # Here, so that the harness and what it loads come only when it runs.
    if client is None:
        from helmr.experiments.live import simulate

        course = _in_thread(simulate(experiment, seed=seed, tell=tell))
    elif not callable(client):
        raise UsageError(
            f"client={client!r} does not make clients",
            hint="client=AsyncClient, or a partial of it.",
        )
    else:
        from helmr.experiments.live import live

        course = _in_thread(live(experiment, seed=seed, connect=client, tell=tell))
    return course.sessions, course.waits


def _in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end on a loop of its own; Ctrl-C cancels it and waits for its tidying up."""
    with ThreadPoolExecutor(1, thread_name_prefix="helmr-experiment") as pool:
        runner = _Runner(work)
        future = pool.submit(runner.serve)
        try:
            return future.result()
        except BaseException:
            runner.cancel()
            raise


class _Runner(Generic[T]):
    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None

    def serve(self) -> T:
        """Serve in the thread."""
        return asyncio.run(self._begin())

    async def _begin(self) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.create_task(_as_is(self._work))
        return await self._task

    def cancel(self) -> None:
        """Cancel from another thread; harmless after the end."""
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._task.cancel)


async def _as_is(work: Coroutine[Any, Any, T]) -> T:
    return await work
