"""`helmr next` on a terminal: each wait asked in lines, held, sent; taken back, killed, overtaken."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from helmr.person.review.personal import DraftStore
from tests.cli import next_tasks
from tests.cli.conftest import Said
from tests.console.flow.terminal import Terminal
from tests.service.stack import Stack, until

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with tasks that ask."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=next_tasks.REGISTRY)
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


class Person:
    """Somebody at a terminal of 80x24 without colour, who reads before they type."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.terminal = Terminal(80, 24)
        self._read = 0

    async def begins(
        self, *options: str, command: tuple[str, ...] = ("next",), me: str = "ana", **env: str
    ) -> None:
        """Start the command."""
        places = {"HELMR_API_KEY": self.stack.key, "XDG_STATE_HOME": str(self.folder / "state")}
        await self.terminal.run(
            "-m", "helmr.cli", *command, "--url", self.stack.url, "--on-behalf-of", me, *options,
            **{"TERM": "dumb", "NO_COLOR": "1", **places, **env},
        )  # fmt: skip

    async def reads(self, text: str) -> str:
        """Everything written since the last time, up to this."""
        wanted = text.encode()
        try:
            await until(lambda: wanted in self.terminal.raw[self._read :])
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in:\n{self.rest()}") from None
        end = self.terminal.raw.index(wanted, self._read) + len(wanted)
        seen = self.terminal.raw[self._read : end].decode()
        self._read = end
        return seen.replace("\r", "")

    def rest(self) -> str:
        """What was written since."""
        return self.terminal.raw[self._read :].decode(errors="replace").replace("\r", "")

    async def types(self, *lines: str) -> None:
        """Lines, each with Enter."""
        await self.terminal.press("".join(f"{line}\n" for line in lines))

    @property
    def drafts(self) -> DraftStore:
        """The drafts on disk."""
        return DraftStore(self.folder / "state" / "helmr" / "console" / "people" / "ana" / "drafts")


@pytest.fixture
async def person(stack: Stack, tmp_path: Path) -> AsyncIterator[Person]:
    found = Person(stack, tmp_path)
    yield found
    await found.terminal.close()


async def asks(stack: Stack, task: str, **payload: Any) -> dict[str, Any]:
    """A session that waits; the receipt of its start."""
    receipt = await stack.started(task, payload)
    await stack.run_until(receipt["run"]["id"], "waiting")
    return receipt


async def output(stack: Stack, receipt: dict[str, Any]) -> Any:
    """What the run came to."""
    return (await stack.run_until(receipt["run"]["id"], "succeeded"))["result"]


async def wait_of(stack: Stack, receipt: dict[str, Any]) -> dict[str, Any]:
    """The session's wait as it is now."""
    items = (await stack.http.get(f"/v1/waits?session_id={receipt['session']['id']}")).json()[
        "items"
    ]
    found: dict[str, Any] = items[0]
    return found


