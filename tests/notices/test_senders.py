"""Each kind of target, over real sockets and processes: what arrives, what is refused, what is not told (S-84)."""

from __future__ import annotations

import asyncio
import email
import email.header
import email.policy
import ipaddress
import json
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpcore
import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from helmr.errors import HelmrError
from helmr_runtime.clock import SystemClock
from helmr_runtime.notices import senders
from helmr_runtime.notices.connecting import is_public
from helmr_runtime.notices.content import Notice, NotTaken, Sender
from helmr_runtime.notices.senders import sender_of
from helmr_runtime.notices.targets import read_targets
from tests.notices.receivers import Endpoint, Mailbox, certificate, endpoint, mailbox

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def hook() -> Iterator[Endpoint]:
    with endpoint() as one:
        yield one


@pytest.fixture
def mail() -> Iterator[Mailbox]:
    with mailbox() as one:
        yield one


def sender(environ: Any = None, **parts: Any) -> Sender:
    (target,) = read_targets({"one": parts}, "helmr.toml")
    return sender_of(target, environ or {}, SystemClock().now)


def webhook(url: str, **parts: Any) -> Sender:
    given: dict[str, Any] = {"private_addresses": True, **parts}
    return sender({"KEY": KEY}, type="webhook", url=url, secret_env="KEY", **given)


def notice(**data: Any) -> Notice:
    told = {"session_id": "ses_a", "task": "review", "subject": "Publish «News»?", **data}
    return Notice(id="ses_a-3", event="wait.opened", at=AT, source="http://helmr.test", data=told)


async def refusal(one: Sender) -> str:
    with pytest.raises(NotTaken) as raised:
        await one.send(notice())
    return raised.value.message


async def test_a_webhook_is_a_cloud_event_that_the_official_library_verifies(
    hook: Endpoint,
) -> None:
    await webhook(hook.url).send(notice())
    ((headers, body),) = hook.posts
    event = Verifier(KEY).verify(body, headers)
    assert event["specversion"] == "1.0"
    assert (event["type"], event["id"], event["late"]) == ("helmr.wait.opened", "ses_a-3", False)
    assert event["source"] == "http://helmr.test"
    assert event["data"]["subject"] == "Publish «News»?"
    assert headers["content-type"].startswith("application/cloudevents+json")
    with pytest.raises(WebhookVerificationError):
        Verifier(KEY).verify(body + b" ", headers)


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_redirect_is_not_followed(hook: Endpoint, status: int) -> None:
    with endpoint() as elsewhere:
        hook.statuses, hook.location = [status], elsewhere.url
        assert await refusal(webhook(hook.url)) == (
            f"it answered {status}: redirects are not followed"
        )
        assert elsewhere.posts == []


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_what_is_no_success_is_not_taken(hook: Endpoint, status: int) -> None:
    hook.statuses = [status]
    assert await refusal(webhook(hook.url)) == f"it answered {status}"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:10.0.0.1]"]
)
async def test_a_private_address_is_refused_unless_the_target_allows_it(
    hook: Endpoint, host: str
) -> None:
    one = webhook(f"http://{host}:{hook.port}/in", private_addresses=False)
    assert "private address" in await refusal(one)
    assert hook.posts == []


