"""Rewinds, amendments and forks: a preview, a reason, the number of repeated steps to type, then sent."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from helmr.client.aio import AsyncClient
from helmr.errors import HelmrError, SessionChanged
from helmr.models import REASON_MAX, RewindPreview, WaitInfo
from helmr.person.forms import form_of
from helmr.person.review import words
from helmr.person.review.agreement import initial_of
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.person.review.sending import SendPhase
from helmr.person.review.words import DiffLine, diff
from helmr_console import safe
from helmr_console.actions import Permit
from helmr_console.effects import Line, preview_lines, repeated
from helmr_console.link import answer_of
from helmr_console.screens.submit import SubmitScreen
from helmr_console.set_aside import CorrectionPlace
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.panes import TextPane, asked, fact, head, lines

LINE_CELLS = 400
BODY_LINES = 8
"""Most lines of the body above the form of an amendment; the whole stands beside it."""
FACT_CELLS = 60
"""Width of a fact: one line of a narrow screen, to leave room for steps that may run again."""


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction, ready for its preview.

    Attributes:
        look: Reads the preview; None where no step can be repeated.
        act: Does it, called with permit, preview, reason and operation id; returns the message.
        texts: Its effects, where there is no preview.
        changed: Differences between the old and the new answer.
    """

    action_id: str
    title: str
    facts: tuple[tuple[str, str], ...]
    act: Callable[[Permit, RewindPreview | None, str, str], Awaitable[str]]
    look: Callable[[AsyncClient], Awaitable[RewindPreview]] | None = None
    texts: tuple[str, ...] = ()
    changed: Sequence[DiffLine] = field(default=())