KINDS: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "approve": ("publish", [("] ", "a"), ("note", "")], "approve None"),
    "reject": ("publish", [("] ", "2"), ("note", "not yet, n{n}")], "reject not yet, n{n}"),
    "chat": ("talk", [("] ", "a"), ("answer: ", "word {n}")], "word {n}"),
    "refund": ("refund", [("] ", "y"), ("cents", "{n}"), ("reason", "d")], "True {n} damaged"),
    "order": (
        "order",
        [
            ("] ", "a"),
            ("street", "Elm"),
            ("number", "{n}"),
            ("items: 0 rows", "y"),
            ("items 1 sku", "A{n}"),
            ("items 1 qty", "3"),
            ("items: 1 row;", ""),
            ("labels", "red"),
            ("labels", "soft"),
            ("labels", ""),
        ],
        '{{"to":{{"street":"Elm","number":{n}}},"items":[{{"sku":"A{n}","qty":3}}],"labels":["red","soft"]}}',
    ),
    "token": ("sign", [("] ", "approve"), ("note", "")], "approve"),
}
"""Of each kind: the task, the prompts with what is typed at each, and what the run then says. {n} counts."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("many", [len(KINDS), pytest.param(100, marks=pytest.mark.long)])
async def test_many_waits_of_every_kind_each_get_their_own_answer(
    stack: Stack, person: Person, many: int
) -> None:
    kinds = list(KINDS)
    receipts = {}
    for n in range(many):
        kind = kinds[n % len(kinds)]
        receipts[n] = await stack.started(KINDS[kind][0], {"subject": f"About {kind} {n}?"})
    for receipt in receipts.values():
        await stack.run_until(receipt["run"]["id"], "waiting")
    await person.begins("--undo-for", "1s")
    for count in range(many):
        head = await person.reads(f"{count + 1} of {many}  About ")
        assert "nothing waits" not in head
        about = await person.reads("?\r\n")
        kind, number = about.removesuffix("?\n").split()
        for prompt, typed in KINDS[kind][1]:
            await person.reads(prompt)
            await person.types(typed.format(n=number))
        await person.reads("sends in 1 s · u takes it back")
    await person.reads("pending, sent within")
    assert await person.terminal.ended() == 0
    assert person.rest().endswith(f"{many} accepted\n")
    assert b"\x1b" not in person.terminal.raw
    for n, receipt in receipts.items():
        wanted = KINDS[kinds[n % len(kinds)]][2].format(n=n)
        assert await output(stack, receipt) == wanted, n
    assert not person.drafts.wait_ids()


@pytest.mark.long  # tests/review/test_pending.py
async def test_an_answer_is_taken_back_and_given_anew(stack: Stack, person: Person) -> None:
    first = await asks(stack, "publish", subject="First?")
    second = await asks(stack, "talk", subject="Second?")
    await person.begins("--undo-for", "60s")
    await person.reads("1 of 2  First?")
    await person.reads("] ")
    await person.types("a", "")
    await person.reads('answer: {"decision": "approve"}')
    await person.reads("2 of 2  Second?")
    await person.reads("u undo")
    await person.types("u")
    await person.reads("taken back, nothing was sent: First?")
    seen = await person.reads("draft restored: ")
    assert "1 of 2  First?" in seen
    await person.reads('{"decision": "approve"}')
    await person.reads("] ")
    await person.types("r", "on reflection")
    await person.reads("2 of 2  Second?")
    await person.reads("] ")
    await person.types("q")
    await person.reads("1 pending, sent within")
    assert (await wait_of(stack, first))["status"] == "pending"
    await person.types("q")
    await person.reads("accepted: First? · record 1 on approval, fulfilled")
    assert await person.terminal.ended() == 0
    assert await output(stack, first) == "reject on reflection"
    assert (await wait_of(stack, second))["status"] == "pending"
    path = f"/v1/sessions/{first['session']['id']}/inputs/approval"
    assert len((await stack.http.get(path)).json()["items"]) == 1


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGINT]
)
async def test_who_dies_while_answers_are_held_has_sent_nothing_and_kept_all(
    stack: Stack, person: Person, number: signal.Signals
) -> None:
    receipts = [await asks(stack, "talk", subject=f"Word {n}?") for n in range(2)]
    await person.begins("--undo-for", "60s")
    for word in ("alpha", "beta"):
        await person.reads("a answer")
        await person.types("a", word)
        await person.reads("sends in 60 s")
    await person.reads("2 pending")
    person.terminal.process.send_signal(number)
    assert await person.terminal.ended() == (-9 if number == signal.SIGKILL else 130)
    if number == signal.SIGINT:
        await person.reads('not sent, kept as a draft: Word 1? · "beta"')
    kept = []
    for receipt in receipts:
        wait = await wait_of(stack, receipt)
        assert wait["status"] == "pending"
        assert wait["id"] in person.drafts.wait_ids()
        file = next(person.drafts.folder.glob(f"{wait['id']}.*.json"))
        draft = json.loads(file.read_text())
        assert draft["operation_id"] is None
        kept.append(draft["cells"]["$"])
    assert kept == ["alpha", "beta"]


@pytest.mark.long  # tests/review/test_outcome.py
async def test_a_rival_within_the_grace_is_told_and_the_text_is_kept(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "talk", subject="Word?")
    await person.begins("--undo-for", "60s")
    await person.reads("a answer")
    await person.types("a", "mine")
    await person.reads("1 pending")
    wait = await wait_of(stack, receipt)
    async with stack.client(**{"On-Behalf-Of": "bea"}) as bea:
        said = await bea.post(f"/v1/waits/{wait['id']}/answer", json={"data": "theirs"})
        assert said.status_code == 200, said.text
    await person.types("q")
    told = await person.reads('your answer is kept as a draft: "mine"')
    assert "not accepted: Word? · " in told
    assert "  answered by bea, said by key" in told
    assert " at 20" in told
    assert '\n    "theirs"\n  theirs against yours: 1 changed, 0 added, 0 removed\n' in told
    assert "  ~ $  [-theirs-][+mine+]" in told
    assert await person.terminal.ended() == 0
    assert await output(stack, receipt) == "theirs"
    assert wait["id"] in person.drafts.wait_ids()


async def test_what_is_typed_before_a_question_can_be_read_answers_nothing(
    stack: Stack, person: Person
) -> None:
    receipts = [await asks(stack, "publish", subject=f"Ahead {n}?") for n in range(2)]
    await person.begins("--undo-for", "60s")
    await person.reads("] ")
    await person.types("a", "", "a", "", "r", "")
    await person.reads("4 line(s) typed before this question appeared were ignored")
    await person.reads("] ")
    await person.types("q")
    await person.reads("1 pending")
    await person.types("u")
    await person.reads("taken back")
    assert await person.terminal.ended() == 0
    for receipt in receipts:
        assert (await wait_of(stack, receipt))["status"] == "pending"


@pytest.mark.long  # tests/review/test_queue.py
async def test_what_the_runtime_refuses_is_asked_again_with_what_was_entered(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "order", subject="Order?")
    await person.begins("--undo-for", "0s")
    for prompt, line in (
        ("] ", "a"),
        ("street", "Elm"),
        ("number", "x"),
        ("not a whole number", "7"),
        ("items: 0 rows", "y"),
        ("items 1 sku", "a1"),
        ("items 1 qty", "2"),
        ("items: 1 row;", ""),
        ("labels", ""),
    ):
        await person.reads(prompt)
        await person.types(line)
    told = await person.reads("draft restored: ")
    assert "items.0.sku" in told
    await person.reads("keep")
    await person.types("a")
    for prompt, line in (
        ("street [Elm]", ""),
        ("number (whole number) [7]", ""),
        ("items 1 sku (matches ^[A-Z]) [a1]", "A1"),
        ("items 1 qty (whole number) [2]", ""),
        ("items: 1 row;", ""),
        ("labels", ""),
    ):
        await person.reads(prompt)
        await person.types(line)
    await person.reads("accepted: Order?")
    assert '"qty":2' in await output(stack, receipt)


@pytest.mark.long  # tests/review/test_question.py
async def test_the_whole_answer_in_the_editor_while_another_one_leaves(
    stack: Stack, person: Person, tmp_path: Path
) -> None:
    first = await asks(stack, "talk", subject="Word?")
    second = await asks(stack, "publish", subject="Publish?")
    gate, script = tmp_path / "gate", tmp_path / "editor.sh"
    script.write_text(
        "#!/bin/sh\n"
        f"while [ ! -e {gate} ]; do sleep 0.05; done\n"
        """printf '{"decision": "reject", "note": "two\\\\nlines"}' > "$1"\n"""
    )
    script.chmod(0o700)
    await person.begins("--undo-for", "1s", EDITOR=str(script))
    await person.reads("a answer")
    await person.types("a", "quick")
    await person.reads("2 of 2  Publish?")
    await person.reads("] ")
    await person.types("e")
    assert await output(stack, first) == "quick"
    assert "accepted" not in person.rest()
    gate.touch()
    await person.reads("accepted: Word?")
    await person.reads('answer: {"decision": "reject", "note": "two\\nlines"}')
    assert await output(stack, second) == "reject two\nlines"


async def test_a_secret_is_not_shown_not_kept_and_sent(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, "login", subject="Log in?")
    await person.begins("--undo-for", "60s")
    await person.reads("] ")
    await person.types("a", "ana")
    await person.reads("password")
    await person.types("hunter2-not-a-secret")
    await person.reads('answer: {"user": "ana", "password": "••••••"}')
    kept = next(person.drafts.folder.glob("*.json")).read_text()
    assert "ana" in kept
    assert "hunter2" not in kept
    await person.reads("1 pending")
    await person.types("q")
    await person.reads("accepted")
    assert b"hunter2" not in person.terminal.raw
    assert await output(stack, receipt) == "hunter2-not-a-secret"


async def test_hostile_text_is_shown_and_not_obeyed(stack: Stack, person: Person) -> None:
    evil = "\x1b[2J\x1b]0;pwned\x07\u202egnp"
    body = "\n".join(f"line {n} {evil}" for n in range(40))
    await asks(stack, "talk", subject=f"Publish {evil}?", body=body)
    await person.begins()
    await person.reads("28 more lines: m shows them")
    await person.types("m")
    await person.reads("line 39")
    await person.types("?")
    await person.reads("Ctrl-C leaves at once")
    await person.types("nonsense", "k", "u", "s")
    await person.reads("0 accepted")
    assert not {0x1B, 0x07} & set(person.terminal.raw)
    assert "\u202e" not in person.terminal.raw.decode()


@pytest.mark.long
async def test_a_line_that_the_terminal_cut_is_no_answer(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, "talk", subject="Long?")
    await person.begins("--undo-for", "0s")
    await person.reads("a answer")
    await person.types("a")
    await person.reads("answer: ")
    await person.types("x" * 5_000)
    await person.reads("the terminal cut this line; e at the question takes long texts")
    await person.types("short")
    await person.reads("accepted")
    assert await output(stack, receipt) == "short"


@pytest.mark.long  # tests/review/test_question.py
async def test_ctrl_d_goes_back_to_the_question_with_what_was_entered(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "refund", subject="Refund?")
    await person.begins("--undo-for", "0s")
    await person.reads("] ")
    await person.types("y", "700")
    await person.reads("reason")
    await person.terminal.press("\x04")
    await person.reads("] ")
    await person.types("n")
    await person.reads("[700]")
    await person.types("", "")
    await person.reads("accepted")
    assert await output(stack, receipt) == "False 700 goodwill"


async def test_filters_choose_and_an_unknown_field_is_refused(stack: Stack, person: Person) -> None:
    await asks(stack, "talk", subject="Word?")
    await asks(stack, "publish", subject="Publish?")
    await person.begins("--stream", "approval", "--filter", "publish")
    await person.reads("1 of 1  Publish?")
    await person.types("q")
    assert await person.terminal.ended() == 0
    other = Person(stack, person.folder)
    try:
        await other.begins("--filter", "colour:red")
        await other.reads("colour")
        assert await other.terminal.ended() == 2
    finally:
        await other.terminal.close()


@pytest.mark.long
async def test_wait_answer_without_data_asks_all_or_this_one(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, "talk", subject="This?")
    await asks(stack, "talk", subject="That?")
    wait = await wait_of(stack, receipt)
    await person.begins(wait["id"], "--undo-for", "0s", command=("wait", "answer"))
    await person.reads("1 of 1  This?")
    await person.types("a")
    await person.reads("answer: ")
    await person.types("yes")
    await person.reads("1 accepted")
    assert await person.terminal.ended() == 0
    other = Person(stack, person.folder)
    try:
        await other.begins(command=("wait", "answer"))
        await other.reads("1 of 1  That?")
        await other.types("q")
        assert await other.terminal.ended() == 0
    finally:
        await other.terminal.close()


async def test_a_program_s_answer_is_held_if_it_says_so_and_ctrl_c_takes_it_back(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "talk", subject="This?")
    wait = await wait_of(stack, receipt)
    words = ("wait", "answer", wait["id"], "--data", '"mine"')
    await person.begins("--undo-for", "60s", command=words)
    await person.reads("sends in 60 s; Ctrl-C takes it back")
    person.terminal.process.send_signal(signal.SIGINT)
    assert await person.terminal.ended() == 130
    assert (await wait_of(stack, receipt))["status"] == "pending"
    other = Person(stack, person.folder)
    try:
        await other.begins("--undo-for", "0.1s", command=words)
        assert await other.terminal.ended() == 0
    finally:
        await other.terminal.close()
    assert await output(stack, receipt) == "mine"


async def test_a_form_with_nothing_to_enter_is_not_answered_by_an_empty_line(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "agree", subject="Agreed?")
    await person.begins("--undo-for", "0s")
    await person.reads("a answer")
    await person.types("")
    await person.reads("a answers; ? shows all keys")
    await person.types("a")
    await person.reads("accepted")
    assert await output(stack, receipt) == "yes"


def test_without_a_terminal_nobody_is_asked(
    helmr: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELMR_API_KEY", "k")
    for words in (["next"], ["wait", "answer"]):
        said = helmr(*words, "--url", "http://127.0.0.1:9")
        assert said.code == 2
        assert "there is no terminal" in said.err
        assert "helmr wait answer WAIT --data JSON" in said.err


def test_a_hold_that_is_no_time_or_too_long_is_refused(helmr: Callable[..., Said]) -> None:
    for text, why in (("soon", "soon"), ("2m", "more than 60s")):
        said = helmr("next", "--undo-for", text, "--url", "http://127.0.0.1:9")
        assert said.code == 2
        assert why in said.err


async def is_at(stack: Stack, receipt: dict[str, Any], claimer: str | None) -> None:
    """Return when this person is at the session's wait."""

    async def holds() -> bool:
        claim = (await wait_of(stack, receipt))["claim"]
        return bool((claim and claim["on_behalf_of"]) == claimer)

    await until(holds)


