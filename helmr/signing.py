"""Signed answers: what a person signs, and how their agent or key does (S-115).

The text that is signed is RFC 8785 JSON, so that anyone makes the same bytes of what a session file says:

```
{"data":…,"person":"ada","question_hash":"…","wait_id":"wait_…"}
```

It is signed by `ssh-keygen -Y sign` in the namespace `helmr`, as git signs commits: with a key of an agent, of a file
or of a hardware token. First the signer looks whether the question hash names what the person was shown.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rfc8785

from helmr.errors import BadRequest, UsageError
from helmr.models import WaitInfo
from helmr.people import person_key
from helmr.wait_details import asks

NAMESPACE = "helmr"
"""Of the signatures: one that was made for anything else counts for nothing."""

SIGNING_KEY = "HELMR_SIGNING_KEY"
"""Names the file of the key to sign with; without it the registered key that agent or `~/.ssh` has."""

SIGN_TIMEOUT_S = 120.0
"""For a passphrase, or a touch of a hardware token."""

_ARMORED = "-----BEGIN SSH SIGNATURE-----"


def message(*, wait_id: str, question_hash: str, data: Any, person: str) -> bytes:
    """What is signed.

    Raises:
        BadRequest: The data has a number that has no one form in JSON, as beyond 2**53.
    """
    signed = {
        "data": data,
        "person": person_key(person),
        "question_hash": question_hash,
        "wait_id": wait_id,
    }
    try:
        return rfc8785.dumps(signed)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise BadRequest(
            f"this answer can't be signed: {error}", hint="Send large numbers as texts."
        ) from error


def fingerprint(key: str) -> str:
    """`SHA256:…` of a public key `TYPE BASE64 …`, as `ssh-keygen -l` prints it.

    Raises:
        UsageError: It is not one.
    """
    parts = key.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, binascii.Error, ValueError) as error:
        raise UsageError(
            f"{key[:80]!r} is not a public key", hint="It begins with ssh-ed25519 or the like."
        ) from error
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class ToSign:
    """An answer that its wait takes signed only.

    Attributes:
        wait: What was asked, in full.
        data: The answer.
        person: Who answers, as the runtime names them.
        keys: Public keys that are registered for them.
    """

    wait: WaitInfo
    data: Any
    person: str
    keys: Sequence[str]

    @property
    def message(self) -> bytes:
        """What is signed.

        Raises:
            BadRequest: The runtime says another question than the one that it shows, or the data can't be signed.
        """
        wait = self.wait
        hashed = wait.question_hash or ""
        if not asks({**dict(wait), "schema": wait.json_schema}, hashed):
            raise BadRequest(
                f"{wait.id}: its question hash does not name what was shown; nothing was signed",
                hint="Tell who runs this runtime: its question was changed.",
            )
        return message(wait_id=wait.id, question_hash=hashed, data=self.data, person=self.person)


Sign = Callable[[ToSign], str | Awaitable[str]]
"""Makes the signature of an answer, armored. A person may be asked meanwhile: beside a loop it is awaited."""


def as_shown(wait: WaitInfo, sign: Sign) -> Sign:
    """Signs the question that the person was shown, whatever the runtime says meanwhile."""

    def signed(asked: ToSign) -> str | Awaitable[str]:
        return sign(replace(asked, wait=wait))

    return signed


def beside(sign: Callable[[ToSign], str]) -> Sign:
    """Signs in a thread, for clients on an event loop."""

    def signed(asked: ToSign) -> Awaitable[str]:
        return asyncio.to_thread(sign, asked)

    return signed


class SshSigner:
    """Signs with the person's agent or key, by `ssh-keygen`.

    Args:
        environ: Names a key file, and the agent.
        may_ask: A terminal is free to be asked for a passphrase on. Without it only agents and keys that need none
            sign, and graphical askpass programs.
        say: Prints a line for the person, as that a hardware token waits to be touched.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        may_ask: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._may_ask = may_ask
        self._say = say

    def __call__(self, asked: ToSign) -> str:
        """The signature.

        Raises:
            UsageError: There is no key to sign with, or it did not sign.
            BadRequest: As `ToSign.message`.
        """
        signed = asked.message
        chosen = self._environ.get(SIGNING_KEY)
        if chosen:
            return self._signed(signed, Path(chosen).expanduser())
        if not asked.keys:
            raise UsageError(
                f"{asked.wait.id} takes signed answers only, and {asked.person} has no registered key",
                hint=f"An admin runs `helmr person add-key {asked.person} @KEY.pub`.",
            )
        in_agent = self._in_agent()
        for key in asked.keys:
            if _blob(key) in in_agent:
                with tempfile.TemporaryDirectory(prefix="helmr-sign-") as folder:
                    file = Path(folder) / "key.pub"
                    file.write_text(key + "\n")
                    return self._signed(signed, file)
        for file in self._files():
            if _blob(_read(file)) in {_blob(key) for key in asked.keys}:
                return self._signed(signed, file.with_suffix(""))
        known = ", ".join(fingerprint(key) for key in asked.keys)
        raise UsageError(
            f"no key of {asked.person} is at hand: neither the agent nor ~/.ssh has {known}",
            hint=f"`ssh-add` your key, or name its file in {SIGNING_KEY}.",
        )

    def _in_agent(self) -> set[str]:
        """The keys that the agent has; none without an agent."""
        done = self._run(["ssh-add", "-L"], b"", fails=True)
        return {_blob(line) for line in done.stdout.decode(errors="replace").splitlines()}

    def _files(self) -> Iterator[Path]:
        """Public keys beside private ones in the user's folder."""
        folder = Path(self._environ.get("HOME") or Path.home()) / ".ssh"
        if folder.is_dir():
            yield from (one for one in sorted(folder.glob("*.pub")) if one.with_suffix("").exists())

    def _signed(self, signed: bytes, file: Path) -> str:
        self._say(
            f"signing with {file.name}" if file.name != "key.pub" else "signing by your agent"
        )
        words = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(file)]
        text = self._run(words, signed).stdout.decode(errors="replace")
        if not text.startswith(_ARMORED):
            raise UsageError("ssh-keygen made no signature", hint="Is it of OpenSSH 8.1 or later?")
        return text

    def _run(
        self, words: Sequence[str], given: bytes, *, fails: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """What the program did.

        Raises:
            UsageError: It is not there, it failed, or it took too long.
        """
        try:
            done = subprocess.run(
                words,
                input=given,
                capture_output=True,
                env=self._environ,
                timeout=SIGN_TIMEOUT_S,
                check=False,
                # Its own session has no terminal to ask on: a passphrase would be typed into the screen.
                start_new_session=not self._may_ask,
            )
        except FileNotFoundError as error:
            raise UsageError(
                f"{words[0]} is not installed", hint="It comes with OpenSSH's client."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"{words[0]} did not sign within {SIGN_TIMEOUT_S:g} s") from error
        if done.returncode and not fails:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UsageError(
                f"{words[0]} did not sign: {said[-1][:300] if said else done.returncode}",
                hint="`ssh-add` your key; in the console nothing can ask for its passphrase.",
            )
        return done


def _blob(key: str) -> str:
    """What of a line with a public key is the key."""
    parts = key.split()
    return parts[1] if len(parts) > 1 else ""


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:16_384]
    except OSError:
        return ""
