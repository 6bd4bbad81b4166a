"""The operator: reads the screen, presses what it offers, and counts.

Three of them. `Before` knows the keys of the console before the desk, `Now` those of today, `Lines` those of
`helmr next`; what they answer comes from the plan, by the number that stands in the question.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tests.console.flow.terminal import Terminal
from tests.programs.operators_hour.plan import GIVEN, REASONS, Asked, Fate
from tests.programs.operators_hour.stopwatch import Stage, Stopwatch

LOOK_EVERY_S = 0.02
SEES_WITHIN_S = 60.0
READS_S = 0.3
"""The console takes no sending key sooner after what it sends was drawn: before it came to the terminal."""

CTRL_O, CTRL_S, TAB, ENTER, ESCAPE = "\x0f", "\x13", "\t", "\r", "\x1b"
F8 = "\x1b[19~"
FILTER = "-stream:legal"

QUESTION = r"╭─ {title} ─[^\n]*\n│ [^│\n]*#(?P<number>\d{{3}})"
INBOX = r"╭─ Inbox"
IS_OVER = r"is fulfilled by|already answered"
FORM_READY = "What would be sent"
EMPTY = r"not complete yet|│ \"\" "
"""What would be sent of a form that nobody has touched; of a text that is nothing but it, an empty text."""
NOT_READ = r"esc goes back *│"
FITS = "fits the schema"
NARROW_FIELD = r"│ [^│\n]*(?: \*|, not sent)\s|│ [^│\n]*\([ •]\) |│ [^│\n]*optional"
"""A field, where the form has no room for what would be sent."""
RESTORED = "restored"
REVIEWED = "^s sends it."
ROW = re.compile(r"^│(▌?)[ *◆]+([!▲·x](?=[+-]? )|(?= *\d+(?::\d|[dhms] )))", re.MULTILINE)
"""A row of the list: whether it has the cursor, and the sign of its urgency, or that it is over; nothing of most."""
URGENCY = "!▲·"
MARK = re.compile(r"\b\d{3}\.\d{2}\b")
CUT = " more lines"
TOO_SOON = "Not sent: typed before"
REFUSED = "Not sent: "
"""It was typed before it could be read, or over a picture that was stale: the same key sends it later."""
AGAIN_S = 3.0
"""What a key did is on the screen by then."""
WAITS_S = 1.0
OPENS_WITHIN_S = 20.0
KEY_EVERY_S = (0.03, 0.06)
FIRST_REPEAT_S = (0.2, 0.5)
REPEAT_EVERY_S = 0.033
REPEATS = (5, 25)
"""A key that is held down: when it repeats first, how often, and how many times."""
REPEATS_WITHIN_S = 0.66
"""No system that people use lets a key wait for longer, unless they chose it (X.Org's `xset r rate`)."""
RESTS_S = 1.0
"""What the screen asks for before a key that was typed too soon is pressed once more."""
LIVE = re.compile(r"live \d+s")


class World(Protocol):
    """What goes on around the operator."""

    async def opened(self, number: int) -> None:
        """This question stands before the operator: others may act before the answer."""

    async def confirmed(self, number: int) -> None:
        """The operator answered it."""

    async def is_finished(self) -> bool:
        """Whether nothing more will be asked."""


@dataclass
class Handled:
    """What one wait cost.

    Attributes:
        tries: By `time.time`, when the key was pressed that brought it, and when the last key of its answer; more than
            one where an answer did not arrive, as when the runtime had died.
        keys: Keys that are not typed text.
    """

    tries: list[tuple[float, float]] = field(default_factory=list)
    keys: int = 0


@dataclass
class Tally:
    """What the operator did."""

    keys: int = 0
    text: int = 0
    """Characters of typed text."""
    handled: dict[int, Handled] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    """Waits that were on any screen."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    typed: list[tuple[float, str]] = field(default_factory=list)
    """Everything, repeats too, with `time.time`."""
    refused: int = 0
    """How often the console said that the confirming key came too soon."""
    unread: list[int] = field(default_factory=list)
    """Answered although lines of the text had not been on the screen, and no line said so."""
    let_go: int = 0
    """Keys that were not held down, as this machine stood still for longer than any key needs to repeat."""

    def write_typed(self, path: Path) -> None:
        """What was typed, for who looks into a wrong answer."""
        path.write_text("".join(f"{json.dumps(one)}\n" for one in self.typed))


class Operator:
    """Someone at a terminal.

    Args:
        terminal: Where.
        plan: What to answer, by number.
        world: What goes on meanwhile.
    """

    SIZE: ClassVar[tuple[int, int]]
    TASKS: ClassVar[Sequence[str]] = ("hour_tasks.py",)
    ENV: ClassVar[Mapping[str, str]] = {}
    PEOPLE: ClassVar[str] = ""
    """What the runtime's helmr.toml says of people."""

    def __init__(self, terminal: Terminal, plan: Mapping[int, Asked], world: World) -> None:
        self.terminal = terminal
        self.plan = plan
        self.world = world
        self.tally = Tally()
        self._begun = (0.0, 0)
        self._seen = (0, "")
        self._marks: set[str] = set()
        self._is_cut = False
        """A screen said so since the last answer."""

    async def begins(self, url: str, key: str, folder: Path) -> None:
        """Start the command."""
        places = {
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        await self.terminal.run(
            # -P: not the code of the folder that this runs in, but that of the interpreter's checkout
            "-P", "-m", "helmr.cli", *self.command(), "--url", url, "--on-behalf-of", "ana",
            **{"HELMR_API_KEY": key, "PYTHONPATH": "", **places, **self.ENV},
        )  # fmt: skip

    async def ends(self) -> None:
        """Leave nothing open; the terminal is closed by others."""

    def command(self) -> tuple[str, ...]:
        """What is typed to begin."""
        raise NotImplementedError

    async def works(self) -> None:
        """Answer until nothing more is asked."""
        raise NotImplementedError

    # --- hands

    async def key(self, code: str) -> None:
        """A key that is not typed text."""
        self.tally.keys += 1
        await self._press(code)

    async def types(self, text: str) -> None:
        """Text into a field."""
        self.tally.text += len(text)
        await self._press(text)

    async def _press(self, codes: str) -> None:
        self.tally.typed.append((time.time(), codes))
        await self.terminal.press(codes)

    async def opened(self, number: int) -> None:
        """Others may act now."""
        with self.tally.watch.aside(Stage.OTHERS):
            await self.world.opened(number)

    async def confirmed(self, number: int) -> None:
        """Others may act now."""
        with self.tally.watch.aside(Stage.OTHERS):
            await self.world.confirmed(number)

    def _begins_wait(self) -> None:
        self._begun = (time.time(), self.tally.keys)

    def _confirms(self, number: int) -> None:
        begun_s, keys = self._begun
        found = self.tally.handled.setdefault(number, Handled())
        found.keys += self.tally.keys - keys
        found.tries.append((begun_s, time.time()))


class ConsoleOperator(Operator):
    """Someone at `helmr console`."""

    SIZE = (120, 36)
    TITLE: ClassVar[str]

    def command(self) -> tuple[str, ...]:
        """The console."""
        return ("console",)

    # --- eyes

    def text(self) -> str:
        """The screen, read again where something was written to it; every wait on it was seen."""
        written = len(self.terminal.raw)
        if written != self._seen[0]:
            self._seen = (written, self.terminal.text())
            self.tally.shown |= {int(number) for number in re.findall(r"#(\d{3})", self._seen[1])}
            self._marks |= set(MARK.findall(self._seen[1]))
            self._is_cut = self._is_cut or CUT in self._seen[1]
        return self._seen[1]

    async def sees(self, *patterns: str, within_s: float = SEES_WITHIN_S) -> re.Match[str]:
        """The first of these that is on the screen."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    text = self.text()
                    for pattern in patterns:
                        if found := re.search(pattern, text):
                            return found
                    assert self.terminal.is_running, text
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"none of {patterns} is on:\n{self.text()}") from None

    async def is_live(self) -> None:
        """Return when what is shown is fresh."""
        await self.sees(LIVE.pattern)

    async def opened(self, number: int) -> None:
        """Others may act now; a runtime that was away is seen again."""
        await super().opened(number)
        with self.tally.watch.aside(Stage.OTHERS):
            await self.is_live()

    async def asked(self, *, after: int | None = None) -> int | None:
        """The number of the question in the form, once it is another than this; None if it was the last.

        Args:
            after: What was asked before; None where the form is being opened.
        """
        pattern = QUESTION.format(title=self.TITLE)
        patterns = (pattern,) if after is None else (pattern, INBOX)
        ending_s = time.monotonic() + SEES_WITHIN_S
        told_s, again_s = 0.0, time.monotonic() + AGAIN_S
        while time.monotonic() < ending_s:
            found = await self.sees(*patterns)
            if "number" not in found.re.groupindex:
                return None
            if int(found["number"]) != after and self.is_form_there():
                return int(found["number"])
            if time.monotonic() > (told_s if self._is_told_to_press() else again_s):
                self.tally.refused += TOO_SOON in self.text()
                await asyncio.sleep(RESTS_S if REFUSED in self.text() else READS_S)
                if self._may_press_again(after):
                    await self.key(CTRL_S)
                told_s = again_s = time.monotonic() + AGAIN_S
            await asyncio.sleep(LOOK_EVERY_S)
        raise AssertionError(f"no question but #{after} is on:\n{self.text()}")

    def _is_told_to_press(self) -> bool:
        """The screen says what the key does now: it was refused, or what was tried before is reviewed once more."""
        return REFUSED in self.text() or REVIEWED in self.text()

    def _may_press_again(self, number: int | None) -> bool:
        """Whether this question still stands there, answered: the key did nothing, as where it came so soon after its
        repeats that it was taken for one of them."""
        found = re.search(QUESTION.format(title=self.TITLE), self.text())
        is_there = found is not None and int(found["number"]) == number
        return is_there and number is not None and self.plan[number].fate is Fate.OPERATOR

    # --- the list

    async def filters(self) -> None:
        """What is not one's own business leaves the list."""
        await self.sees(r"▌ ")
        self.tally.watch.goes_on(Stage.FINDS)
        await self.key("/")
        await self.types(FILTER)
        await self.key(ENTER)

    async def finds_work(self) -> bool:
        """Return when the wait to be answered next can be opened; False when nothing more is asked."""
        watch = self.tally.watch
        watch.goes_on(Stage.FINDS)
        while True:
            await self.sees(INBOX)
            text = self.text()
            rows = ROW.findall(text)
            if re.search(r"\d+ new", text):
                await self._moves(".", text)
            elif any(sign in URGENCY for _, sign in rows):
                if (code := self.way(rows)) is None:
                    return True
                await self._moves(code, text)
            else:
                with watch.aside(Stage.IDLE):
                    if await self.world.is_finished():
                        return False
                    await asyncio.sleep(WAITS_S)

    def way(self, rows: list[tuple[str, str]]) -> str | None:
        """The key that leads nearer to the wait to begin with; None on it.

        Args:
            rows: Of each row whether it has the cursor, and its sign.
        """
        raise NotImplementedError

    async def _moves(self, code: str, text: str) -> None:
        """A key of the list, and what it draws."""
        await self.key(code)
        with suppress(TimeoutError):
            async with asyncio.timeout(WAITS_S):
                while ROW.findall(self.text()) == ROW.findall(text):
                    await asyncio.sleep(LOOK_EVERY_S)

    # --- the form

    async def fills(self, one: Asked) -> None:
        """Enter the answer, reading where each choice stands."""
        answer = one.answer
        if await self.is_filled_already():  # what was entered before the runtime died stands there
            await self.fits(one)
            return
        match one.task:
            case "review":
                await self.chooses(answer["decision"])
                if "note" in answer:
                    await self.key(TAB)
                    await self.types(answer["note"])
            case "talk":
                await self.types(answer["reply"])
            case "refund":
                await self.types(str(answer["amount"]))
                if f"not sent: {answer['reason']}" not in self.text():
                    await self.key(TAB)
                    await self.chooses(answer["reason"])
            case "order":
                await self.types(answer["address"]["street"])
                await self.key(TAB)
                await self.types(str(answer["address"]["number"]))
                await self.lists(answer["items"])
            case _:
                await self.chooses(answer["sign"])
        await self.fits(one)

    def is_form_there(self) -> bool:
        """Whether its fields can be filled."""
        return FORM_READY in self.text()

    async def is_filled_already(self) -> bool:
        """Whether something was entered into it before."""
        return (await self.sees(RESTORED, EMPTY, FITS)).re.pattern != EMPTY

    async def fits(self, one: Asked) -> None:
        """Return when the screen says that what was entered is an answer."""
        await self.sees(FITS)

    async def lists(self, items: Sequence[Mapping[str, Any]]) -> None:
        """The items of an order, from the field above them."""
        raise NotImplementedError

    async def chooses(self, name: str) -> None:
        """The digit of this choice."""
        offered = (await self.sees(rf"│ [^│]*\([ •]\) {name}\b[^│]*"))[0]
        labels = [label.strip(" >│") for label in re.split(r"\([ •]\)", offered)[1:]]
        await self.key(str(labels.index(name) + 1))
        await self.sees(rf"\(•\) {name}\b")


class Before(ConsoleOperator):
    """The console before the desk: each answer is opened from the list, reviewed, and sent."""

    TITLE = "Answer"

    async def works(self) -> None:
        """Open, fill, review, send."""
        await self.filters()
        while await self.finds_work():
            await self.is_live()
            self.tally.watch.goes_on(Stage.OPENS)
            self._begins_wait()
            await self.key("a")
            if not await self._is_open():
                continue
            number = await self.asked()
            assert number is not None, "a form was opened"
            await self._answers(number)
            self.tally.watch.is_for(self.plan[number].kind)
        self.tally.watch.goes_on(None)
        await self.key("q")

    async def _is_open(self) -> bool:
        """Whether the form is there and can be filled; one that could not be read is left again."""
        try:
            found = await self.sees(FORM_READY, NOT_READ, within_s=OPENS_WITHIN_S)
            if found.re.pattern == FORM_READY:
                return True
        except AssertionError:
            pass
        if re.search(INBOX, self.text()) is None:
            await self.key(ESCAPE)
        return False

    def way(self, rows: list[tuple[str, str]]) -> str | None:
        """The cursor is on the wait that is answered: down, or up again where all below are over."""
        at = next((n for n, (cursor, _) in enumerate(rows) if cursor), 0)
        if rows[at][1] in URGENCY:
            return None
        return "j" if any(sign in URGENCY for _, sign in rows[at:]) else "g"

    async def lists(self, items: Sequence[Mapping[str, Any]]) -> None:
        """A list is a field of JSON."""
        await self.key(TAB)
        await self.types(json.dumps(items))

    async def _answers(self, number: int) -> None:
        one, watch = self.plan[number], self.tally.watch
        await self.opened(number)
        if one.fate is not Fate.OPERATOR:
            await self.sees(IS_OVER)
            await self.key(ESCAPE)
            await self.sees(INBOX)
            return
        watch.goes_on(Stage.FILLS)
        await self.fills(one)
        watch.goes_on(Stage.MAY_SEND)
        await self.key(CTRL_S)
        while True:
            await self.sees(r"\^s sends it")
            await self.is_live()
            watch.goes_on(Stage.SENDS)
            await self.key(CTRL_S)
            found = await self.sees(INBOX, "Not sent: ", "Outcome unknown")
            if found.re.pattern == INBOX:
                break
            if "another" in self.text() or "already answered" in self.text():
                await self.key(ESCAPE)
                return
            if "sends it" not in self.text():
                await self.key(CTRL_S)
        self._confirms(number)
        await self.confirmed(number)


class Now(ConsoleOperator):
    """The console as it is: one after the other, each answer held."""

    TITLE = "One by one"

    async def works(self) -> None:
        """Begin at the first wait; the next comes by itself."""
        await self.filters()
        while await self.finds_work():
            await self.is_live()
            self.tally.watch.goes_on(Stage.OPENS)
            self._begins_wait()
            await self.key("n")
            number = await self.asked()
            while number is not None:
                await self._answers(number)
                number = await self.asked(after=number)
        self.tally.watch.goes_on(None)
        await self.key("q")

    def way(self, rows: list[tuple[str, str]]) -> str | None:
        """It goes down from the cursor: from the first row on all are asked."""
        return None if rows[0][0] else "g"

    async def lists(self, items: Sequence[Mapping[str, Any]]) -> None:
        """A list has a row for each of its items; they are typed as the older console's JSON is, and looked at then."""
        await self.sees(r"\^o Add row")
        for item in items:
            await self.key(CTRL_O)
            await self.types(str(item["sku"]))
            await self.key(TAB)
            await self.types(str(item["qty"]))
        await self.sees(rf"items[^\n]* {len(items)} rows?\b")

    async def confirms_it(self) -> None:
        """The key that answers."""
        await self.key(CTRL_S)

    async def _answers(self, number: int) -> None:
        one, watch = self.plan[number], self.tally.watch
        arrived_s = self.terminal.arrived_s
        await self.opened(number)
        if one.fate is not Fate.OPERATOR:
            await self.sees(IS_OVER)
            self._begins_wait()
            await self.key(F8)
        else:
            watch.goes_on(Stage.FILLS)
            await self.fills(one)
            watch.goes_on(Stage.MAY_SEND)
            await asyncio.sleep(max(0.0, arrived_s + READS_S - time.monotonic()))
            await self.is_live()
            if not (set(one.marks) <= self._marks or self._is_cut or one.kind == "call"):
                self.tally.unread.append(number)
            self._is_cut = False
            await self.confirms_it()
            self._confirms(number)
            self._begins_wait()
        watch.is_for(one.kind)
        watch.goes_on(Stage.OPENS)
        if one.fate is Fate.OPERATOR:
            await self.confirmed(number)


class Hurried(Now):
    """A quick hand: types key by key and does not look, tabs into what is filled, keeps the confirming key down."""

    TASKS = ("hour_tasks.py", "hurried_tasks.py")

    def __init__(self, terminal: Terminal, plan: Mapping[int, Asked], world: World) -> None:
        super().__init__(terminal, plan, world)
        self._dice = random.Random(len(plan))

    async def key(self, code: str) -> None:
        """One key, and no time to see what it does."""
        await super().key(code)
        await self._goes_on()

    async def types(self, text: str) -> None:
        """Key by key."""
        for char in text:
            await super().types(char)
            await self._goes_on()

    async def _goes_on(self) -> None:
        await asyncio.sleep(self._dice.uniform(*KEY_EVERY_S))

    async def confirms_it(self) -> None:
        """The key goes down, repeats, and comes up again, by when the next question is there."""
        await super().confirms_it()
        pressed_s = time.monotonic()
        await asyncio.sleep(self._dice.uniform(*FIRST_REPEAT_S))
        repeats = self._dice.randrange(*REPEATS)
        if time.monotonic() - pressed_s > REPEATS_WITHIN_S:
            self.tally.let_go += 1
            return
        for _ in range(repeats):
            await self._press(CTRL_S)
            await asyncio.sleep(REPEAT_EVERY_S)

    async def fills(self, one: Asked) -> None:
        """Types over what stands there; all else as anybody."""
        answer = one.answer
        match one.kind:
            case "correct":
                if answer["code"] != GIVEN["code"]:
                    await self.types(answer["code"])
                await self.key(TAB)
                await self.types(str(answer["amount"]))
                await self.key(TAB)
                await self.key(str(REASONS.index(answer["reason"]) + 1))
            case "call" if answer["decision"] == "approve":
                await self.key("1")
            case "call":
                await self.key("d")
                if self._dice.random() < 0.5:
                    await self.key(TAB)
                await self.types(answer["reason"])
            case _:
                await super().fills(one)


class Narrow(ConsoleOperator):
    """Of a screen of 80x24, which has no room for what would be sent: the fields themselves are read."""

    SIZE = (80, 24)

    def is_form_there(self) -> bool:
        """As its first field is."""
        return re.search(NARROW_FIELD, self.text()) is not None

    async def is_filled_already(self) -> bool:
        """The form says so above its fields, as soon as it is there."""
        return RESTORED in self.text()

    async def fits(self, one: Asked) -> None:
        """What was typed last stands in its field."""
        match one.task:
            case "talk":
                await self.sees(re.escape(one.answer["reply"][-20:]))
            case "review" if "note" in one.answer:
                await self.sees(re.escape(one.answer["note"][-20:]))
            case "order":
                await self.sees(rf"items[^\n]* {len(one.answer['items'])} rows?\b")
            case _:
                """A choice was seen when it was made."""


class NowNarrow(Narrow, Now):
    """The usual hand at 80x24."""


class HurriedNarrow(Narrow, Hurried):
    """The hurried hand at 80x24."""


class Lines(Operator):
    """Someone at `helmr next`, without colour and without a grid."""

    SIZE = (80, 24)
    ENV: ClassVar[Mapping[str, str]] = {"TERM": "dumb", "NO_COLOR": "1"}

    def __init__(self, terminal: Terminal, plan: Mapping[int, Asked], world: World) -> None:
        super().__init__(terminal, plan, world)
        self._read = 0
        self._place = ("", "", Path())

    def command(self) -> tuple[str, ...]:
        """One after the other."""
        return ("next", f"--filter={FILTER}")

    async def begins(self, url: str, key: str, folder: Path) -> None:
        """Start the command; it is started again where it ends before the hour does."""
        self._place = (url, key, folder)
        await super().begins(url, key, folder)

    async def reads(self, pattern: str) -> re.Match[str] | None:
        """What was written since the last time, once it has this; None when the command has ended."""
        try:
            async with asyncio.timeout(SEES_WITHIN_S):
                while True:
                    written = self._written()
                    self.tally.shown |= {int(found) for found in re.findall(r"#(\d{3})", written)}
                    if found := re.search(pattern, written):
                        return found
                    if not self.terminal.is_running:
                        return None
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} is not in:\n{self._written()}") from None

    def _written(self) -> str:
        return self.terminal.raw[self._read :].decode(errors="replace").replace("\r", "")

    async def says(self, line: str = "", *, text: str = "") -> None:
        """A line: keys, or typed text, and Enter."""
        self._read = len(self.terminal.raw)
        self.tally.keys += len(line) + 1
        self.tally.text += len(text)
        await self.terminal.press(f"{line}{text}\n")

    async def works(self) -> None:
        """Question by question."""
        watch = self.tally.watch
        while True:
            watch.goes_on(Stage.OPENS)
            self._begins_wait()
            found = await self.reads(r"\d+ of \d+  [^\n]*#(\d{3})(?s:.)*q\] $")
            if found is not None:
                await self._answers(int(found[1]), has_draft="k keep" in found[0])
                watch.is_for(self.plan[int(found[1])].kind)
                continue
            with watch.aside(Stage.IDLE):
                is_finished = await self.world.is_finished()
            if is_finished:
                watch.goes_on(None)
                return
            await self.begins(*self._place)

    async def _answers(self, number: int, *, has_draft: bool) -> None:
        one = self.plan[number]
        await self.opened(number)
        self.tally.watch.goes_on(Stage.FILLS)
        if has_draft:
            await self.says("k")
        else:
            await self._fills(one)
        self.tally.watch.goes_on(Stage.SENDS)
        await self.reads(r"sends in \d+ s")
        self._confirms(number)
        if one.fate is Fate.OPERATOR:
            await self.confirmed(number)

    async def _fills(self, one: Asked) -> None:
        answer = one.answer
        match one.task:
            case "review":
                await self._chooses(answer["decision"])
                await self.reads(r"note[^\n]*: $")
                await self.says(text=answer.get("note", ""))
            case "talk":
                await self.says("a")
                await self.reads(r"answer[^\n]*: $")
                await self.says(text=answer["reply"])
            case "refund":
                await self.says("a")
                await self.reads(r"amount[^\n]*: $")
                await self.says(text=str(answer["amount"]))
                kept = await self.reads(r"reason[^\n]*: $")
                assert kept is not None, self._written()
                chosen = {"goodwill": "", "damaged": "2", "late": "3"}[answer["reason"]]
                await self.says(chosen)
            case "order":
                await self.says("a")
                await self.reads(r"street[^\n]*: $")
                await self.says(text=answer["address"]["street"])
                await self.reads(r"number[^\n]*: $")
                await self.says(text=str(answer["address"]["number"]))
                for item in answer["items"]:
                    await self.reads(r"items[^\n]*\[n\] $")
                    await self.says("y")
                    await self.reads(r"sku[^\n]*: $")
                    await self.says(text=item["sku"])
                    await self.reads(r"qty[^\n]*: $")
                    await self.says(text=str(item["qty"]))
                await self.reads(r"items[^\n]*\[n\] $")
                await self.says()
            case _:
                await self._chooses(answer["sign"])

    async def _chooses(self, name: str) -> None:
        """The digit of this choice, as it is listed."""
        listed = re.findall(rf"^  (\d)[^\n]*  {name}$", self._written(), re.MULTILINE)
        await self.says(listed[-1])