async def claim(stack: Stack, receipt: dict[str, Any], person: str) -> None:
    path = f"/v1/waits/{(await wait_of(stack, receipt))['id']}/claim"
    response = await stack.http.post(path, headers={"On-Behalf-Of": person})
    assert response.status_code == 200, response.text


@pytest.mark.long  # tests/review/test_claims.py
async def test_a_wait_is_claimed_and_released_by_a_key(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, "publish", subject="Publish?")
    await person.begins()
    await person.reads("] ")
    await person.types("c")
    await person.reads("claimed by ana, 1")
    await is_at(stack, receipt, "ana")
    await person.types("c")
    await person.reads("released")
    await is_at(stack, receipt, None)


@pytest.mark.long  # tests/review/test_claims.py
async def test_anothers_claim_refuses_an_answer_and_the_second_key_takes_it_over(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "publish", subject="Publish?")
    await person.begins("--undo-for", "0s")
    await person.reads("] ")
    await claim(stack, receipt, "mia")
    await person.types("a")
    await person.reads("note")
    await person.types("")
    await person.reads("not accepted: Publish?")
    await person.reads("hint: c at the question takes the wait over")
    await person.reads("claimed by mia, 1")
    await person.reads("] ")
    await person.types("c")
    await person.reads("c once more takes it over")
    assert (await wait_of(stack, receipt))["claim"]["on_behalf_of"] == "mia"
    await person.types("c")
    await person.reads("claimed by ana, 1")
    await person.types("k")
    await person.reads("accepted: Publish?")
    assert await output(stack, receipt) == "approve None"


