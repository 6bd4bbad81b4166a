"""Every error Helmr raises, and the signals that steer a run.

```
HelmrError                code (stable, snake_case) · hint (what to do) · retryable · facts
  UsageError              fix the call                   exit 2   HTTP 400/413/415/422
  NotFound                check the id                   exit 3   HTTP 404
  NotAllowed              get the right                  exit 4   HTTP 401/403
  Conflict                look again, then decide        exit 5   HTTP 409/410
  Unavailable             try again, same operation id   exit 6   HTTP 429/503   retryable
  DataError               stop, keep the file            exit 7   HTTP 500
  OutcomeError            outcomes that reach a task: StepFailed, ChildFailed, WaitTimeout, WaitCancelled
HelmrSignal(BaseException)   control flow that task code cannot swallow
```

HTTP answers, exit codes and the tables of docs/errors.md (`make tables`) follow from these classes. A leaf's code is
its name in snake case (`wait_resolved`); it inherits status, hint and advice unless it sets its own. The code is the
wire name: `error_from_code` finds the class again on the client's side.
"""

from __future__ import annotations

from helmr.errors.base import HelmrError as HelmrError
from helmr.errors.base import HelmrSignal as HelmrSignal
from helmr.errors.base import NondeterminismError as NondeterminismError
from helmr.errors.base import RunCancelled as RunCancelled
from helmr.errors.base import RunContinued as RunContinued
from helmr.errors.base import RunParked as RunParked
from helmr.errors.base import all_codes as all_codes
from helmr.errors.base import error_from_code as error_from_code
from helmr.wire.old_names import KEPT_ERROR_CODES


class UsageError(HelmrError):
    """The call itself is wrong; the same call will fail again."""

    code = "usage"
    status = 400
    exit_code = 2
    title = "Bad request"
    advice = "Read the message; `--help` or the reference says what the call takes."


class BadRequest(UsageError):
    """The request can't be read: not JSON, unknown fields, a missing field."""

    advice = "Compare the body with the [HTTP reference](http.md)."


class BadJson(UsageError):
    """Text that is not the strict JSON Helmr takes (duplicate keys, NaN, depth, surrogates)."""

    advice = "Send strict JSON: no duplicate keys, no NaN, at most 64 levels."


class BadId(UsageError):
    """An id that is not a Helmr id, or an id of another kind."""

    advice = "Ids look like `ses_…`, `run_…`, `wait_…`, `tok_…`."


class BadDuration(UsageError):
    """A duration that can't be read or is out of range."""

    advice = 'Write `"90s"`, `"30m"`, `"1h30m"`, `"7d"`, a number of seconds or a timedelta.'


class BadCursor(UsageError):
    """A cursor that does not come from this list."""

    default_hint = "Start the list again without a cursor."


class BadFilter(UsageError):
    """A filter that can't be read; the message names the word."""

    advice = "The message names the word that can't be read."


class BadEscalation(UsageError):
    """A wait's escalation that can't run: too many escalation steps, or a default that comes too late (S-82)."""

    advice = "Give the default less time than the timeout; at most 20 escalation steps."


class TooLarge(UsageError):
    """A body, record, payload or result over its limit (S-28)."""

    status = 413
    title = "Too large"
    advice = "Keep large things elsewhere and send a link. [Limits](operations.md#limits)."


class UnsupportedMedia(UsageError):
    """A content type that the route does not accept."""

    status = 415
    title = "Unsupported media type"
    advice = "Send `application/json`."


class SchemaMismatch(UsageError):
    """Data that its schema refuses; `errors` names the failing paths (S-4, S-21)."""

    status = 422
    title = "Data does not fit the schema"
    advice = "`errors` holds path and message of each place; `helmr wait get` shows the schema."


class BadSchema(UsageError):
    """A JSON Schema that can't be used: not one, too large, or with references elsewhere."""

    status = 422
    advice = "Use JSON Schema 2020-12 without references to other documents."