async def test_a_name_that_changes_between_check_and_use_gains_nothing(
    hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is resolved once: first it says a public address, which is what is connected to; then a private one."""
    asked: list[str] = []
    connected: list[str] = []
    loop = asyncio.get_running_loop()

    async def lying(host: Any, port: Any, **_: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) > 1 else "93.184.215.14"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async def watched(self: Any, host: str, port: int, **_: Any) -> Any:
        connected.append(host)
        raise httpcore.ConnectError("no network in tests")

    monkeypatch.setattr(loop, "getaddrinfo", lying, raising=False)
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", watched)
    one = webhook(f"http://rebind.example:{hook.port}/in", private_addresses=False)
    assert await refusal(one) == "it can't be connected to"
    assert (asked, connected) == (["rebind.example"], ["93.184.215.14"])
    assert "private address" in await refusal(one), "now its name leads to one"
    assert len(connected) == 1
    assert hook.posts == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b:1::a00:1", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("fec0::1", False),
        ("192.0.0.192", False),
        ("192.0.0.9", False),
        ("192.0.1.1", True),
        ("192.88.99.1", False),
        ("198.19.255.255", False),
        ("198.20.0.0", True),
        ("169.254.169.254", False),
        ("172.15.255.255", True),
        ("172.31.255.255", False),
        ("240.0.0.1", False),
        ("223.255.255.255", True),
        ("3fff::1", False),
        ("3fff:fff:ffff::1", False),
        ("3ffe:ffff::1", True),
        ("2001::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:2::1", False),
        ("2001:1ff:ffff::1", False),
        ("2001:200::1", True),
        ("2001:db8::1", False),
        ("2002:5db8:d70e::1", False),
        ("2620:4f:8000::1", False),
        ("5f00::1", False),
        ("ff0e::1", False),
        ("::ffff:192.0.0.192", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::c000:c0", False),
    ],
)
def test_what_a_public_address_is(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


async def test_what_is_down_is_not_taken() -> None:
    with endpoint(is_up=False) as down:
        assert await refusal(webhook(down.url)) == "it can't be connected to"
    assert await refusal(webhook("http://nowhere.invalid/")) == "its name can't be resolved"


async def test_slack_gets_a_text_in_which_nothing_is_a_mention(hook: Endpoint) -> None:
    slack = sender({"URL": hook.url}, type="slack", url_env="URL", private_addresses=True)
    await slack.send(notice(subject="<!channel> & more", link="http://helmr.test/l"))
    (body,) = hook.bodies
    assert body["text"].startswith(
        "Waits: &lt;!channel&gt; &amp; more\nAnswer: http://helmr.test/l\n\n"
    )
    assert "Task: review" in body["text"]


async def test_slacks_url_is_in_no_error(hook: Endpoint) -> None:
    hook.statuses = [404]
    url = f"http://127.0.0.1:{hook.port}/services/T0/hidden"
    slack = sender({"URL": url}, type="slack", url_env="URL", private_addresses=True)
    assert await refusal(slack) == "it answered 404"
    with pytest.raises(HelmrError) as raised:
        await sender({"URL": "hidden"}, type="slack", url_env="URL").send(notice())
    assert "hidden" not in str(raised.value)


async def test_a_template_says_it_in_other_words(hook: Endpoint) -> None:
    slack = sender(
        {"URL": hook.url},
        type="slack",
        url_env="URL",
        private_addresses=True,
        title="$event $subject",
        text="[$assignee] $$5",
    )
    await slack.send(notice())
    assert hook.bodies[0]["text"] == "wait.opened Publish «News»?\n[] $5"


async def test_a_mail_has_title_text_and_an_id(mail: Mailbox) -> None:
    one = mail_in_the_clear(mail, to=["ada@example.com", "mia@example.com"])
    await one.send(notice(subject="Ja?\r\nBcc: eve@example.com", body="Größe: 5"))
    (message,) = mail.messages
    assert message["Subject"] == "Waits: Ja? Bcc: eve@example.com"
    assert message["Bcc"] is None
    assert message["To"] == "ada@example.com, mia@example.com"
    assert message["Message-ID"] == "<ses_a-3@helmr.invalid>"
    plain, html = (part_of(message, kind) for kind in ("plain", "html"))
    assert "Größe: 5" in plain
    assert "Größe: 5" in html


def part_of(message: EmailMessage, kind: str) -> str:
    """What a reader of that kind shows."""
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")  # as lines end on the wire


def mail_in_the_clear(mail: Mailbox, **parts: Any) -> Sender:
    return sender(
        type="email",
        host="127.0.0.1",
        port=mail.port,
        security="none",
        private_addresses=True,
        **{"from": "helmr@example.com", "to": "ada@example.com", **parts},
    )


ENCODED = (
    "=?utf-8?q?evil=0d=0aBcc:_x?=",
    "=?utf-8?q?evil=0d=0a=0d=0aA_body_of_my_own?=",
    "=?utf-8?b?ZXZpbA0KQmNjOiB4?=",
    "=?iso-8859-1*en?Q?evil=0ABcc:_x?=",
    "a =?us-ascii?q?=0d?= =?us-ascii?q?=0aBcc:_x?=",
    "=?=?utf-8?q?x?=?utf-8?q?evil=0d=0aBcc:_x?=",
    "=\x00?utf-8?q?evil=0d=0aBcc:_x?=",
    "=\u202e?utf-8?q?evil=0d=0aBcc:_x?=",
    "Grüße =?utf-8?q?evil=0d=0aBcc:_x?= " + "ü" * 150,
)
HEADERS = {
    *("subject", "from", "to", "date", "message-id", "auto-submitted"),
    *("content-type", "content-transfer-encoding", "mime-version"),
}


@pytest.mark.parametrize("template", [None, "$subject", "$event $subject\r\nBcc: x@example.com"])
async def test_no_subject_puts_a_header_or_a_body_into_a_mail(
    mail: Mailbox, template: str | None
) -> None:
    one = mail_in_the_clear(mail, **({"title": template} if template else {}))
    for subject in ENCODED:
        await one.send(notice(subject=subject, body="The body."))
    assert len(mail.raw) == len(ENCODED)
    for raw in mail.raw:
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        names = [line.partition(":")[0].lower() for line in lines if line[:1] not in (" ", "\t")]
        assert set(names) <= {*HEADERS, "x-peer", "x-mailfrom", "x-rcptto"}
        assert len(set(names)) == len(names)
        assert b"\n" not in head.replace(b"\r\n", b"")
        assert b"A body of my own" not in body
        seen = str(email.header.make_header(email.header.decode_header(titled(raw))))
        assert "\r" not in seen
        assert "Bcc" not in seen or "?utf-8?" in seen or "?" in seen
    for message in mail.messages:
        kinds = [part.get_content_type() for part in message.walk()]
        assert kinds == ["multipart/alternative", "text/plain", "text/html"]
        for part in message.iter_parts():
            assert set(map(str.lower, part.keys())) <= HEADERS
        assert "\n\nThe body.\n\n" in part_of(message, "plain")
        assert message["Bcc"] is None


def titled(raw: bytes) -> str:
    """The subject as it stands in a mail, unfolded and encoded."""
    found = email.message_from_bytes(raw, policy=email.policy.compat32)["Subject"]
    return str(found).replace("\r\n", "").replace("\n", "")


@pytest.mark.parametrize("place", ["subject", "body", "assignee", "tags"])
async def test_control_characters_reach_neither_mail_nor_slack(
    mail: Mailbox, hook: Endpoint, place: str
) -> None:
    controls = "".join(chr(one) for one in (*range(0x20), *range(0x7F, 0xA0)))
    text = f"a{controls}\u202eb\u2066c\ud800\td\ne"
    told = notice(**{place: [text] if place == "tags" else text})
    slack = sender({"URL": hook.url}, type="slack", url_env="URL", private_addresses=True)
    for one in (mail_in_the_clear(mail), slack):
        await one.send(told)
    (message,) = mail.messages
    content = part_of(message, "plain")
    said = message["Subject"] + content + part_of(message, "html") + hook.bodies[0]["text"]
    assert not {char for char in said if char not in "\t\n" and not char.isprintable()}
    if place == "body":
        assert "\td\ne" in content
    else:
        assert "d e" in said
        assert "\ne" not in content, "a row of a notice is one line"


async def test_a_mail_server_that_can_not_encrypt_gets_nothing_that_was_to_be(
    mail: Mailbox,
) -> None:
    one = sender(
        {"PASSWORD": "not told"},
        type="email",
        host="127.0.0.1",
        port=mail.port,
        user="ada",
        password_env="PASSWORD",
        to=["ada@example.com"],
        private_addresses=True,
        **{"from": "helmr@example.com"},
    )
    assert "not told" not in await refusal(one)
    assert mail.messages == []


LOGIN = ("ada", "pass word")


def mail_to(port: int, security: str, password: str = LOGIN[1]) -> Sender:
    return sender(
        {"PASSWORD": password},
        type="email",
        host="127.0.0.1",
        port=port,
        security=security,
        user=LOGIN[0],
        password_env="PASSWORD",
        to=["mia@example.com"],
        private_addresses=True,
        **{"from": "helmr@example.com"},
    )


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_mail_goes_encrypted_to_a_server_whose_certificate_is_trusted(
    security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with mailbox(tls=tls, starttls=security == "starttls", login=LOGIN) as box:
        assert await refusal(mail_to(box.port, security, "another")) == (
            "it refused user and password"
        )
        await mail_to(box.port, security).send(notice(subject="Größe?"))
        (message,) = box.messages
        assert message["Subject"] == "Waits: Größe?"
        assert box.were_encrypted == [True]


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("wrong", ["unknown", "of another name"])
async def test_a_mail_server_with_a_certificate_that_is_not_its_own_gets_nothing(
    security: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = certificate(tmp_path, "127.0.0.1" if wrong == "unknown" else "127.0.0.2")
    if wrong == "of another name":
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with mailbox(tls=tls, starttls=security == "starttls", login=LOGIN) as box:
        assert "the connection failed: " in await refusal(mail_to(box.port, security))
        assert box.messages == []


def command(*words: str, environ: dict[str, str] | None = None, **parts: Any) -> Sender:
    parts.setdefault("folder", "/")
    return sender(environ, type="command", command=list(words), **parts)


WRITE = (
    "import json, os, sys; "
    "json.dump([json.load(sys.stdin), dict(os.environ)], open(sys.argv[1], 'w'))"
)


async def test_a_command_gets_json_and_little_of_the_environment(tmp_path: Path) -> None:
    said = tmp_path / "said.json"
    environ = {"PATH": "/bin", "HELMR_MASTER_KEY": "hidden", "DISPLAY": ":0", "OTHER": "x"}
    one = command(sys.executable, "-c", WRITE, str(said), environ=environ, env=["DISPLAY"])
    await one.send(notice(subject="$(touch x); `id`"))
    event, seen = json.loads(said.read_text())
    assert event["data"]["subject"] == "$(touch x); `id`"
    assert {name for name in seen if name in environ} == {"PATH", "DISPLAY"}


async def test_a_command_runs_in_its_folder(tmp_path: Path) -> None:
    """Not in one of the process that happens to send: what it writes there would go with that process."""
    one = command(sys.executable, "-c", "open('here', 'w').close()", folder=str(tmp_path))
    await one.send(notice())
    assert (tmp_path / "here").exists()
    missing = await refusal(command("true", folder=str(tmp_path / "no")))
    assert missing == f"it can't be started: there is no folder {tmp_path / 'no'} here"


async def test_a_command_that_fails_has_not_taken_it() -> None:
    assert await refusal(command("false")) == "it ended with 1"
    missing = await refusal(command("/no/such/program"))
    assert missing == "it can't be started: No such file or directory"


async def test_a_command_that_does_not_end_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "COMMAND_S", 1.0)
    pid = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid}; wait"
    assert "did not end" in await refusal(command("sh", "-c", script))
    child = int(await asyncio.to_thread(pid.read_text))
    for _ in range(500):
        if not await asyncio.to_thread(lives, child):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("what the command had started lives")


def lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