@pytest.mark.long
async def test_override_claim_answers_where_the_claim_was_seen_and_nowhere_else(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "publish", subject="Publish?")
    await person.begins("--undo-for", "0s", "--override-claim")
    await person.reads("] ")
    await claim(stack, receipt, "mia")
    await person.types("a")
    await person.reads("note")
    await person.types("")
    await person.reads("not accepted: Publish?")
    await person.reads("claimed by mia, 1")
    await person.reads("] ")
    await person.types("k")
    await person.reads("accepted: Publish?")
    assert await output(stack, receipt) == "approve None"


@pytest.mark.long
async def test_a_wait_is_given_to_somebody_and_not_asked_again(
    stack: Stack, person: Person
) -> None:
    receipt = await asks(stack, "publish", subject="Publish?")
    await person.begins()
    await person.reads("] ")
    await person.types("d")
    await person.reads("goes back): ")
    await person.types("")
    await person.reads("] ")
    assert (await wait_of(stack, receipt))["assignee"] is None
    await person.types("d")
    await person.reads("goes back): ")
    await person.types("tom")
    await person.reads("assigned to tom")
    await person.reads("0 accepted")
    assert await person.terminal.ended() == 0
    assert (await wait_of(stack, receipt))["assignee"] == "tom"


@pytest.mark.long  # tests/review/test_snoozes.py
async def test_what_is_put_off_is_asked_when_it_is_asked_for(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, "publish", subject="Publish?")
    await person.begins()
    await person.reads("] ")
    await person.types("z")
    await person.reads("[1h]: ")
    await person.types("soon")
    await person.reads("'soon' is not a duration")
    await person.types("z")
    await person.reads("[1h]: ")
    await person.types("20m")
    await person.reads("snoozed, back in 20m")
    await person.reads("0 accepted")
    assert await person.terminal.ended() == 0
    assert (await wait_of(stack, receipt))["status"] == "pending"
    for options, said in (((), "nothing waits"), (("--filter", "is:snoozed"), "1 of 1  Publish?")):
        other = Person(stack, person.folder)
        try:
            await other.begins(*options)
            await other.reads(said)
        finally:
            await other.terminal.close()