class BadQuery(UsageError):
    """SQL that can't be read, or that asks for more than a query may; the message says what."""

    status = 422
    title = "Not a query"
    advice = (
        "One SELECT over the [views](sql.md#the-views); [what a query may "
        "be](sql.md#what-a-query-may-be)."
    )


class QueryTimeout(UsageError):
    """A query reached its time limit and was stopped."""

    status = 422
    title = "The query took too long"
    default_hint = (
        "Ask for a shorter range of `feed_offset` or of times, or group by a `…_key` column."
    )
    advice = (
        "Ask for a shorter range of `feed_offset` or of times; join and group by `…_key` columns."
    )


class QueryTooLarge(UsageError):
    """A query was stopped because its result or its memory passed the limit."""

    status = 422
    title = "The query is too large"
    default_hint = "Ask for fewer rows or columns; `helmr export` reads whole ranges."


class ConcurrentWaitError(UsageError):
    """A run opened a second wait while one is active (S-10); the first is unharmed."""

    code = "concurrent_wait"
    status = 409
    default_hint = "Await one wait at a time; a run has a single blocking condition."


class NotInTask(UsageError):
    """The code made a durable call where no run executes, or inside a step."""

    advice = "Move the call into the task; a step only touches the world."


class NotAwaited(UsageError):
    """The code made a durable call and never awaited it, or gave it to a step, which would skip it (S-125).

    The run failed; the message names the file and line, as do the facts `file` and `line`.
    """

    default_hint = "Write `await` before it."
    advice = "Write `await` before it, and start the session again."


class BadDefinition(UsageError):
    """A task, step or stream is declared in a way that can't work; the message names the place."""

    advice = "The message names the declaration."


class RunTooLong(UsageError):
    """A run asked for more than 20,000 ops (S-8)."""

    default_hint = "Start a fresh journal with `await ctx.continue_as(payload)`."


class AmbiguousRuntime(UsageError):
    """Several runtimes are running, and the call names none."""

    default_hint = "Set HELMR_URL or pass --url or --data-dir."


class BadKeyRing(UsageError):
    """Master keys that can't be read, or that other users of the machine could read."""

    advice = (
        "The message names the file or variable; a key file belongs to its owner alone "
        "(`chmod 600`)."
    )


class MissingExtra(UsageError):
    """A part of Helmr is not installed; names the extra."""

    advice = "Install the extra that the message names."


class NotFound(HelmrError):
    """The thing that the call names does not exist."""

    status = 404
    exit_code = 3
    title = "Not found"
    advice = "Check the id."


class SessionNotFound(NotFound):
    """No session with that id."""

    default_hint = "List sessions with `helmr session list`."


class RunNotFound(NotFound):
    """No run with that id."""

    default_hint = "List a session's runs with `helmr run list --session ID`."


class WaitNotFound(NotFound):
    """No wait with that id."""

    default_hint = "List open waits with `helmr wait list`."


class AttachmentNotFound(NotFound):
    """No file with that id at this wait, or in this session."""

    default_hint = "List a wait's files with `helmr wait files WAIT_ID`."


class StreamNotFound(NotFound):
    """The session's task has no such stream, or the code no longer has the task and the session never used it (S-20).

    The message lists the known streams.
    """

    advice = "Use one of the streams that the message lists."


class TaskNotFound(NotFound):
    """No task is registered under that id; the message lists the tasks."""

    advice = "Use one of the tasks that the message lists, or start the runtime with the module that has it."


class TokenNotFound(NotFound):
    """No token with that id."""


class OpNotFound(NotFound):
    """The run's journal has no such op."""

    advice = "An op that was set aside is no longer in the journal."


class KeyNotFound(NotFound):
    """No API key, public token or signing key with that id."""


class ScheduleNotFound(NotFound):
    """No schedule with that name."""

    advice = "Check the name."


class GrantNotFound(NotFound):
    """No grant with that id, or one that ended long ago."""

    advice = "`helmr gate grant list` shows them."


