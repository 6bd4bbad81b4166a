"""Pushes: what a message says at each detail, what a phone shows at last, and a server that is no ntfy (S-140)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helmr.errors import UsageError
from helmr.models import PrincipalInfo, WaitInfo
from helmr.models.system import EventName
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.notices import ASKING, NoticeEvent
from helmr_runtime.notices.content import Notice, NotTaken, Subject, notice
from helmr_runtime.notices.ntfy import KEEPS_NO_SEQUENCES, MESSAGE_BYTES_MAX, message
from helmr_runtime.notices.senders import sender_of
from helmr_runtime.notices.targets import NtfyTarget, read_targets
from tests.notices.receivers import Endpoint, PushServer, endpoint, push_server

AT = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
LINK = "https://helmr.test/v1/links/hlmr_lnk_x"
ADA = PrincipalInfo(type="person", id="ada")


def phone(**parts: Any) -> NtfyTarget:
    given = {"type": "ntfy", "url": "https://ntfy.test", "topic": "t", **parts}
    [target] = read_targets({"phone": given}, "helmr.toml")
    assert isinstance(target, NtfyTarget)
    return target


def told(name: EventName = EventName.WAIT_OPENED, detail: str = "subject", **parts: Any) -> Notice:
    """A notice of a wait."""
    wait = WaitInfo.model_validate(
        {
            "id": "wait_1",
            "session_id": "ses_1",
            "run_id": "run_1",
            "task": "review",
            "kind": "input",
            "status": "pending",
            "opened_at": AT,
            "subject": "Merge?",
            **parts,
        }
    )
    event = NoticeEvent(name=name, session_id="ses_1", at=AT, wait_id="wait_1", seq=3)
    asks = wait.takes_answers and name in ASKING
    return notice(
        event,
        Subject(wait=wait),
        detail=detail,
        source="https://helmr.test",
        link=LINK if asks and detail != "none" else None,
        late=False,
        asks=asks,
    )


def answered(**parts: Any) -> Notice:
    parts = {"status": "fulfilled", "resolved_by": ADA, **parts}
    return told(EventName.WAIT_RESOLVED, **parts)


def test_a_question_is_its_title_and_a_tap_leads_to_its_form() -> None:
    said = message(phone(), "t", told(body="Its lens is cracked.", detail="full"))
    assert said["title"] == "Waits: Merge?"
    assert said["message"].startswith("Its lens is cracked.")
    assert "Merge?" not in said["message"]
    assert LINK not in said["message"], "it is behind the tap"
    assert (said["click"], said["priority"], said["topic"]) == (LINK, 3, "t")


SECRET: dict[str, Any] = {
    "subject": "Refund DE02 1203",
    "body": "The IBAN is DE02 1203.",
    "evidence": {"facts": {"iban": "DE02 1203"}},
    "assignee": "DE02 1203",
    "correlation_id": "DE02 1203",
    "stream": "DE02 1203",
    "tags": ["DE02 1203"],
    "session_tags": ["DE02 1203"],
    "answerers": ["DE02 1203"],
    "resolved_by": PrincipalInfo(type="person", id="DE02 1203"),
    "default_at": AT + timedelta(hours=1),
    "escalation": [{"do": "default", "after_s": 9, "from": "opened", "value": "DE02 1203"}],
}


@pytest.mark.parametrize("name", [one for one in EventName if one.value.startswith("wait.")])
def test_nothing_that_a_session_wrote_is_told_without_detail(name: EventName) -> None:
    status = "pending" if name in ASKING else "fulfilled"
    said = str(message(phone(), "t", told(name, "none", status=status, **SECRET)))
    assert "DE02" not in said
    assert "hlmr_" not in said
    assert "https://helmr.test/inbox/wait_1" in said, "there the reader signs in"
    assert "DE02" in str(message(phone(), "t", told(name, status=status, **SECRET)))


@pytest.mark.parametrize(
    ("given", "title"),
    [
        (answered(), "Answered by ada: Merge?"),
        (answered(mode="default"), "Answered by its escalation's default: Merge?"),
        (answered(detail="none"), "Answered: review"),
        (answered(status="cancelled"), "Cancelled by ada: Merge?"),
        (told(EventName.WAIT_TIMED_OUT, status="timed_out"), "Timed out: Merge?"),
        (replace(answered(), late=True), "Answered by ada (late): Merge?"),
    ],
)
def test_the_end_is_said_quietly_and_without_the_text(given: Notice, title: str) -> None:
    given = replace(given, data={**given.data, "body": "long ago"})
    said = message(phone(), "t", given)
    assert (said["title"], said["priority"]) == (title, 2)
    assert "long ago" not in said["message"]
    assert said["click"] == "https://helmr.test/inbox/wait_1"
    assert said["sequence_id"] == message(phone(), "t", told())["sequence_id"]


def test_whoever_has_it_now_is_said_where_it_was() -> None:
    gone = replace(told(EventName.WAIT_ASSIGNED, assignee="grace"), asks=False)
    assert message(phone(), "t", gone)["title"] == "Assigned to grace: Merge?"
    assert message(phone(), "t", gone)["priority"] == 2
    assert message(phone(), "t", told(EventName.WAIT_ASSIGNED))["priority"] == 3


@pytest.mark.parametrize(
    ("name", "priority", "wanted"),
    [
        (EventName.WAIT_OPENED, "low", 2),
        (EventName.WAIT_OPENED, "high", 4),
        (EventName.WAIT_REMINDED, "normal", 3),
        (EventName.WAIT_DUE_SOON, "low", 4),
    ],
)
def test_the_more_it_matters_the_louder_it_is(name: EventName, priority: str, wanted: int) -> None:
    assert message(phone(), "t", told(name, priority=priority))["priority"] == wanted


def test_a_long_text_stays_a_message() -> None:
    """A server makes an attachment of more than 4,096 bytes, and cuts none."""
    said = message(phone(), "t", told(body="é" * 60_000, detail="full"))
    assert MESSAGE_BYTES_MAX < len(said["message"].encode()) < 4_096
    assert len(message(phone(), "t", told(subject="x" * 200))["title"]) < 250


def test_texts_of_a_session_are_text() -> None:
    said = message(phone(), "t", told(subject="a\nb\x1b[31m\u202e", body="\x1b", detail="full"))
    assert said["title"] == "Waits: a b[31m"
    assert not {"\x1b", "\u202e"} & set("".join(map(str, said.values())))


def test_a_template_says_it_in_other_words() -> None:
    target = phone(title="$task", text="$subject: $link")
    said = message(target, "t", told())
    assert (said["title"], said["message"]) == ("review", f"Merge?: {LINK}")


def test_runs_that_fail_are_loud_and_each_for_itself() -> None:
    failed = Notice(
        id="ses_1-4", event="run.failed", at=AT, source="helmr", data={"run_id": "run_1"}
    )
    said = message(phone(), "t", failed)
    assert (said["priority"], "click" in said) == (4, False)
    again = message(phone(), "t", replace(failed, id="ses_1-9"))
    assert said["sequence_id"] != again["sequence_id"]


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[PushServer]:
    with push_server(token="tk_fit") as one:
        yield one


async def sent(to: Endpoint, *notices: Notice, token: str = "tk_fit", **parts: Any) -> str | None:
    """Send these; returns the last remark."""
    places = {"url": to.url.removesuffix("/in"), "token_env": "T", "private_addresses": True}
    sender = sender_of(phone(**places, **parts), {"T": token, "TOPIC": "a/b"}, SystemClock().now)
    return [await sender.send(one) for one in notices][-1]


async def test_the_answer_stands_where_the_question_stood(server: PushServer) -> None:
    other = replace(told(), data={**told().data, "wait_id": "wait_2"})
    remark = await sent(server, told(), other, told(EventName.WAIT_REMINDED), answered())
    assert remark is None
    assert [one["title"] for one in server.shown] == ["Waits: Merge?", "Answered by ada: Merge?"]
    assert len(server.posts) == 4


async def test_what_is_posted_twice_is_shown_once(server: PushServer) -> None:
    await sent(server, told(), told())
    assert (len(server.posts), len(server.shown)) == (2, 1)


async def test_an_older_server_shows_the_answer_beside_the_question_and_a_test_says_so() -> None:
    with push_server(keeps_sequences=False) as old:
        assert await sent(old, told(), answered()) == KEEPS_NO_SEQUENCES
        titles = [one["title"] for one in old.shown]
    assert titles == ["Waits: Merge?", "Answered by ada: Merge?"]


async def test_a_token_that_does_not_fit_is_not_told(server: PushServer) -> None:
    with pytest.raises(NotTaken) as raised:
        await sent(server, told(), token="tk_wrong")
    assert raised.value.message == "it answered 403"


async def test_a_page_that_takes_any_post_is_no_ntfy_server() -> None:
    with endpoint() as page, pytest.raises(NotTaken, match="as an ntfy server does"):
        await sent(page, told())


async def test_a_private_address_is_refused_unless_the_target_allows_it(
    server: PushServer,
) -> None:
    sender = sender_of(phone(url=server.url), {}, SystemClock().now)
    with pytest.raises(NotTaken, match="private address"):
        await sender.send(told())
    assert server.posts == []


async def test_a_topic_that_changed_into_none_is_refused_without_being_shown(
    server: PushServer,
) -> None:
    with pytest.raises(UsageError) as raised:
        await sent(server, told(), topic=None, topic_env="TOPIC")
    assert "a/b" not in str(raised.value)
