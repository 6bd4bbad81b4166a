"""Senders: one for each kind of target. A sender takes one notice at a time and says if the target did not take it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from helmr_runtime.notices.connecting import SEND_S, Poster, connect
from helmr_runtime.notices.content import Notice, NotTaken, Sender
from helmr_runtime.notices.ntfy import Ntfy
from helmr_runtime.notices.secrets import Secrets
from helmr_runtime.notices.targets import (
    CommandTarget,
    EmailTarget,
    NtfyTarget,
    SlackTarget,
    Target,
    WebhookTarget,
)

COMMAND_S = 60.0
"""Longest that a command may run; then it is killed, with all that it has started."""

CLOSING_TURNS = 100
"""Turns of the loop in which a transport sees that its socket was shut down: the next one, and some to spare."""

COMMAND_ENV = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")
"""What a command gets of the environment beside what its target names: secrets of the runtime may stand there too."""


def signature(key: bytes, notice_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of Standard Webhooks."""
    signed = b".".join((notice_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


class Webhook:
    """Posts CloudEvents, signed."""

    def __init__(
        self,
        target: WebhookTarget,
        secrets: Secrets,
        now: Callable[[], datetime],
    ) -> None:
        self._target = target
        self._secrets = secrets
        self._now = now
        self._poster = Poster(private=target.private_addresses)

    async def send(self, notice: Notice) -> None:
        """Post the notice as a signed CloudEvent."""
        url = await asyncio.to_thread(self._secrets.url, self._target)
        key = await asyncio.to_thread(self._secrets.signing_key, self._target)
        body, timestamp = notice.cloud_event().encode(), int(self._now().timestamp())
        headers = {
            "content-type": "application/cloudevents+json; charset=utf-8",
            "user-agent": "helmr-notices",
            "webhook-id": notice.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(key, notice.id, timestamp, body),
        }
        await self._poster.post(url, body, headers)


class Slack:
    """Posts to an incoming webhook."""

    def __init__(self, target: SlackTarget, secrets: Secrets) -> None:
        self._target = target
        self._secrets = secrets
        self._poster = Poster(private=target.private_addresses)

    async def send(self, notice: Notice) -> None:
        """Post the notice to a Slack webhook."""
        url = await asyncio.to_thread(self._secrets.url, self._target)
        title = notice.title(self._target.title)
        text = notice.text(self._target.text, below_title=True)
        message = {"text": _slack_text(f"{title}\n{text}"), "unfurl_links": False}
        headers = {"content-type": "application/json; charset=utf-8"}
        await self._poster.post(url, json.dumps(message, ensure_ascii=False).encode(), headers)


def unencoded(title: str) -> str:
    """A title in which nothing is an encoded word (RFC 2047).

    The standard library decodes those of a header that is set, and so do readers: one may hold line breaks, and what
    follows them would be headers and a body of the session's own.
    """
    return title.replace("=?", "= ?")


class Email:
    """Sends a message for each notice."""

    def __init__(self, target: EmailTarget, secrets: Secrets) -> None:
        self._target = target
        self._secrets = secrets

    async def send(self, notice: Notice) -> None:
        """Send the notice by SMTP."""
        target = self._target
        password = None
        if target.user is not None:
            password = await asyncio.to_thread(self._secrets.read, target, "password")
        sock = await connect(target.host, target.port, private=target.private_addresses)
        client = aiosmtplib.SMTP(
            hostname=target.host,
            sock=sock,
            port=None,
            use_tls=target.security == "tls",
            start_tls=target.security == "starttls",
            username=target.user,
            password=password,
            timeout=SEND_S,
        )
        try:
            async with asyncio.timeout(SEND_S), client:
                await client.send_message(self._message(notice))
        except TimeoutError as error:
            raise NotTaken("it did not answer in time") from error
        except aiosmtplib.SMTPAuthenticationError as error:
            raise NotTaken("it refused user and password") from error
        except aiosmtplib.SMTPResponseException as error:
            raise NotTaken(f"it answered {error.code}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotTaken(f"the connection failed: {type(error).__name__}") from error
        finally:
            client.close()
            await _close(sock)

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = unencoded(notice.title(self._target.title))
        message["From"] = self._target.sender
        message["To"] = ", ".join(self._target.to)
        message["Date"] = format_datetime(notice.at)
        message["Message-ID"] = f"<{notice.id}@helmr.invalid>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(notice.text(self._target.text))
        if self._target.text is None:
            message.add_alternative(notice.html(), subtype="html")
        return message


async def _close(sock: socket.socket) -> None:
    """Close a socket that a transport of the loop may still have.

    The transport has to let go of it first: a number that is free while the loop watches it is the next connection's.
    """
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    for _ in range(CLOSING_TURNS):
        if sock.fileno() == -1:
            return
        await asyncio.sleep(0)
    sock.close()


class Command:
    """Runs a program for each notice; taken if it ends with 0."""

    def __init__(self, target: CommandTarget, environ: Mapping[str, str]) -> None:
        self._target = target
        names = {*COMMAND_ENV, *target.env}
        self._environ = {name: value for name, value in environ.items() if name in names}

    async def send(self, notice: Notice) -> None:
        """Run the target's command with the notice on its standard input."""
        folder = self._target.folder
        try:
            process = await asyncio.create_subprocess_exec(
                *self._target.command,
                cwd=folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its name can't be used"
            if not await asyncio.to_thread(folder.is_dir):
                reason = f"there is no folder {folder} here"
            raise NotTaken(f"it can't be started: {reason}") from error
        try:
            async with asyncio.timeout(COMMAND_S):
                await process.communicate(notice.cloud_event().encode() + b"\n")
        except TimeoutError as error:
            raise NotTaken(f"it did not end in {COMMAND_S:.0f} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise NotTaken(f"it ended with {process.returncode}")


def sender_of(target: Target, environ: Mapping[str, str], now: Callable[[], datetime]) -> Sender:
    """The sender for a target."""
    secrets = Secrets(environ)
    match target:
        case WebhookTarget():
            return Webhook(target, secrets, now)
        case SlackTarget():
            return Slack(target, secrets)
        case EmailTarget():
            return Email(target, secrets)
        case NtfyTarget():
            return Ntfy(target, secrets)
        case CommandTarget():
            return Command(target, environ)


def _slack_text(text: str) -> str:
    """Escape text so that Slack shows mentions and links literally."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