class PersonNotFound(NotFound):
    """No person with that name: `helmr.toml` does not name them, and no one signed in with that name."""

    advice = "`helmr person list` shows people; `[people.NAME]` in `helmr.toml` adds one."


class DelegationNotFound(NotFound):
    """No delegation with that id, or one whose time is over (S-142)."""

    advice = "`helmr person delegations` shows those that hold."


class NoticeTargetNotFound(NotFound):
    """No notice target with that name."""

    advice = "`helmr notices list` shows them; `helmr.toml` declares them."


class NotAllowed(HelmrError):
    """The caller may not do this."""

    status = 403
    exit_code = 4
    title = "Not allowed"
    advice = "Ask the person who runs the runtime."


class Unauthenticated(NotAllowed):
    """No key, or one that is unknown, malformed, revoked or expired; the message is the same for each (S-46)."""

    status = 401
    title = "Not authenticated"
    default_hint = "Send `Authorization: Bearer <key>`; HELMR_API_KEY sets it for CLI and SDK."


class RoleDenied(NotAllowed):
    """The key's role does not cover this route."""

    advice = "Use a key whose role covers it."


class PersonDisabled(NotAllowed):
    """This person is disabled (S-117)."""

    advice = "An admin lets them act again with `helmr person enable`."


class ScopeDenied(NotAllowed):
    """A public token used outside its one scope (S-44)."""

    advice = "A public token does one thing: use it there."


class NotAnAnswerer(NotAllowed):
    """Other people answer this wait; the message names them (S-112)."""

    advice = "Ask one of them. An admin can answer instead, with a reason: `override_reason`."


class SignatureNeeded(NotAllowed):
    """The wait accepts only signed answers, and this one is not signed (S-115)."""

    advice = (
        "Answer in the console, with `helmr next` or `helmr wait answer`: they sign with your key."
    )


class BadSignature(NotAllowed):
    """The signature is not of this answer by a key of this person (S-115)."""

    advice = "An admin registers a key with `helmr person add-key`."


class OriginDenied(NotAllowed):
    """A browser origin that the public token does not allow."""

    advice = "Make the token with this origin among its allowed origins."


class SignatureRefused(NotAllowed):
    """A callback without the provider's valid signature over its raw body (S-42)."""

    advice = "Check the shared secret at the provider."


class TokenExhausted(NotAllowed):
    """A public token whose uses are spent (S-45)."""

    advice = "Make another token."


class Conflict(HelmrError):
    """The state is not what the caller expected."""

    status = 409
    exit_code = 5
    title = "Conflict"
    advice = "Read the present state, then decide."


class WaitResolved(Conflict):
    """The wait is over; the message says who ended it, when and how (S-18)."""

    advice = "Nothing of your answer was stored. The facts say who answered, when and what."


class WaitTimedOut(Conflict):
    """The wait's deadline passed before the answer (S-18)."""

    status = 410
    title = "Deadline passed"
    advice = "Nothing of your answer was stored. Look at what the run did instead."


class WaitClaimed(Conflict):
    """Someone else has claimed the wait; the message says who, and until when (S-81)."""

    default_hint = "Ask them, wait until then, or override the claim."


class PersonBound(Conflict):
    """The issuer's account belongs to another person, or this person has another account (S-111)."""

    advice = (
        "If it is the same human, an admin runs `helmr person unbind`; the next sign-in binds them."
    )


class NotAmendable(Conflict):
    """An answer that several people gave can't be amended by one (S-112)."""

    code = KEPT_ERROR_CODES["NotAmendable"]
    default_hint = "Rewind to the wait: all of them are asked again."


class SessionTerminal(Conflict):
    """The session is closed or cancelled (S-27)."""

    default_hint = "Start a new session."


class RunActive(Conflict):
    """The session has an active run (S-2, S-6)."""

    advice = "Wait for its end, cancel it, or close with `end_input`."


class RunNotNewest(Conflict):
    """Only a session's newest run has a journal to replay."""

    advice = "Ask for the session's newest run."


class RunNotRetryable(Conflict):
    """Only the newest run, failed or blocked, can be retried (S-5)."""

    advice = "Look at the session's newest run."


