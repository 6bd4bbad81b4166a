"""Answering waits one after the other on a terminal: ask, keep with undo, send, say what came of it.

An answer leaves after its grace time, not before, and every answer is in a draft before that: a crash leaves drafts,
and what was not accepted is asked again with what was entered. What is asked and said is `helmr.person.review`'s;
here are the terminal and the gateway.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from helmr.cli import describe, printing
from helmr.cli.app import now
from helmr.cli.arguments import signer
from helmr.cli.printing import EndOfInput, Lines, LineTooLong
from helmr.errors import (
    BadJson,
    HelmrError,
    OutcomeUnknown,
    TokenCompleted,
    UsageError,
    WaitClaimed,
    WaitResolved,
)
from helmr.gate.grants import matches_text
from helmr.models import AnswerReceipt, TokenAnswerReceipt, VoteReceipt, WaitInfo
from helmr.person.editor import EditorFailed, edit
from helmr.person.forms import Field, Kind, ToolCall, fill, form_of, redacted, tool_call
from helmr.person.forms.questions import Questions, labels, place_of
from helmr.person.review import agreement, granting, outcome, question, words
from helmr.person.review.personal import AnswerDraft, PersonalFiles, Snoozes, back_at, beginning
from helmr.person.review.question import Asking, GivenAnswer
from helmr.person.review.sending import PendingSends
from helmr.wire import durations, ids, jsonio
from helmr.wire.safe_text import one_line, typed

if TYPE_CHECKING:
    from helmr.client import Client

NO_ONE = "-"
SNOOZE = "1h"
"""Default length of a snooze."""


List = Callable[[], Iterable[WaitInfo]]


class _Leave(Exception):
    """Ends the review: the person quits."""


class _Next(Exception):
    """Ends the questions about one wait."""


class Answering:
    """Asks one person at one terminal.

    Args:
        client: Reads waits and sends answers.
        files: The person's files on this machine.
        waits: The waits to ask, most urgent first; asked for again when all of them were.
        me: On whose behalf is answered.
        hold_s: Seconds in which an answer can be taken back.
        override_claim: True to answer waits that someone else has claimed, after the person saw that.
        nothing: The line to print if there is none.
    """

    def __init__(
        self,
        client: Client,
        files: PersonalFiles,
        waits: List,
        *,
        me: str | None,
        hold_s: float,
        override_claim: bool,
        nothing: str,
    ) -> None:
        self._client = client
        self._files = files
        self._waits = waits
        self._outgoing = Outgoing(client, files, hold_s=hold_s, ask_again=self._ask_again)
        self._lines = Lines(self._outgoing.send_due)
        self._actions = WaitKeys(client, files.snoozes, self._lines.ask)
        self._me = me
        self._override_claim = override_claim
        self._queue: deque[str] = deque()
        self._seen: set[str] = set()
        self._asked = 0
        self._nothing = nothing
        self._acts: dict[str, Callable[[Asking], None]] = {
            "k": self._keep,
            "l": self._as_last,
            "e": self._edit,
            "s": self._skip,
            "c": self._actions.claim,
            "d": lambda asking: self._go_on_if(self._actions.delegate, asking),
            question.DELEGATE: lambda asking: self._go_on_if(self._actions.delegate, asking),
            "z": lambda asking: self._go_on_if(self._actions.snooze, asking),
            "u": self._undo,
            "m": lambda asking: _show(question.body_lines(asking.wait)),
            "?": lambda asking: _show(question.help_lines(asking.questions, asking.wait)),
            "q": self._quit,
        }

    def run(self) -> None:
        """Ask until there is no more, or the person goes.

        Raises:
            HelmrError: The list or a wait can't be read.
        """
        try:
            while (wait_id := self._next()) is not None:
                self._one(wait_id)
        except (_Leave, EndOfInput):
            with suppress(EndOfInput):
                self._wait_out()
        finally:
            self._outgoing.give_up()
        printing.write(f"{self._outgoing.accepted} accepted" if self._seen else self._nothing)

    # --- which

    def _next(self) -> str | None:
        """The next wait; None when there is no more and nothing is held."""
        while True:
            if not self._queue:
                self._queue.extend(w.id for w in self._waits() if w.id not in self._seen)
            if self._queue:
                wait_id = self._queue.popleft()
                self._seen.add(wait_id)
                return wait_id
            if not self._wait_out():
                return None

    def _one(self, wait_id: str) -> None:
        wait = self._client.waits.get(wait_id)
        if not wait.takes_answers:
            printing.write(f"over meanwhile: {question.about(wait)}")
            return
        self._asked += 1
        form = form_of(wait.json_schema, initial=agreement.initial_of(wait))
        begun = beginning(self._files.drafts.load(wait.id, form.schema_hash), form)
        asking = Asking(wait, form, Questions(form, begun.cells), begun.raw, begun.operation_id)
        claim = wait.claim if wait.claim is not None and now() < wait.claim.until else None
        asking.is_claimed = claim is not None and claim.on_behalf_of == self._me is not None
        self._leave_out_early()
        place = f"{self._asked} of {self._asked + len(self._queue)}"
        _show(wait_lines(wait, place, tool_call(form)))
        _show(f"  {line}" for line in agreement.agreed(wait, form, self._me))
        if why := agreement.why_not(wait, self._me):
            printing.write(f"  {why}")
            return
        if begun.note:
            printing.write(f"  {one_line(begun.note, None)}: {asking.entered}")
        _show(question.choice_lines(asking.questions))
        try:
            while True:
                self._key(asking)
        except _Next:
            return

    def _leave_out_early(self) -> None:
        """Discard lines typed before a question could be read, except u and q."""
        left_out = 0
        for line in self._lines.ready():
            if line.strip() == "u" and len(self._outgoing.held):
                self._take_back()
            elif line.strip() == "q":
                raise _Leave
            else:
                left_out += 1
        if left_out:
            printing.write(f"{left_out} line(s) typed before this question appeared were ignored")

    # --- asking

    def _key(self, asking: Asking) -> None:
        """Handle one line typed at the question."""
        prompt = question.key_prompt(
            asking.questions,
            asking.wait,
            has_draft=asking.has_draft,
            holds=bool(len(self._outgoing.held)),
        )
        try:
            line = self._lines.ask(prompt).strip()
        except LineTooLong:
            line = ""
        said, current = line.lower(), asking.questions.current
        is_choice = question.is_chosen(current) and said not in question.taken(current)
        act = None if said == "d" and is_choice else self._acts.get(said)
        if said == question.GRANT.letter and granting.offered(asking.wait) is not None:
            act = self._grant
        if act is not None:
            act(asking)
        elif question.is_chosen(current):
            self._choose(asking, line)
        elif line.lower() == question.ANSWER:
            self._fields(asking)
        else:
            printing.write("  a answers; ? shows all keys")

    def _choose(self, asking: Asking, line: str) -> None:
        asked = asking.questions.current
        assert isinstance(asked, Field), "something is chosen"
        place = place_of(labels(asked), line, question.taken(asked))
        if place is None:
            printing.write("  that is not one of the choices; ? shows all keys")
        elif why := asking.questions.choose(place):
            printing.write(f"  {one_line(why, 300)}")
        else:
            self._fields(asking)

    def _fields(self, asking: Asking) -> None:
        """Ask the remaining fields, then hold the answer; Ctrl-D returns to the question."""
        questions, shown = asking.questions, None
        while (asked := questions.current) is not None:
            self._keep_entered(asking)
            if asked is not shown:
                _show(question.field_lines(asked))
                shown = asked
            secret = getattr(asked, "kind", None) is Kind.SECRET
            ask = self._lines.ask_hidden if secret else self._lines.ask
            try:
                why = questions.take(ask(question.field_prompt(asked, questions)))
            except LineTooLong:
                why = "the terminal cut this line; e at the question takes long texts"
            except EndOfInput:
                printing.write("")
                asking.begin_again()
                _show(question.choice_lines(asking.questions))
                return
            if why:
                printing.write(f"  {one_line(why, 300)}")
        asking.raw = None
        self._hold_if_whole(asking)

    def _keep(self, asking: Asking) -> None:
        """Answer as the draft says, if it is an answer."""
        if not asking.has_draft:
            printing.write("  this wait has no draft")
        elif asking.raw is not None:
            self._parsed(asking, asking.raw)
        else:
            self._hold_if_whole(asking)

    def _as_last(self, asking: Asking) -> None:
        """Fill in the last answer to a wait like this one; `k` then sends it."""
        cells = self._files.last.cells(asking.wait, asking.form)
        if cells is None:
            printing.write("  you have answered no wait like this on this machine")
            return
        asking.questions = Questions(asking.form, cells)
        asking.raw = None
        printing.write(f"  as last time: {asking.entered}; k sends it, a asks with it filled in")

    def _edit(self, asking: Asking) -> None:
        """The whole answer in the editor; what is held goes on leaving meanwhile."""
        text, suffix = asking.text()
        try:
            with self._outgoing.unheard():
                edited = edit(text, os.environ, suffix=suffix, meanwhile=self._outgoing.send_due)
        except EditorFailed as error:
            printing.write(f"  {one_line(error, 300)}")
            edited = text
        if edited == text:
            printing.write("  unchanged; nothing is answered")
        elif suffix == ".json":
            self._parsed(asking, edited)
        else:
            asking.questions.cells[asking.form.root.key] = typed(edited)[0]
            self._hold_if_whole(asking)

    def _hold_if_whole(self, asking: Asking) -> None:
        built = asking.built()
        if not built.problems:
            self._hold(asking, built.data)
            return
        self._keep_entered(asking)
        for key, why in built.problems.items():
            printing.write(f"  {one_line(key, 100)}: {one_line(why, 300)}")
        asking.begin_again()
        _show(question.choice_lines(asking.questions))

    def _parsed(self, asking: Asking, text: str) -> None:
        try:
            data = jsonio.loads(text)
        except BadJson as error:
            asking.raw = text
            self._keep_entered(asking)
            printing.write(f"  {one_line(error.message, 300)}; e opens the editor again")
            return
        if asking.is_undecided(data):
            asking.raw = text
            self._keep_entered(asking)
            printing.write(
                f"  {one_line(asking.offered(), 200)}: write one of them; e opens the editor again"
            )
            return
        cells = fill(asking.form, data)
        asking.raw = text if cells is None else None
        if cells is not None:
            asking.questions.cells.update(cells)
        self._hold(asking, data)

    def _skip(self, asking: Asking) -> None:
        self._keep_entered(asking)
        raise _Next

    def _go_on_if(self, act: Callable[[Asking], bool], asking: Asking) -> None:
        """Leave this wait for the next one if the action succeeds."""
        if act(asking):
            self._keep_entered(asking)
            raise _Next

    def _grant(self, asking: Asking) -> None:
        """Approve and grant at once: `u` can't take a grant back, only revoking it can."""
        if self._actions.grant(asking):
            self._files.drafts.discard(asking.wait.id)
            self._outgoing.accepted += 1
            raise _Next

    def _undo(self, asking: Asking) -> None:
        if not self._take_back():
            printing.write("  nothing is pending: every answer was sent")
            return
        self._keep_entered(asking)
        self._queue.insert(1, asking.wait.id)
        self._asked -= 1
        raise _Next

    def _quit(self, asking: Asking) -> None:
        self._keep_entered(asking)
        raise _Leave

    # --- holding and sending

    def _hold(self, asking: Asking, data: Any) -> None:
        draft = asking.draft()
        shown = question.answer_text(redacted(asking.form, data))
        answer = GivenAnswer(
            asking.wait,
            data,
            shown,
            draft,
            draft.operation_id or ids.new_id(ids.OPERATION),
            override_claim=self._override_claim and asking.sees_another,
        )
        hold_s = self._outgoing.held.hold_s
        if hold_s:
            printing.write(f"answer: {shown}")
            if (call := tool_call(asking.form)) is not None:
                _show(question.change_lines(call, data))
            printing.write(f"sends in {hold_s:g} s · u takes it back")
        self._outgoing.hold(answer)
        raise _Next

    def _take_back(self) -> bool:
        wait_id = self._outgoing.take_back()
        if wait_id is not None:
            self._ask_again(wait_id)
        return wait_id is not None

    def _ask_again(self, wait_id: str) -> None:
        self._queue.appendleft(wait_id)
        self._asked = max(0, self._asked - 1)

    def _wait_out(self) -> bool:
        """Wait until pending answers have left; True if a wait must be asked again."""
        held = self._outgoing.held
        if len(held):
            left_s = held.left_s(time.monotonic()) or 0.0
            printing.write(
                f"{len(held)} pending, sent within {left_s:.0f} s · u takes the last one back, q sends now"
            )
        while len(held):
            line = self._lines.within(held.leaves_in_s(time.monotonic()) or 0.0)
            if line == "u":
                self._take_back()
            elif line == "q":
                held.let_go()
            self._outgoing.send_due()
        return bool(self._queue)

    def _keep_entered(self, asking: Asking) -> None:
        if asking.has_draft:
            self._outgoing.save(asking.draft())


