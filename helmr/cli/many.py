"""Does the same to many things: shows them, asks, then acts on each and reports it.

`do` serves `helmr.cli.bulk` and amendments. `Sending` sends answers; it skips and reports waits that changed after they
were shown.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from helmr.cli import listing, printing
from helmr.cli.answering import receipt_text, wait_lines
from helmr.cli.app import ExitCode, exit_code, worst
from helmr.cli.arguments import signer
from helmr.errors import HelmrError, UsageError
from helmr.models import WaitInfo
from helmr.person.review import batches, question
from helmr.person.review.batches import AnswerBatch, Item, Progress

if TYPE_CHECKING:
    from pydantic import BaseModel

    from helmr.client import Client


T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

MANY_MAX = 200
"""Things in a batch, at most: a person has to read them."""


def first(
    fetch: listing.Fetch[M],
    passes: Callable[[M], bool] | None = None,
    *,
    limit: int = MANY_MAX,
) -> list[M]:
    """The first of a list, `limit` at most; a note says if there are more."""
    found, cursor = listing.read(fetch, listing.Wanted(limit=limit, passes=passes))
    if cursor is not None:
        printing.note(
            f"there are more: these are the first {len(found)}, say it again for the rest"
        )
    return found


@dataclass(frozen=True, slots=True)
class Target(Generic[T]):
    """One thing of a batch.

    Attributes:
        thing: The thing itself.
        ids: Its ids in a JSON line.
        text: Its name in a line; text of a session.
        facts: More fields of a JSON line of the preview.
    """

    thing: T
    ids: dict[str, str]
    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """Result of one item; a skipped item was left as it was.

    Attributes:
        error: Code of the runtime's refusal.
    """

    detail: str = ""
    progress: Progress = Progress.ACCEPTED
    error: str | None = None


Came = tuple[Target[T], Done | HelmrError]
"""One of them, and what came of it."""


def one_by_one(act: Callable[[T], Done]) -> Callable[[Sequence[Target[T]]], Iterator[Came[T]]]:
    """Does it to one after the other."""

    def acts(targets: Sequence[Target[T]]) -> Iterator[Came[T]]:
        for one in targets:
            try:
                yield one, act(one.thing)
            except HelmrError as error:
                yield one, error

    return acts


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAsked:
    """Settings of a bulk run, by the command's options.

    Attributes:
        hold_s: Seconds in which it can be taken back after the confirmation.
        batch_id: Names what is done, if the same command goes on with it after an interruption.
    """

    preview: bool
    yes: bool
    json: bool
    hold_s: float = 0.0
    batch_id: str = ""

    @property
    def named(self) -> str:
        """`; batch …`, behind what is said of all of them."""
        return f"; batch {self.batch_id}" if self.batch_id else ""


def do(
    targets: Sequence[Target[T]],
    act: Callable[[Sequence[Target[T]]], Iterator[Came[T]]],
    *,
    show: Callable[[], None],
    verb: str,
    asked: BulkAsked,
) -> ExitCode:
    """Show them, ask, hold, and do it to each; the code is that of the worst.

    Args:
        act: Acts on each, and yields the result of each as it is known.
        show: Shows all of them to a person.
        verb: The action, as in `retry 3 runs`.

    Raises:
        UsageError: There is no one to ask.
        KeyboardInterrupt: Ctrl-C; what is not done yet is not done.
    """
    if not targets:
        printing.note(f"nothing to {verb}")
        return ExitCode.OK
    if asked.preview and asked.json:
        for one in targets:
            _line(one, Progress.PLANNED, "", json=True, more=one.facts)
        return ExitCode.OK
    if asked.preview:
        show()
        return ExitCode.OK
    if not asked.yes and not _confirmed(len(targets), show, verb, json=asked.json):
        return ExitCode.OK
    if asked.hold_s:
        try:
            printing.note(f"begins in {asked.hold_s:g} s; Ctrl-C takes all of it back")
            time.sleep(asked.hold_s)
        except KeyboardInterrupt:
            printing.note("taken back, nothing was done")
            raise
    return _do_all(targets, act, asked)


def _do_all(
    targets: Sequence[Target[T]],
    act: Callable[[Sequence[Target[T]]], Iterator[Came[T]]],
    asked: BulkAsked,
) -> ExitCode:
    """Act on each; stops where the runtime is unreachable."""
    codes: list[ExitCode] = []
    refused: Counter[str] = Counter()
    done = tried = 0
    try:
        for one, came in act(targets):
            is_away = False
            if isinstance(came, HelmrError):
                codes.append(exit_code(came))
                is_away = codes[-1] is ExitCode.UNAVAILABLE
                text = printing.error_text(came)
                came = Done(text, batches.came_of(came), came.code)
            elif came.progress is not Progress.ACCEPTED:
                codes.append(_CODES.get(came.progress, ExitCode.UNAVAILABLE))
            more = {"error": came.error} if came.error is not None else {}
            _line(one, came.progress, came.detail, json=asked.json, more=more)
            if came.progress is Progress.SKIPPED:
                refused[came.error or came.detail] += 1
            done += came.progress is Progress.ACCEPTED
            if is_away:
                break
            tried += came.progress in (Progress.ACCEPTED, Progress.SKIPPED)
    finally:
        if refused:
            kinds = ", ".join(f"{count} {kind}" for kind, count in refused.most_common())
            printing.note(f"{refused.total()} skipped: {kinds}")
        printing.note(f"{done} of {len(targets)} done{asked.named}")
        if asked.batch_id and tried < len(targets):
            printing.note(f"The same command with --batch {asked.batch_id} goes on with the rest.")
    return worst(codes)


_CODES = {Progress.SKIPPED: ExitCode.CONFLICT}


def _confirmed(count: int, show: Callable[[], None], verb: str, *, json: bool) -> bool:
    """Show them and have the person type their number, which no one does by mistake.

    Raises:
        UsageError: There is no one to ask.
    """
    if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            f"no one can be asked whether to {verb} them",
            hint="Look with --preview, then say --yes.",
        )
    show()
    printing.write(f"Type {count} to {verb} as many; anything else does nothing.")
    if sys.stdin.readline().strip() == str(count):
        return True
    printing.note("nothing was done")
    return False


def _line(
    one: Target[T], progress: Progress, detail: str, *, json: bool, more: dict[str, Any]
) -> None:
    if json:
        told = {"detail": detail} if detail else {}
        printing.write_json({**one.ids, "progress": progress.name.lower(), **told, **more})
    else:
        word = "done" if progress is Progress.ACCEPTED else progress.value
        printing.write_line(f"{word}: {one.text}{f' · {detail}' if detail else ''}")


NOT_ASKED = "Look with --preview, then say --yes."


@dataclass(frozen=True, slots=True)
class BatchAnswers:
    """Answers to the waits of a batch.

    Attributes:
        of: The answer to a wait.
        is_one: All get the same, which is shown once.
        refused: Reason to skip an unchanged wait; empty if there is none.
    """

    of: Callable[[WaitInfo], Any]
    is_one: bool
    refused: Callable[[WaitInfo], str] = lambda wait: ""


class Sending:
    """Sends one batch of answers.

    Args:
        client: Reads waits and sends answers.
        batch: The waits.
        answers: Has one for each that is in.
        batch_id: Names the batch.
        override_claim: Answer waits that someone else has claimed, too.
        json: True to print each wait as a JSON line on stdout.
    """

    def __init__(
        self,
        client: Client,
        batch: AnswerBatch,
        answers: BatchAnswers,
        *,
        batch_id: str,
        override_claim: bool,
        json: bool,
    ) -> None:
        self._client = client
        self.batch = batch
        self._answers = answers
        self._batch_id = batch_id
        self._override_claim = override_claim
        self._json = json
        self._codes: set[ExitCode] = set()

    def run(self, *, hold_s: float, preview: bool, yes: bool) -> ExitCode:
        """Show, ask, hold as one, send.

        Raises:
            UsageError: There is no one to ask.
            KeyboardInterrupt: Ctrl-C; while they are held, nothing was sent.
        """
        if preview:
            self.show()
            return ExitCode.OK
        if not yes and not self._confirmed():
            return ExitCode.OK
        if hold_s:
            try:
                printing.note(f"sends in {hold_s:g} s; Ctrl-C takes all of it back")
                time.sleep(hold_s)
            except KeyboardInterrupt:
                printing.note("taken back, nothing was sent")
                raise
        printing.note(f"batch {self._batch_id}")
        if yes and not self._answers.is_one:
            self.tell_left_out()
        self._send()
        return self.code()

    def show(self) -> None:
        """Every wait with all of its text and its answer, what is unlike the others first; who is left out."""
        if self._json:
            for item in self.batch.items:
                more = {} if self._answers.is_one else {"answer": self._answers.of(item.wait)}
                asked: dict[str, Any] = {"subject": item.wait.subject, "body": item.wait.body}
                if item.wait.evidence is not None:
                    asked["evidence"] = item.wait.evidence.recorded()
                if item.wait.links:
                    asked["links"] = [one.model_dump() for one in item.wait.links]
                self._line(item, {**asked, **more})
            self.tell_left_out()
            return
        for place, item in enumerate(self.batch.items, 1):
            bare = item.wait.model_copy(update={"body": None, "evidence": None, "links": []})
            printing.write("\n".join(wait_lines(bare, f"{place} of {len(self.batch.items)}")))
            if item.unlike:
                printing.write_line(f"  unlike the others: {item.unlike}")
            if item.wait.text:
                printing.write("\n".join(question.body_lines(item.wait)))
            if not self._answers.is_one:
                printing.write(f"  answer: {question.answer_text(self._answers.of(item.wait))}")
        printing.write("")
        self.tell_left_out()
        if self._answers.is_one and self.batch.items:
            answer = self._answers.of(self.batch.items[0].wait)
            printing.write(f"answer to each: {question.answer_text(answer)}")

    def code(self) -> ExitCode:
        """OK if every wait that was meant is answered, else the worst of what happened."""
        left = [out for out in self.batch.left_out if not out.is_unlike]
        return worst([*self._codes, *([ExitCode.CONFLICT] if left else [])])

    def _confirmed(self) -> bool:
        """Show them and have the person type their number, which no one does by mistake.

        Raises:
            UsageError: There is no one to ask.
        """
        if self._json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("no one can be asked whether to send them", hint=NOT_ASKED)
        self.show()
        count = str(len(self.batch.items))
        printing.write(f"Type {count} to send {count} answers; anything else sends none.")
        if sys.stdin.readline().strip() == count:
            return True
        printing.note("nothing was sent")
        return False

    def _send(self) -> None:
        """Send them one by one, and say of each what came of it."""
        try:
            while (index := self.batch.stopped_at) is not None:
                self.batch = self.batch.mark(index, Progress.SENDING)
                self._send_one(index)
        except BaseException:
            self.batch = self.batch.stop()
            raise
        finally:
            self._summary()

    def _send_one(self, index: int) -> None:
        seen = self.batch.items[index].wait
        receipt: dict[str, Any] = {}
        try:
            wait = self._client.waits.get(seen.id)
            why = batches.changed(seen, wait) or self._answers.refused(wait)
            if why:
                self._codes.add(ExitCode.CONFLICT)
                self.batch = self.batch.mark(index, Progress.SKIPPED, why)
            else:
                done = self._client.waits.answer(
                    seen.id,
                    self._answers.of(seen),
                    override_claim=self._override_claim,
                    batch_id=self._batch_id,
                    sign=signer(),
                )
                receipt = {"receipt": done.model_dump(mode="json", exclude_none=True)}
                said = receipt_text(done)
                self.batch = self.batch.mark(index, Progress.ACCEPTED, said)
        except HelmrError as error:
            self._codes.add(exit_code(error))
            receipt = {"error": error.code}
            text = printing.error_text(error)
            self.batch = self.batch.mark(index, batches.came_of(error), text)
            if self._answers.is_one and batches.meets_all(error):
                self.batch = self.batch.stop()
        self._line(self.batch.items[index], receipt)

    def _line(self, item: Item, more: dict[str, Any]) -> None:
        if self._json:
            said = {"wait_id": item.wait.id, "progress": item.progress.name.lower()}
            parts = {"detail": item.detail, "unlike": item.unlike, **more}
            given = {name: part for name, part in parts.items() if part}
            printing.write_json({**said, "batch_id": self._batch_id, **given})
        else:
            detail = f" · {item.detail}" if item.detail else ""
            printing.write_line(f"{item.progress.value}: {question.about(item.wait)}{detail}")

    def tell_left_out(self) -> None:
        for out in self.batch.left_out:
            if self._json:
                said = {"wait_id": out.wait.id, "progress": "left_out"}
                printing.write_json({**said, "batch_id": self._batch_id, "detail": out.why})
            else:
                printing.write_line(f"left out: {question.about(out.wait)} · {out.why}")

    def _summary(self) -> None:
        printing.note(f"{self.batch.summary()}; batch {self._batch_id}")
        rest = (Progress.STOPPED, Progress.FAILED, Progress.UNKNOWN)
        if any(item.progress in rest for item in self.batch.items):
            printing.note(
                f"The same command with --batch {self._batch_id} goes on with those that still wait."
            )