class RunNotRewindable(Conflict):
    """Only a session's newest run can be rewound (S-75)."""

    advice = "Look at the session's newest run."


class ForkRefused(Conflict):
    """The session can't be forked there: it waits for a token, and the token stays with it (S-86)."""

    advice = "Fork before that wait, or after it."


class SessionChanged(Conflict):
    """A correction, retry or cancel would do something other than what you saw; the facts say what (S-76, S-124)."""

    advice = "Look again, then decide."


class WaitNotAmendable(Conflict):
    """Only an answered or timed-out wait for input or a token, in the newest run's journal, can be amended (S-79)."""

    advice = "Answer it, if it is pending."


class IdleInputRejected(Conflict):
    """No run is active, and the task rejects input while none is (S-7)."""

    advice = "Start a run first."


class ExternalIdConflict(Conflict):
    """The external id names an open session with other parameters (S-2)."""

    advice = "Close the open session, or use another external id."


class IdempotencyConflict(Conflict):
    """The idempotency key was used with other data (S-26)."""

    advice = "Use a new key for new data."


class LedgerSuperseded(Conflict):
    """Another runtime uses this ledger, so this one no longer acknowledges anything (S-68, S-97)."""

    status = (
        503  # what retries is to come again: behind a load balancer it comes to the other runtime
    )
    title = "Superseded"
    retryable = True
    default_hint = "Use the address of the other runtime, and stop this one."


class OperationConflict(Conflict):
    """The operation id was used with another request (S-61)."""

    advice = "Use a new operation id for a new request."


class TokenCompleted(Conflict):
    """Another completion was first; the message says when and by whom (S-41)."""

    advice = "The first completion counts; the facts say when and by whom."


class TokenExpired(Conflict):
    """The token's deadline passed (S-41)."""

    status = 410
    advice = "Ask the task's owner to start again."


class TokenCancelled(Conflict):
    """The token was cancelled (S-41)."""

    advice = "Nothing: no one needs the completion any more."


class RuntimeHeld(Conflict):
    """Another runtime holds this data directory; the message names it."""

    advice = "Use that runtime, end it with `helmr down`, or take another `--data-dir`."


class StaleEpoch(Conflict):
    """A write by an actor that no longer holds its session (S-62)."""

    advice = "Nothing: another actor has taken the session over. Seen in logs only."


class Moved(Conflict):
    """The called actor does not hold that session; nothing happened. Never leaves the runtime."""

    retryable = True
    advice = "Nothing: the caller asks again. Never leaves the runtime."


class Unavailable(HelmrError):
    """The runtime can't do it now; the same call with the same operation id is safe."""

    status = 503
    exit_code = 6
    title = "Unavailable"
    retryable = True
    advice = "Try again."


class RuntimeNotFound(Unavailable):
    """No runtime answers where the client looked."""

    default_hint = "Start one with `helmr up`, or set HELMR_URL."


class NotReady(Unavailable):
    """The runtime is starting or stopping."""

    advice = "Try again in a moment; `helmr status` says what is missing."


class Standby(Unavailable):
    """This runtime is a standby: call the primary of the same log instead (S-98)."""

    advice = "Ask the other runtime: name both in `HELMR_URL`."


class GroupsUnknown(Unavailable):
    """The right to answer depends on groups that are not known now; nothing is stored (S-114)."""

    retryable = False  # only a sign-in helps
    advice = "Sign in (`helmr login`), also if you come with a personal key; then try again."


class StoreUnavailable(Unavailable):
    """The ledger can't commit now (disk full, restarting); nothing is stored (S-65)."""

    advice = "Look at `helmr status`; free disk space. Nothing acknowledged is lost."


class OutcomeUnknown(Unavailable):
    """The ledger did not confirm the commit in time; repeat with the same operation id to learn what happened."""

    default_hint = "Repeat the call with the same Operation-Id."