def _entered(asking: Asking) -> str:
    if asking.raw is not None:
        return one_line(asking.raw, 400)
    return question.answer_text(redacted(asking.form, asking.built().data))


class Outgoing:
    """Answers of one person that can still be taken back.

    Args:
        client: Sends.
        files: Store of drafts and accepted answers.
        hold_s: Seconds in which an answer can be taken back.
        ask_again: Called with the id of a wait whose answer was not accepted and may still be.
    """

    def __init__(
        self,
        client: Client,
        files: PersonalFiles,
        *,
        hold_s: float,
        ask_again: Callable[[str], None],
    ) -> None:
        self._client = client
        self._files = files
        self._ask_again = ask_again
        self._silent: list[str] | None = None
        self.held: PendingSends[GivenAnswer] = PendingSends(hold_s)
        self.accepted = 0

    def hold(self, answer: GivenAnswer) -> None:
        """Keep the answer pending for its grace time."""
        self.save(answer.draft)
        self.held.hold(answer, time.monotonic())
        self.send_due()

    def take_back(self) -> str | None:
        """Take the last pending answer back and return its wait; None if none is pending."""
        answer = self.held.take_back()
        if answer is None:
            return None
        printing.write(f"taken back, nothing was sent: {question.about(answer.wait)}")
        return answer.wait.id

    def send_due(self) -> bool:
        """Send the answers that are due; True if there were any."""
        is_first = True
        while (answer := self.held.take_due(time.monotonic())) is not None:
            if is_first and self.held.hold_s:
                self._say("")  # behind the prompt
            is_first = False
            self._send(answer)
        return not is_first

    def give_up(self) -> None:
        """Keep all pending answers as drafts."""
        while (answer := self.held.take_back()) is not None:
            printing.write(
                f"not sent, kept as a draft: {question.about(answer.wait)} · {answer.shown}"
            )

    def save(self, draft: AnswerDraft) -> None:
        """Keep what was entered."""
        try:
            self._files.drafts.save(draft)
        except OSError as error:
            printing.note(f"the draft can't be kept: {error.strerror or error}")

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Hold messages back while another program has the terminal."""
        self._silent = []
        try:
            yield
        finally:
            said, self._silent = self._silent, None
            for line in said:
                self._say(line)

    def _send(self, answer: GivenAnswer) -> None:
        self.save(replace(answer.draft, operation_id=answer.operation_id))
        try:
            receipt = self._client.waits.answer(
                answer.wait.id,
                answer.data,
                override_claim=answer.override_claim,
                sign=signer(answer.wait),
                operation_id=answer.operation_id,
            )
        except HelmrError as error:
            self._refused(answer, error)
            return
        self._files.drafts.discard(answer.wait.id)
        self._keep_as_last(answer)
        self.accepted += 1
        self._say(f"accepted: {question.about(answer.wait)} · {receipt_text(receipt)}")

    def _keep_as_last(self, answer: GivenAnswer) -> None:
        """Keep the answer to fill forms of similar waits, the console's too."""
        try:
            self._files.last.keep(answer.wait, answer.draft)
        except OSError as error:
            printing.note(f"the answer can't be kept for the next time: {error.strerror or error}")

    def _refused(self, answer: GivenAnswer, error: HelmrError) -> None:
        """Report an answer that was not stored, or may not be, and keep the draft."""
        word = "outcome unknown" if isinstance(error, OutcomeUnknown) else "not accepted"
        came = outcome.of_error(error)
        why = printing.error_text(error)
        if isinstance(error, WaitClaimed):
            why = outcome.claimed_text(error, now())
        self._say(f"{word}: {question.about(answer.wait)} · {why}")
        if isinstance(error, WaitResolved | TokenCompleted):
            self._tell_theirs(answer)
        if isinstance(error, WaitClaimed):
            self._say("hint: c at the question takes the wait over")
        elif error.hint:
            self._say(f"hint: {one_line(error.hint, None)}")
        self._say(f"your answer is kept as a draft: {answer.shown}")
        if not came.after.keeps_operation:
            self.save(answer.draft)
        if came.after.asks_again:
            self._ask_again(answer.wait.id)

    def _tell_theirs(self, answer: GivenAnswer) -> None:
        """Print the answer that came first, in full, and how it differs from this one."""
        with suppress(HelmrError):
            wait = self._client.waits.get(answer.wait.id)
            theirs = wait.answer
            if theirs is None and wait.token_id is not None:
                theirs = self._client.tokens.get(wait.token_id).data
            for line in outcome.told(form_of(answer.wait.json_schema), wait, theirs, answer.data):
                self._say(f"  {line}")

    def _say(self, text: str) -> None:
        printing.write(text) if self._silent is None else self._silent.append(text)