class CorrectionScreen(SubmitScreen):
    """The preview of a correction, sent by ctrl+s once a reason and the number of repeated steps are typed."""

    AREA = "sessions"
    IS_REVIEW = True
    HELP_TEXT = (
        "Lines in red may happen a second time in the outside world: a step that ran runs again, with another step "
        "key. Nothing is deleted: what is set aside stays in the transcript, and so does the reason."
    )
    BINDINGS = [
        *SubmitScreen.BINDINGS,
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]
    DEFAULT_CSS = """
    CorrectionScreen #middle { layout: vertical; }
    CorrectionScreen #preview { width: 1fr; height: 1fr; }
    CorrectionScreen #left { width: 1fr; height: auto; max-height: 60%; }
    CorrectionScreen #slot { margin: 0; }
    CorrectionScreen #slot Input { height: 1; border: none; padding: 0 1; background: $c-surface; }
    """

    def __init__(self, correction: Correction) -> None:
        super().__init__()
        self.correction = correction
        self.ACTION = correction.action_id
        self.TITLE_TEXT = correction.title
        self.seen: RewindPreview | None = None
        self.is_done = False
        self._has_changed = False
        self.effect = TextPane("What it does", id="preview")
        self.effect.border_subtitle = Content("pgup pgdn scroll")
        self.reason = SafeInput(id="reason", select_on_focus=False)
        self.typed = SafeInput(id="typed", select_on_focus=False)

    def above(self) -> Iterable[Widget]:
        """The effects, above the fields."""
        yield self.effect

    async def load(self) -> None:
        """Read the preview, then show the fields."""
        await self._look()
        await self.slot.mount(*self._widgets())
        self.submission.phase = SendPhase.FORM
        self.begin_with(self.reason)
        self.redraw()
        self.reads_from_now()

    async def _look(self) -> None:
        if self.correction.look is not None:
            self.seen = await self.correction.look(self.console.client)
        self.effect.say(lines([_line(text, role) for text, role in self._lines()]))

    def _lines(self) -> Sequence[Line]:
        if self.seen is None:
            return [(text, "") for text in self.correction.texts]
        return preview_lines(self.seen, self.correction.changed)

    def _widgets(self) -> Iterable[Widget]:
        yield Static(
            head(f"Reason *, at most {REASON_MAX} characters; it stands in the transcript")
        )
        yield self.reason
        if self.repeats:
            yield Static(head("Type how many steps may run again, the red ones above *"))
            yield self.typed
        yield Static(
            Content.styled("^s does it.  esc leaves everything as it is.", "bold $c-accent")
        )

    def facts(self) -> Sequence[Content]:
        """The correction and its place."""
        return [
            fact(name, safe.line(text, limit=FACT_CELLS)) for name, text in self.correction.facts
        ]

    def path(self) -> str:
        """Sessions > title."""
        return f"Sessions > {self.TITLE_TEXT}"

    def labels(self) -> dict[str, str]:
        """Name the review key by what it does."""
        return {"review": "Do it"}

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help: the fields to fill, and the keys."""
        return self.TITLE_TEXT, (
            "type the reason and, if steps may run again, their number; then ^s does it",
            "pgup and pgdn scroll what it does; esc leaves everything as it is",
        )

    def action_page(self, by: int) -> None:
        """Scroll the effects by a page, wherever the focus is."""
        if by > 0:
            self.effect.scroll_page_down(animate=False)
        else:
            self.effect.scroll_page_up(animate=False)

    def on_input_submitted(self, event: SafeInput.Submitted) -> None:
        """Move to the next field on enter."""
        event.stop()
        self.focus_next()

    def lacks(self) -> str:
        """Ask for what is missing, reason or number; empty if complete."""
        reason, typed = self.reason.value.strip(), self.typed.value.strip()
        if not reason:
            self.reason.focus()
            return "a reason is wanted: who reads the transcript later will ask for it"
        if len(reason) > REASON_MAX:
            self.reason.focus()
            return f"the reason has {len(reason)} characters, at most {REASON_MAX}"
        if self.repeats and typed != str(self.repeats):
            self.typed.focus()
            said = f"{typed} is not" if typed else "type"
            return f"{said} the number of steps in red above: each may run a second time"
        return ""

    @property
    def repeats(self) -> int:
        """Number of steps that may run again."""
        return repeated(self.seen) if self.seen is not None else 0

    async def deliver(self, permit: Permit, data: Any) -> AnswerOutcome:
        """Do the correction."""
        said = await self.correction.act(
            permit, self.seen, self.reason.value.strip(), self.submission.operation_id
        )
        return AnswerOutcome(Result.ACCEPTED, (said,))

    async def look_again(self, error: HelmrError) -> WaitInfo | None:
        """Note if the refusal says that the session changed since the preview."""
        self._has_changed = isinstance(error, SessionChanged)
        return None

    def after_refusal(self, outcome: AnswerOutcome) -> None:
        """Read the preview again if the session changed, and ask for the number again."""
        if self._has_changed:
            self._has_changed = False
            self.typed.value = ""
            self.console.background.start(self._look_again(), group="load", holds_keys=True)

    async def _look_again(self) -> None:
        await self._look()
        if self.repeats and not self.typed.is_attached:
            await self.slot.mount(Static(head("Type how many steps may run again *")), self.typed)
        (self.typed if self.repeats else self.reason).focus()
        self.redraw()
        self.reads_from_now()

    def accepted(self, outcome: AnswerOutcome) -> None:
        """Close; the screen that opened this one reads `is_done`."""
        self.is_done = True
        super().accepted(outcome)


class AmendScreen(SubmitScreen):
    """The form of an answered wait, filled with its answer; the next screen previews the change."""

    ACTION = "amend"
    AREA = "sessions"
    TITLE_TEXT = "Amend answer"
    HELP_TEXT = (
        "The form has the answer that was given. Change it; ^s then shows what the run would do again with the new "
        "answer. Nothing is sent from here."
    )

    def __init__(self, wait_id: str) -> None:
        super().__init__()
        self.fields = self.composes()
        self.wait_id = wait_id
        self.wait: WaitInfo | None = None
        self.before: Any = None

    async def load(self) -> None:
        """Read the wait in full and its answer, and show the form."""
        self.wait = await self.console.client.waits.get(self.wait_id)
        self.before = await answer_of(self.console.client, self.wait)
        first = self.before if self.before is not None else initial_of(self.wait)
        await self.fields.show(
            form_of(self.wait.json_schema, initial=first, is_answered=self.before is not None)
        )

    def draft_name(self) -> str | None:
        """Name of the amendment's draft, apart from that of the wait's answer."""
        return f"amend_{self.wait_id}"

    def facts(self) -> Sequence[Content]:
        """The wait, its end and its answer."""
        wait = self.wait
        if wait is None:
            return (safe.line(f"Asking for {self._what()}…", "$c-muted"),)
        at = f" at {words.clock(wait.resolved_at)} UTC" if wait.resolved_at else ""
        by = f" by {name}" if (name := words.resolver(wait)) else ""
        parts = [
            *asked(wait, lines_max=BODY_LINES),
            fact("was", safe.line(f"{wait.status.value.replace('_', ' ')}{by}{at}", limit=200)),
        ]
        if self.before is not None:
            said = json.dumps(self.before, ensure_ascii=False)
            parts.append(fact("with", safe.line(said, limit=300)))
        return parts

    def context_content(self) -> Content:
        """The whole question, then the JSON."""
        shown = asked(self.wait) if self.wait is not None else []
        return lines([*shown, Content(""), *self.preview()])

    def path(self) -> str:
        """Sessions > subject > Amend answer."""
        return f"Sessions > {self._what()[:50]} > {self.TITLE_TEXT}"

    def _what(self) -> str:
        """The subject, which the store may know before the wait is read."""
        known = self.wait or self.console.store.wait(self.wait_id)
        return words.subject_of(known) if known is not None else self.wait_id

    def labels(self) -> dict[str, str]:
        """Name the review key by the screen it opens."""
        return {"review": "What it does"}

    def do_review(self) -> None:
        """Open the preview of the changed answer."""
        form, wait = self.form, self.wait
        if form is None or wait is None or self.submission.phase is not SendPhase.FORM:
            return
        built = form.result()
        rest = form.show_problems(built.problems)
        if built.problems:
            self.tell((rest,) if rest else (), "error")
            self.console.say(f"{len(built.problems)} field(s) need something else", "warning")
            return
        changed = diff(self.before, built.data)
        if not any(line.sign in "~+-" for line in changed):
            self.tell(("that is the answer it has; change something",), "warning")
            return
        screen = CorrectionScreen(amending(wait, built.data, changed))
        self.app.push_screen(screen, partial(self._looked_at, screen))

    def _looked_at(self, screen: CorrectionScreen, _: None) -> None:
        if screen.is_done:
            self.console.background.start(self._done(), group="draft", holds_keys=True)

    async def _done(self) -> None:
        await self.drop()
        self.dismiss()


def amending(wait: WaitInfo, data: Any, changed: Sequence[DiffLine]) -> Correction:
    """Give a resolved wait another answer (S-79)."""

    async def act(
        permit: Permit, seen: RewindPreview | None, reason: str, operation_id: str
    ) -> str:
        assert seen is not None
        run = await permit.client.waits.amend(
            wait.id, data, preview=seen, reason=reason, operation_id=operation_id
        )
        return f"amended; the run goes on as attempt {run.attempt}"

    return Correction(
        "amend",
        "Amend answer",
        (("of", words.subject_of(wait)), ("wait", wait.id)),
        act,
        look=lambda client: client.waits.preview_amend(wait.id),
        changed=changed,
    )


def rewinding(place: CorrectionPlace) -> Correction:
    """Rewind a run to before an op (S-75)."""

    async def act(
        permit: Permit, seen: RewindPreview | None, reason: str, operation_id: str
    ) -> str:
        assert seen is not None
        run = await permit.client.runs.rewind(
            seen.run_id, preview=seen, reason=reason, operation_id=operation_id
        )
        return f"taken back to op {seen.to_op}; the run goes on as attempt {run.attempt}"

    def look(client: AsyncClient) -> Awaitable[RewindPreview]:
        return client.runs.preview_rewind(place.run_id, **place.named)

    facts = (("to before", place.words), ("run", place.run_id))
    return Correction("rewind", "Rewind", facts, act, look=look)


def forking(session_id: str, place: CorrectionPlace, made: list[str]) -> Correction:
    """Start a session with a copy of another's past (S-86); `made` receives its id."""

    async def act(
        permit: Permit, seen: RewindPreview | None, reason: str, operation_id: str
    ) -> str:
        session = permit.client.sessions.open(session_id)
        forked = await session.fork(**place.named, reason=reason, operation_id=operation_id)
        made.append(forked.session.id)
        return f"forked as {forked.session.id}"

    texts = (
        "A new session begins with copies of all entries up to there, and goes on by itself.",
        "",
        "Steps before it ran and do not run again; what comes after it runs there, under keys of its own.",
        "If it is a wait, the new session asks it again.",
        "This session is not touched; its tokens stay its own.",
    )
    facts = (("at", place.words), ("session", session_id))
    return Correction("fork", "Fork", facts, act, texts=texts)


def _line(text: str, role: str) -> Content:
    return safe.line(text, f"$c-{role}" if role else "", limit=LINE_CELLS)
