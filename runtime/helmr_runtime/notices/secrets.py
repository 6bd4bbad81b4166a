"""What notice targets name and `helmr.toml` does not hold: URLs and secrets, in the environment or in files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from helmr.errors import UsageError

SECRET_BYTES_MAX = 4_096


class NamesSecrets(Protocol):
    """A target: its fields `WHAT_env` and `WHAT_file` name where a secret is."""

    @property
    def name(self) -> str:
        """The target's name in `helmr.toml`."""
        ...


class Secrets:
    """Reads what targets name.

    Args:
        environ: Environment variables.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def read(self, target: NamesSecrets, what: str) -> str:
        """The secret `what` of a target: `url`, `secret`, `password`, `token`.

        Raises:
            UsageError: It is not there, or can't be read.
        """
        variable = getattr(target, f"{what}_env", None)
        path: Path | None = getattr(target, f"{what}_file", None)
        place = f"[notices.{target.name}] {what}"
        try:
            if path is not None:
                with path.open("rb") as file:
                    found = file.read(SECRET_BYTES_MAX + 1).decode("utf-8").strip()
            else:
                found = self._environ.get(variable or "", "").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
            raise UsageError(f"{place}: {path} can't be read: {reason}") from error
        if not 0 < len(found) <= SECRET_BYTES_MAX or not found.isprintable():
            where = f"file {path}" if path is not None else f"environment variable {variable}"
            raise UsageError(
                f"{place}: {where} holds no line of text", hint="Set it, then start again."
            )
        return found

    def text(self, target: NamesSecrets, what: str) -> str:
        """What a target says itself or names a place of: `url`, `topic`.

        Raises:
            UsageError: As `read`.
        """
        given: str | None = getattr(target, what, None)
        return given if given is not None else self.read(target, what)

    def url(self, target: NamesSecrets) -> str:
        """Return a target's URL.

        Raises:
            UsageError: It is missing or not a URL.
        """
        try:
            return check_url(self.text(target, "url"))
        except ValueError as error:
            raise UsageError(f"[notices.{target.name}] url: {error}") from error

    def signing_key(self, target: NamesSecrets) -> bytes:
        """The bytes that a webhook's bodies are signed with.

        Raises:
            UsageError: It is not there, or no such key.
        """
        text = self.read(target, "secret")
        try:
            key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not 24 <= len(key) <= 64:
            raise UsageError(
                f"[notices.{target.name}] secret: it is not a key of Standard Webhooks",
                hint="whsec_ and 24 to 64 random bytes in base64: `echo whsec_$(openssl rand -base64 32)`.",
            )
        return key


def check_url(url: str) -> str:
    """Return a URL that can be posted to. The message of the refusal does not say it: it may be a secret.

    Raises:
        ValueError: It can't.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise ValueError("it is not a URL of http or https")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it holds a user or a password")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("it holds characters that no URL has")
    return url


def check_one_of(target: NamesSecrets, *names: str) -> None:
    """Return if the target says one of these and no other.

    Raises:
        ValueError: It says none, or several.
    """
    given = [name for name in names if getattr(target, name) is not None]
    if len(given) != 1:
        raise ValueError(f"it takes exactly one of {', '.join(names)}")