class WaitKeys:
    """The keys `c`, `d`, `g` and `z` of one person.

    Args:
        client: Claims, assigns and grants.
        snoozes: Store of snoozes.
        ask: The next line, after this prompt.
    """

    def __init__(self, client: Client, snoozes: Snoozes, ask: Callable[[str], str]) -> None:
        self._client = client
        self._snoozes = snoozes
        self._ask = ask

    def claim(self, asking: Asking) -> None:
        """Claim or release the wait; a second press takes over another's claim."""
        wait_id = asking.wait.id
        try:
            if asking.is_claimed:
                self._client.waits.release(wait_id)
                asking.is_claimed = False
                printing.write("  released")
                return
            made = self._client.waits.claim(wait_id, override_claim=asking.was_warned)
        except WaitClaimed as error:
            asking.was_warned, asking.is_claimed = True, False
            printing.write(f"  {outcome.claimed_text(error, now())}; c once more takes it over")
        except HelmrError as error:
            printing.write(f"  {printing.error_text(error)}")
        else:
            asking.is_claimed = made.claim is not None
            said = words.presence(made.claim, now()) or "no one"
            printing.write(f"  claimed by {said}; c releases it")

    def delegate(self, asking: Asking) -> bool:
        """Assign the wait to someone; True if it was assigned."""
        name = self._line(f"assign it to ({NO_ONE} for no one, an empty line goes back): ")
        if not name:
            return False
        assignee = None if name == NO_ONE else name
        try:
            if assignee is not None and not self._is_meant(assignee):
                return False
            self._client.waits.assign(
                asking.wait.id, assignee=assignee, operation_id=ids.new_id(ids.OPERATION)
            )
            if asking.is_claimed:
                self._client.waits.release(asking.wait.id)
        except HelmrError as error:
            printing.write(f"  {printing.error_text(error)}")
            return False
        printing.write(f"  assigned to {one_line(assignee or 'no one', 100)}")
        return True

    def _is_meant(self, name: str) -> bool:
        """True if the runtime knows this person, or the user confirms the name."""
        people = [one.id for one in self._client.people.list() if one.disabled_at is None]
        doubt = words.unknown_name(name, people)
        return not doubt or self._line(f"  {doubt} y assigns it all the same [n]: ") in ("y", "Y")

    def grant(self, asking: Asking) -> bool:
        """Approve the call and allow similar calls for a while; True if approved."""
        offer = granting.offered(asking.wait)
        assert offer is not None, "the key is offered"
        printing.write(
            f"  allows {one_line(offer.tool, 100)} in this agent's session; {granting.HINT}"
        )
        said: dict[str, str] = {}
        for name, shown in offer.shown().items():
            line = self._line(f"{one_line(name, 60)} (- goes back) [{shown}]: ")
            if line in (None, NO_ONE):
                return False
            said[name] = line or shown
        expires_in = self._line(f"for (- goes back) [{granting.VALID_FOR}]: ")
        if expires_in in (None, NO_ONE):
            return False
        matches = offer.matches(said)
        try:
            valid_s = durations.seconds(expires_in or granting.VALID_FOR)
            self._client.waits.answer(
                asking.wait.id, granting.APPROVED, operation_id=ids.new_id(ids.OPERATION)
            )
        except HelmrError as error:
            printing.write(f"  {printing.error_text(error)}")
            return False
        printing.write(f"accepted: {question.about(asking.wait)}")
        try:
            made = self._client.grants.create(
                asking.wait.session_id, matches=matches, expires_in=valid_s
            )
        except HelmrError as error:
            printing.write(f"not granted: {printing.error_text(error)}")
        else:
            allows = one_line(matches_text(made.matches), 200)
            until = describe.time_and_distance(made.expires_at)
            printing.write(
                f"granted until {until}: {one_line(made.tool, 100)}, {allows} · {made.id}"
            )
        return True

    def snooze(self, asking: Asking) -> bool:
        """Snooze the wait, for this person only; True if snoozed."""
        said = self._line(f"snooze for (like 20m, 4h, 1d; - goes back) [{SNOOZE}]: ")
        if said in (None, "-"):
            return False
        try:
            snooze = timedelta(seconds=durations.seconds(said or SNOOZE))
            until = back_at(asking.wait, snooze, now())
            self._snoozes.snooze(asking.wait.id, until)
        except UsageError as error:
            printing.write(f"  {one_line(error.message, 300)}. {one_line(error.hint or '', 300)}")
            return False
        except OSError as error:
            printing.write(f"  it can't be kept: {error.strerror or error}")
            return False
        left = durations.spell(round((until - now()).total_seconds()))
        printing.write(f"  snoozed, back in {left}")
        return True

    def _line(self, prompt: str) -> str | None:
        """The line typed; None if the person goes back to the question."""
        try:
            return self._ask(prompt).strip()
        except LineTooLong:
            return None
        except EndOfInput:
            printing.write("")
            return None


