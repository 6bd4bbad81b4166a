"""`Client`: sessions, runs and waits for programs without an event loop.

Each method runs the awaited one with its documentation (`helmr.client.aio` and its parts). Lists and follows are
iterators. Over blocking connections, no coroutine of the client ever suspends, so each runs to its end in one go
(`blocking`).
"""

from __future__ import annotations

import os
from collections.abc import (
    Sequence,
)
from pkgutil import resolve_name
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from helmr.client.aio import AsyncClient, AsyncNamedLimits, AsyncStreams, AsyncTasks
from helmr.client.blocking import BlockingPart, blocking, described, finish
from helmr.client.bulk import AsyncBulk
from helmr.client.calls import Retry
from helmr.client.discovery import find_runtime
from helmr.client.endpoint import Endpoint
from helmr.client.http import HttpTransport
from helmr.client.keys import AsyncKeys
from helmr.client.notices import AsyncNotices
from helmr.client.people import AsyncPeople
from helmr.client.public_tokens import AsyncAuth
from helmr.client.runs import AsyncRuns
from helmr.client.sessions import (
    AsyncInput,
    AsyncOutput,
    AsyncSessionHandle,
    AsyncSessions,
    AsyncStartedSession,
    R,
)
from helmr.client.tokens import AsyncTokens
from helmr.client.waits import AsyncWaits
from helmr.features import BlockingParts, client_parts
from helmr.models import RunInfo, SessionInfo, StartReceipt
from helmr.wire.truth import no_truth

if TYPE_CHECKING:
    from typing import Unpack

    from helmr.client.sessions import StartAndWaitOptions, StartOptions
    from helmr.tasks import Task
    from helmr.wire.operation import Operation


T = TypeVar("T")
U = TypeVar("U")
A = TypeVar("A")
P = ParamSpec("P")


_OF_FEATURES: dict[str, type[BlockingPart[Any]]] = {
    name: resolve_name(part) for name, (_, part) in client_parts()
}
globals().update({part.__name__: part for part in _OF_FEATURES.values()})


