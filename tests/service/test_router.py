"""Where a command goes, how often, and what its caller is told (S-61, S-64)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from helmr.errors import Moved, OutcomeUnknown, Overloaded, SessionTerminal, Standby, Unavailable
from helmr_runtime.core.commands import AddNote, AnswerWait, OperationKey, SessionCommand
from helmr_runtime.core.entries import Principal
from helmr_runtime.ports import Directory, Host, Routed
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound, ActorOverloaded, ActorUnavailable
from helmr_runtime.service import router as router_module
from helmr_runtime.service.router import Router
from tests.service.stack import until

COMMAND = AddNote(
    principal=Principal("api_key"),
    operation=OperationKey(id="op_1", request_hash="h"),
    note_id="note_1",
    text="x",
)
RECEIPT = {"seq": 1}
DRY_RUN = AnswerWait(principal=Principal("api_key"), wait_id="wait_1", record_id="rec_1", data=True)


def died() -> ActorDied:
    return ActorDied(actor="helmr-host-1", method="command", cause="signal 9")


class World:
    """A directory and hosts whose next answers a test writes down.

    `script` holds, per call, an error to raise, a receipt, or None for no answer at all.
    """

    def __init__(self, *script: Exception | Mapping[str, Any] | None) -> None:
        self.script = list(script)
        self.calls: list[tuple[str, SessionCommand]] = []
        self.holder: str | None = "helmr-host-1"
        self.standby: Standby | None = None

    async def at_work(self) -> None:
        if self.standby is not None:
            raise self.standby

    async def _answer(self, who: str, command: SessionCommand) -> Mapping[str, Any]:
        self.calls.append((who, command))
        answer = self.script.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    async def route(self, session_id: str, command: SessionCommand) -> Routed:
        reply = await self._answer("directory", command)
        return Routed(reply=reply, host=self.holder)

    def host(self, name: str) -> Any:
        world = self

        class OneHost:
            async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
                return await world._answer(name, command)

            dry_run = command

        return OneHost()

    async def any_host(self) -> str:
        return "helmr-host-1"

    def router(self, *, commit_timeout_s: float = 5.0) -> Router:
        directory: Directory = self  # type: ignore[assignment]  # routes, and nothing else is asked
        host: Callable[[str], Host] = self.host
        return Router(directory, host, at_work=self.at_work, commit_timeout_s=commit_timeout_s)

    @property
    def asked(self) -> list[str]:
        return [who for who, _ in self.calls]


async def test_a_known_actor_is_asked_at_once() -> None:
    world = World(RECEIPT, RECEIPT)
    router = world.router()
    await router.command("ses_1", COMMAND)
    assert await router.command("ses_1", COMMAND) == RECEIPT
    assert world.asked == ["directory", "helmr-host-1"]


@pytest.mark.parametrize(
    "error",
    [
        Moved("elsewhere"),
        died(),
        ActorNotFound(actor="helmr-host-1", method="command"),
        ActorUnavailable(actor="helmr-host-1", method="command", detail="lost"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_actor_that_is_gone_sends_the_same_command_to_the_directory(
    error: Exception,
) -> None:
    world = World(RECEIPT, error, RECEIPT)
    router = world.router()
    await router.command("ses_1", COMMAND)
    assert await router.command("ses_1", COMMAND) == RECEIPT
    assert world.asked == ["directory", "helmr-host-1", "directory"]
    assert {command for _, command in world.calls} == {COMMAND}


async def test_a_standby_refuses_at_once_and_asks_no_directory() -> None:
    world = World(ActorNotFound(actor="helmr-directory", method="route"), RECEIPT)
    router = world.router()
    world.standby = Standby("another runtime is at work")
    for ask in (router.command("ses_1", COMMAND), router.dry_run("ses_1", DRY_RUN)):
        with pytest.raises(Standby):
            await ask
    assert not world.asked
    world.standby = None
    assert await router.command("ses_1", COMMAND) == RECEIPT


async def test_a_dry_run_whose_host_ends_goes_to_another_and_to_no_third() -> None:
    gone = ActorNotFound(actor="helmr-host-1", method="dry_run")
    world = World(died(), gone, gone, RECEIPT, died(), died())
    assert await world.router().dry_run("ses_1", DRY_RUN) == RECEIPT
    with pytest.raises(Unavailable, match="dry-run") as raised:
        await world.router().dry_run("ses_1", DRY_RUN)
    assert raised.value.retry_after_s
    assert "in a few seconds" in (raised.value.hint or "")
    assert not world.script


async def test_a_call_on_its_way_is_refused_when_its_runtime_stands_by() -> None:
    world = World(ActorNotFound(actor="helmr-directory", method="route"))
    answer = world._answer

    async def answers(who: str, command: SessionCommand) -> Mapping[str, Any]:
        world.standby = Standby("another runtime is at work")
        return await answer(who, command)

    world._answer = answers  # type: ignore[method-assign]
    with pytest.raises(Standby):
        await world.router().command("ses_1", COMMAND)


async def test_what_the_session_answers_is_not_tried_again() -> None:
    world = World(SessionTerminal("closed"))
    with pytest.raises(SessionTerminal):
        await world.router().command("ses_1", COMMAND)
    assert world.asked == ["directory"]


async def test_an_absent_directory_is_asked_until_it_answers() -> None:
    world = World(died(), died(), died(), RECEIPT)
    assert await world.router().command("ses_1", COMMAND) == RECEIPT
    assert world.asked == ["directory"] * 4


async def test_silence_leaves_the_outcome_unknown() -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        await World(None).router(commit_timeout_s=0.05).command("ses_1", COMMAND)
    assert caught.value.retryable


async def test_a_crash_without_a_second_answer_leaves_the_outcome_unknown() -> None:
    world = World(died(), *[Moved("elsewhere")] * 100)
    with pytest.raises(OutcomeUnknown):
        await world.router(commit_timeout_s=0.1).command("ses_1", COMMAND)


async def test_a_command_that_nobody_took_has_not_run() -> None:
    world = World(*[Moved("elsewhere")] * 100)
    with pytest.raises(Unavailable) as caught:
        await world.router(commit_timeout_s=0.1).command("ses_1", COMMAND)
    assert caught.value.code == "unavailable"


async def test_too_many_commands_are_refused_untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "IN_FLIGHT_MAX", 2)
    world = World(None, None)
    router = world.router(commit_timeout_s=0.2)
    waiting = [asyncio.create_task(router.command("ses_1", COMMAND)) for _ in range(2)]
    await until(lambda: router.in_flight == 2)
    with pytest.raises(Overloaded) as caught:
        await router.command("ses_1", COMMAND)
    assert caught.value.retry_after_s == 1
    assert len(world.calls) == 2
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknown] * 2
    assert router.in_flight == 0


async def test_an_overloaded_actor_refuses_unless_an_earlier_try_may_have_run() -> None:
    world = World(ActorOverloaded("full", actor="helmr-host-1"))
    with pytest.raises(Overloaded):
        await world.router().command("ses_1", COMMAND)
    world = World(died(), ActorOverloaded("full", actor="helmr-host-1"), RECEIPT)
    assert await world.router().command("ses_1", COMMAND) == RECEIPT


async def test_a_write_is_made_again_while_the_ledger_is_away() -> None:
    answers: list[Exception | str] = [died(), died(), "started"]

    def make() -> Awaitable[str]:
        async def answer() -> str:
            result = answers.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        return answer()

    assert await World().router().write(make, what="a start") == "started"


async def test_where_nobody_kept_the_session_nothing_is_remembered() -> None:
    world = World(RECEIPT, RECEIPT)
    world.holder = None
    router = world.router()
    await router.command("ses_1", COMMAND)
    await router.command("ses_1", COMMAND)
    assert world.asked == ["directory", "directory"]


def test_who_waits_alone_tries_again_soon_and_a_crowd_no_more_often_together() -> None:
    router = World().router()
    assert [router._pause_s(failed) for failed in (1, 2, 3, 9)] == [
        0.0,
        *[router_module.PAUSE_S] * 3,
    ]
    for _ in range(router_module.IN_FLIGHT_MAX):
        router._pause_s(1)
    assert router._pause_s(2) == router_module.PAUSE_MAX_S


async def test_who_was_answered_or_gave_up_counts_no_more_among_those_who_try_again() -> None:
    world = World(died(), died(), RECEIPT, *[Moved("elsewhere")] * 100)
    router = world.router(commit_timeout_s=0.2)
    await router.command("ses_1", COMMAND)
    with pytest.raises(Unavailable):
        await router.command("ses_1", COMMAND)
    assert router._trying_again == 0