def wait_lines(wait: WaitInfo, place: str, call: ToolCall | None = None) -> list[str]:
    """Return the lines of a question, with its deadline and current claim."""
    return question.wait_lines(
        wait,
        place,
        due=describe.due(wait) or "never",
        claim=words.presence(wait.claim, now()),
        call=call,
    )


def without_others(waits: Iterable[WaitInfo], left_out: set[str]) -> Iterator[WaitInfo]:
    """Drop waits that others must answer or that this person voted on; their ids go to `left_out`."""
    for wait in waits:
        if agreement.is_for_others(wait) or agreement.why_not(wait, None):
            left_out.add(wait.id)
        else:
            yield wait


def receipt_text(receipt: AnswerReceipt) -> str:
    """Describe the effect of an accepted answer, on one safe line."""
    if isinstance(receipt, TokenAnswerReceipt):
        return f"token {receipt.token_id} {receipt.outcome.replace('_', ' ')}"
    acting = f", for {one_line(receipt.deputy_for, 80)}" if receipt.deputy_for is not None else ""
    if isinstance(receipt, VoteReceipt):
        return f"{receipt.outcome.value}: {receipt.have} of {receipt.need} agree{acting}"
    again = ", already accepted before" if receipt.duplicate else ""
    where = one_line(receipt.stream, 60)
    return f"record {receipt.seq} on {where}, {receipt.outcome.value}{again}{acting}"


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        printing.write(line)