class Overloaded(Unavailable):
    """A limit is reached; nothing was stored (S-28, S-64)."""

    status = 429
    title = "Too many"
    advice = "Wait as long as `Retry-After` says."


class QueryBusy(Unavailable):
    """Another query runs; one runs at a time."""

    status = 429
    title = "Another query runs"
    advice = "Wait as long as `Retry-After` says; the clients do."


class DataError(HelmrError):
    """Stored data differs from what was written."""

    status = 500
    exit_code = 7
    title = "Stored data is damaged"
    default_hint = "Stop the runtime and keep the data directory as it is."


class ChainBroken(DataError):
    """The hash chain of a session is broken; the message names the first bad seq (S-52)."""


class LedgerDamaged(DataError):
    """A ledger, or a backup of one, differs from what was written; the message names the first bad place (S-67).

    The facts give that place: `line` of a backup; `feed_offset`, `session_id` and `seq` of an entry; `table` and `row`;
    `commit` and `next_commit` of a log of commits, the last whole ones before and the first after the damage; or `byte`
    of the database's log.
    """

    default_hint = (
        "Keep it as it is; `helmr verify` says what is damaged, docs/toolbox.md what can be mended."
    )
    advice = (
        "Keep it as it is; `helmr verify` says what is damaged, [what can be "
        "mended](toolbox.md#repair)."
    )


class PayloadDamaged(DataError):
    """An encrypted body can't be decrypted: a byte or its address has changed; the message names the entry."""


class MasterKeyMissing(DataError):
    """The master keys here differ from the ledger's, or lack one that is still needed; the message names the key."""

    default_hint = "Put the old key back into the key ring: it is needed as long as anything made with it exists."
    advice = (
        "Put the right key ring back (`master-keys.json`, `HELMR_MASTER_KEYS`, `--keys "
        "FILE`): a key is needed as long as anything made with it exists, and a new ring "
        "can't replace an old one."
    )


class LedgerBehind(DataError):
    """The file lacks acknowledged data: a lost WAL or an older copy (S-52)."""


class LogNewer(DataError):
    """A later Helmr writes to the log of commits, and this one can't read all of it (S-101)."""

    default_hint = "Upgrade this runtime; of a pair the standby first."


class FeatureMissing(DataError):
    """The ledger has entries of a feature that this runtime lacks: it stays closed, and no entry is skipped."""

    title = "A feature is missing"
    default_hint = "Use the Helmr that wrote it; nothing was changed."


class SessionFileDamaged(DataError):
    """A line of a session file differs from what was written or from what was signed; `line` is its number."""

    default_hint = "Get the file again from where it was exported."


class OutcomeError(HelmrError):
    """An outcome that reaches a task as an exception."""

    code = "outcome"
    advice = "Handle it in the task."


class StepFailed(OutcomeError):
    """A step's last try failed; `type` and `text` are those of its exception (S-33)."""

    advice = (
        "Catch it, let the task's retry policy act, or `helmr run retry` after the cause is gone."
    )

    @property
    def type(self) -> str:
        """The failing exception's type name."""
        return str(self.facts.get("type", ""))

    @property
    def text(self) -> str:
        """The failing exception's message."""
        return str(self.facts.get("text", ""))


class ChildFailed(OutcomeError):
    """The run of a child session failed; `type` and `text` are those of its exception (S-91)."""

    advice = "Catch it; `helmr session transcript CHILD` has the traceback."

    @property
    def type(self) -> str:
        """The failing exception's type name."""
        return str(self.facts.get("type", ""))

    @property
    def text(self) -> str:
        """The failing exception's message."""
        return str(self.facts.get("text", ""))


class WaitTimeout(OutcomeError):
    """A wait's deadline passed (S-15)."""

    advice = "Look at `result.error`, or catch it around `.unwrap()`."


class WaitCancelled(OutcomeError):
    """A wait ended without an answer: its input ended, its token or child was cancelled (S-6, S-40, S-91)."""

    advice = "The facts give the reason: input ended or token cancelled."


AskAnew = NotAmendable  # its name up to 1.0.0rc1
