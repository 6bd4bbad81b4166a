"""Answering waits one after the other on a terminal: ask, hold, send, say what came of it.

Nothing of an answer leaves before its time has passed, and every answer is in a draft before it is held: a crash
leaves drafts, and what was not accepted is asked again with what was entered.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from helmr import ids, jsonio
from helmr.cli import printing, questioning
from helmr.cli.asking import Answer, Asking
from helmr.cli.clock import now
from helmr.cli.lines import EndOfInput, Lines, LineTooLong
from helmr.cli.outgoing import Outgoing, about
from helmr.cli.wait_actions import WaitActions
from helmr.drafts import DraftStore, beginning
from helmr.editor import EditorFailed, edit
from helmr.errors import BadJson
from helmr.forms import MISSING, Field, Kind, fill, form_of, redacted, tool_call
from helmr.forms.questions import Questions, labels, place_of
from helmr.last_answers import LastAnswers
from helmr.models import WaitInfo, WaitStatus
from helmr.safe_text import one_line, typed
from helmr.snoozes import Snoozes

if TYPE_CHECKING:
    from helmr.client import Client

List = Callable[[], Iterable[WaitInfo]]


class _Leave(Exception):
    """The person goes."""


class _Next(Exception):
    """This wait is not asked any further now."""


class Answering:
    """One person at one terminal.

    Args:
        client: Reads waits and sends answers.
        drafts: Where what was entered is kept until it is accepted.
        last: Where accepted answers are kept for the next time.
        snoozes: Where it is kept what was snoozed.
        waits: The waits to ask, most urgent first; asked for again when all of them were.
        me: On whose behalf is answered.
        hold_s: How long an answer can be taken back.
        override_claim: Whether a wait is answered of which the person was told that another is at it.
        nothing: What is said if there is none.
    """

    def __init__(
        self,
        client: Client,
        drafts: DraftStore,
        last: LastAnswers,
        snoozes: Snoozes,
        waits: List,
        *,
        me: str | None,
        hold_s: float,
        override_claim: bool,
        nothing: str,
    ) -> None:
        self._client = client
        self._drafts = drafts
        self._last = last
        self._waits = waits
        self._outgoing = Outgoing(client, drafts, last, hold_s=hold_s, ask_again=self._ask_again)
        self._lines = Lines(self._outgoing.send_due)
        self._actions = WaitActions(client, snoozes, self._lines.ask)
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
            questioning.DELEGATE: lambda asking: self._go_on_if(self._actions.delegate, asking),
            "z": lambda asking: self._go_on_if(self._actions.snooze, asking),
            "u": self._undo,
            "m": lambda asking: questioning.show_body(asking.wait),
            "?": lambda asking: questioning.show_help(asking.questions),
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
        if wait.status is not WaitStatus.PENDING:
            printing.write(f"over meanwhile: {about(wait)}")
            return
        self._asked += 1
        form = form_of(
            wait.json_schema, initial=wait.initial if wait.initial is not None else MISSING
        )
        begun = beginning(self._drafts.load(wait.id, form.schema_hash), form)
        asking = Asking(wait, form, Questions(form, begun.cells), begun.raw, begun.operation_id)
        claim = wait.claim if wait.claim is not None and now() < wait.claim.until else None
        asking.is_claimed = claim is not None and claim.on_behalf_of == self._me is not None
        self._leave_out_early()
        place = f"{self._asked} of {self._asked + len(self._queue)}"
        questioning.show_wait(wait, place, tool_call(form))
        if begun.note:
            printing.write(f"  {one_line(begun.note, None)}: {_entered(asking)}")
        questioning.show_choices(asking.questions)
        try:
            while True:
                self._key(asking)
        except _Next:
            return

    def _leave_out_early(self) -> None:
        """What was typed before a question could be read answers nothing; only u and q are heeded."""
        left_out = 0
        for line in self._lines.ready():
            if line.strip() == "u" and len(self._outgoing.held):
                self._take_back()
            elif line.strip() == "q":
                raise _Leave
            else:
                left_out += 1
        if left_out:
            printing.write(f"{left_out} line(s) typed before this question was there were left out")

    # --- asking

    def _key(self, asking: Asking) -> None:
        """One line at the question."""
        prompt = questioning.key_prompt(
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
        is_choice = questioning.is_chosen(current) and said not in questioning.taken(current)
        act = None if said == "d" and is_choice else self._acts.get(said)
        if act is not None:
            act(asking)
        elif questioning.is_chosen(current):
            self._choose(asking, line)
        elif line.lower() == questioning.ANSWER:
            self._fields(asking)
        else:
            printing.write("  a answers; ? says what else there is")

    def _choose(self, asking: Asking, line: str) -> None:
        asked = asking.questions.current
        assert isinstance(asked, Field), "something is chosen"
        place = place_of(labels(asked), line, questioning.taken(asked))
        if place is None:
            printing.write("  that is none of the choices; ? shows all keys")
        elif why := asking.questions.choose(place):
            printing.write(f"  {one_line(why, 300)}")
        else:
            self._fields(asking)

    def _fields(self, asking: Asking) -> None:
        """Everything that is left to ask, then hold it; Ctrl-D goes back to the question."""
        questions, shown = asking.questions, None
        while (asked := questions.current) is not None:
            self._keep_entered(asking)
            if asked is not shown:
                questioning.show_field(asked)
                shown = asked
            secret = getattr(asked, "kind", None) is Kind.SECRET
            ask = self._lines.ask_hidden if secret else self._lines.ask
            try:
                why = questions.take(ask(questioning.field_prompt(asked, questions)))
            except LineTooLong:
                why = "the terminal cut this line; e at the question takes long texts"
            except EndOfInput:
                printing.write("")
                asking.begin_again()
                questioning.show_choices(asking.questions)
                return
            if why:
                printing.write(f"  {one_line(why, 300)}")
        asking.raw = None
        self._hold_if_whole(asking)

    def _keep(self, asking: Asking) -> None:
        """As the draft says, if that is an answer."""
        if not asking.has_draft:
            printing.write("  there is no draft of this wait")
        elif asking.raw is not None:
            self._parsed(asking, asking.raw)
        else:
            self._hold_if_whole(asking)

    def _as_last(self, asking: Asking) -> None:
        """As the last answer to a wait alike; `k` then answers so."""
        cells = self._last.cells(asking.wait, asking.form)
        if cells is None:
            printing.write("  you answered nothing like this before on this machine")
            return
        asking.questions = Questions(asking.form, cells)
        asking.raw = None
        printing.write(f"  as last time: {_entered(asking)}; k answers so, a asks with it")

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
            printing.write("  left as it was; nothing is answered")
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
        questioning.show_choices(asking.questions)

    def _parsed(self, asking: Asking, text: str) -> None:
        try:
            data = jsonio.loads(text)
        except BadJson as error:
            asking.raw = text
            self._keep_entered(asking)
            printing.write(f"  {one_line(error.message, 300)}; e opens it again")
            return
        if asking.is_undecided(data):
            asking.raw = text
            self._keep_entered(asking)
            printing.write(
                f"  {one_line(asking.offered(), 200)}: write one of them; e opens it again"
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
        """The next wait, if this one was seen to otherwise."""
        if act(asking):
            self._keep_entered(asking)
            raise _Next

    def _undo(self, asking: Asking) -> None:
        if not self._take_back():
            printing.write("  nothing is held: what was answered has been sent")
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
        shown = questioning.answer_text(redacted(asking.form, data))
        answer = Answer(
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
                questioning.show_changes(call, data)
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
        """Let what is held leave in its time; True if something is to be asked again."""
        held = self._outgoing.held
        if len(held):
            left_s = held.left_s(time.monotonic()) or 0.0
            printing.write(
                f"{len(held)} held, sent within {left_s:.0f} s · u takes the last one back, q sends now"
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
    return questioning.answer_text(redacted(asking.form, asking.built().data))