class Client(BlockingPart[AsyncClient], BlockingParts):
    """A connection to one runtime. It is thread-safe; close it, or use it in a `with`.

    Args:
        url: The runtime's URL, or the addresses of a pair, also as one text with commas; `ray` is the one in the
            Ray cluster of this process. Without it the client looks in `HELMR_URL`, `data_dir`, the Ray cluster that
            this process is connected to, the nearest `.helmr/` upward, then for the only live runtime.
        key: API key. Without it `HELMR_API_KEY` for a URL, else the one found with the runtime.
        data_dir: The runtime's data directory.
        on_behalf_of: The person for whom this program acts; recorded with everything it does (S-51).
        retry: Bounds on retries.

    Raises:
        RuntimeNotFound: None is running in these places.
        AmbiguousRuntime: Several are running, and none is named.
    """

    def __init__(
        self,
        *,
        url: str | Sequence[str] | None = None,
        key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        on_behalf_of: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        endpoint = find_runtime(url=url, key=key, data_dir=data_dir)
        self._bind(HttpTransport(endpoint, retry=retry, on_behalf_of=on_behalf_of))

    @classmethod
    def _over(cls, transport: HttpTransport) -> Self:
        """Return a client over an existing transport."""
        client = cls.__new__(cls)
        client._bind(transport)
        return client

    def _bind(self, transport: HttpTransport) -> None:
        awaited = AsyncClient._over(transport)
        super().__init__(awaited)
        self.sessions = Sessions(awaited.sessions)
        self.runs = Runs(awaited.runs)
        self.waits = Waits(awaited.waits)
        self.tokens = Tokens(awaited.tokens)
        self.auth = Auth(awaited.auth)
        self.keys = Keys(awaited.keys)
        self.people = People(awaited.people)
        for name, part in _OF_FEATURES.items():
            setattr(self, name, part(getattr(awaited, name)))
        self.notices = Notices(awaited.notices)
        self.tasks = Tasks(awaited.tasks)
        self.streams = Streams(awaited.streams)
        self.limits = NamedLimits(awaited.limits)
        self.bulk = Bulk(awaited.bulk)

    @property
    def endpoint(self) -> Endpoint:
        """The runtime that this client talks to."""
        return self._awaited.endpoint

    health = blocking(AsyncClient.health)
    query = blocking(AsyncClient.query)
    backup = blocking(AsyncClient.backup)
    prune = blocking(AsyncClient.prune)
    events = blocking(AsyncClient.events)
    close = blocking(AsyncClient.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ask(client: Client, operation: Operation[T], *ids: str, **parts: Any) -> T:
    """Send an operation of the table and return its answer; arguments as for `helmr.client.calls.call`."""
    return finish(client._awaited._ask(operation, *ids, **parts))


class SessionHandle(BlockingPart[AsyncSessionHandle]):
    """One session, by id."""

    @property
    def id(self) -> str:
        """Its id."""
        return self._awaited.id

    get = blocking(AsyncSessionHandle.get)

    def input(self, stream: str) -> Input:
        """An input stream of the session."""
        return Input(self._awaited.input(stream))

    def output(self, stream: str) -> Output:
        """An output stream of the session."""
        return Output(self._awaited.output(stream))

    transcript = blocking(AsyncSessionHandle.transcript)
    transcript_page = blocking(AsyncSessionHandle.transcript_page)
    export = blocking(AsyncSessionHandle.export)
    follow = blocking(AsyncSessionHandle.follow)
    run = blocking(AsyncSessionHandle.run)
    runs = blocking(AsyncSessionHandle.runs)
    close = blocking(AsyncSessionHandle.close)
    cancel = blocking(AsyncSessionHandle.cancel)
    fork = blocking(AsyncSessionHandle.fork, gives=lambda one: StartedSession(one))
    note = blocking(AsyncSessionHandle.note)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class StartedSession(SessionHandle, Generic[R]):
    """The session that a start made or found, with the answer of the start."""

    def __init__(self, awaited: AsyncStartedSession[R]) -> None:
        super().__init__(awaited)
        self._started = awaited
        self.receipt: StartReceipt = awaited.receipt

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it refuses
        no_truth(self, ".result for what the run returned, .created, or `is not None`")

    @property
    def session(self) -> SessionInfo:
        """The session as it was when the start was answered."""
        return self.receipt.session

    @property
    def started_run(self) -> RunInfo:
        """The run as it was when the start was answered."""
        return self.receipt.run

    @property
    def created(self) -> bool:
        """False if the session was there already."""
        return self.receipt.created

    @property
    def result(self) -> R:
        """Return the run's result, by the task's return annotation; JSON if the task was given by its id.

        Raises:
            UsageError: The run had not succeeded when the start was answered.
            SchemaMismatch: The stored result does not fit the annotation, or the run has continued as another.
        """
        return self._started.result


class Sessions(BlockingPart[AsyncSessions]):
    """Start sessions and find them."""

    @overload
    def start(
        self, task: Task[Concatenate[T, P], R], payload: T, **options: Unpack[StartOptions]
    ) -> StartedSession[R]: ...
    @overload
    def start(
        self, task: str, payload: Any = ..., **options: Unpack[StartOptions]
    ) -> StartedSession[Any]: ...
    @described(AsyncSessions.start)
    def start(self, *args: Any, **options: Any) -> StartedSession[Any]:
        return StartedSession(finish(self._awaited.start(*args, **options)))

    @overload
    def start_and_wait(
        self, task: Task[Concatenate[T, P], R], payload: T, **options: Unpack[StartAndWaitOptions]
    ) -> StartedSession[R]: ...
    @overload
    def start_and_wait(
        self, task: str, payload: Any = ..., **options: Unpack[StartAndWaitOptions]
    ) -> StartedSession[Any]: ...
    @described(AsyncSessions.start_and_wait)
    def start_and_wait(self, *args: Any, **options: Any) -> StartedSession[Any]:
        return StartedSession(finish(self._awaited.start_and_wait(*args, **options)))

    def open(self, session_id: str) -> SessionHandle:
        """Return a handle on the session with that id. It sends no request: a wrong id fails at the first call."""
        return SessionHandle(self._awaited.open(session_id))

    find = blocking(AsyncSessions.find, gives=SessionHandle)
    list = blocking(AsyncSessions.list)
    page = blocking(AsyncSessions.page)


class Input(BlockingPart[AsyncInput]):
    """An input stream of a session."""

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._awaited.session_id

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._awaited.stream

    send = blocking(AsyncInput.send)
    list = blocking(AsyncInput.list)
    page = blocking(AsyncInput.page)


class Output(BlockingPart[AsyncOutput]):
    """An output stream of a session."""

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._awaited.session_id

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._awaited.stream

    read = blocking(AsyncOutput.read)
    page = blocking(AsyncOutput.page)
    follow = blocking(AsyncOutput.follow)
    follow_chunks = blocking(AsyncOutput.follow_chunks)


class Runs(BlockingPart[AsyncRuns]):
    """Runs of all sessions."""

    get = blocking(AsyncRuns.get)
    list = blocking(AsyncRuns.list)
    page = blocking(AsyncRuns.page)
    journal = blocking(AsyncRuns.journal)
    cancel = blocking(AsyncRuns.cancel)
    retry = blocking(AsyncRuns.retry)
    preview_rewind = blocking(AsyncRuns.preview_rewind)
    rewind = blocking(AsyncRuns.rewind)
    wait = blocking(AsyncRuns.wait)


class Waits(BlockingPart[AsyncWaits]):
    """Waits of all sessions: the inbox."""

    get = blocking(AsyncWaits.get)
    attachment = blocking(AsyncWaits.attachment)
    list = blocking(AsyncWaits.list)
    page = blocking(AsyncWaits.page)
    answer = blocking(AsyncWaits.answer)
    withdraw = blocking(AsyncWaits.withdraw)
    claim = blocking(AsyncWaits.claim)
    release = blocking(AsyncWaits.release)
    assign = blocking(AsyncWaits.assign)
    link = blocking(AsyncWaits.link)
    links = blocking(AsyncWaits.links)
    unlink = blocking(AsyncWaits.unlink)
    dry_run = blocking(AsyncWaits.dry_run)
    preview_amend = blocking(AsyncWaits.preview_amend)
    amend = blocking(AsyncWaits.amend)


class Tokens(BlockingPart[AsyncTokens]):
    """Tokens of all sessions, and those that programs make."""

    create = blocking(AsyncTokens.create)
    get = blocking(AsyncTokens.get)
    list = blocking(AsyncTokens.list)
    page = blocking(AsyncTokens.page)
    complete = blocking(AsyncTokens.complete)
    cancel = blocking(AsyncTokens.cancel)


class Auth(BlockingPart[AsyncAuth]):
    """Public tokens: scoped secrets that a browser may hold (S-44)."""

    create_public_token = blocking(AsyncAuth.create_public_token)
    list = blocking(AsyncAuth.list)
    page = blocking(AsyncAuth.page)
    revoke = blocking(AsyncAuth.revoke)


class Keys(BlockingPart[AsyncKeys]):
    """API keys; admins only."""

    create = blocking(AsyncKeys.create)
    list = blocking(AsyncKeys.list)
    page = blocking(AsyncKeys.page)
    revoke = blocking(AsyncKeys.revoke)
    public = blocking(AsyncKeys.public)


class People(BlockingPart[AsyncPeople]):
    """People (S-111): the caller, the list of people, and disabled ones."""

    whoami = blocking(AsyncPeople.whoami)
    sign_in = blocking(AsyncPeople.sign_in)
    list = blocking(AsyncPeople.list)
    page = blocking(AsyncPeople.page)
    get = blocking(AsyncPeople.get)
    disable = blocking(AsyncPeople.disable)
    enable = blocking(AsyncPeople.enable)
    unbind = blocking(AsyncPeople.unbind)
    add_key = blocking(AsyncPeople.add_key)
    revoke_key = blocking(AsyncPeople.revoke_key)
    delegate = blocking(AsyncPeople.delegate)
    delegations = blocking(AsyncPeople.delegations)
    undelegate = blocking(AsyncPeople.undelegate)


class Notices(BlockingPart[AsyncNotices]):
    """Notice targets, which the runtime's `helmr.toml` declares, and their progress (S-84)."""

    list = blocking(AsyncNotices.list)
    test = blocking(AsyncNotices.test)
    retry = blocking(AsyncNotices.retry)


class Tasks(BlockingPart[AsyncTasks]):
    """The catalog's tasks."""

    list = blocking(AsyncTasks.list)


class Streams(BlockingPart[AsyncStreams]):
    """The catalog's streams."""

    list = blocking(AsyncStreams.list)


class NamedLimits(BlockingPart[AsyncNamedLimits]):
    """Limits that steps and tasks share (S-119)."""

    list = blocking(AsyncNamedLimits.list)


class Bulk(BlockingPart[AsyncBulk]):
    """Retry, cancel, close or prune many runs or sessions: `preview` shows them, `do` acts on the shown ones."""

    preview = blocking(AsyncBulk.preview)
    do = blocking(AsyncBulk.do)
