"""Signed answers: the text that a person signs, and signatures by their agent or key (S-115).

The signed text is RFC 8785 JSON, so that anyone can make the same bytes from a session file:

```
{"data":…,"person":"ada","question_hash":"…","wait_id":"wait_…"}
```

A deputy signs whose they are, too, and by which delegation:

```
{"data":…,"delegation":"dlg_…","deputy_for":"ada","person":"bo","question_hash":"…","wait_id":"wait_…"}
```

`ssh-keygen -Y sign` signs it in the namespace `helmr`, as git signs commits, with a key of an agent, a file or a
hardware token. The signer first checks that the question hash matches the question that the person saw.
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
from helmr.wait_details import asks
from helmr.wire.people import person_key

NAMESPACE = "helmr"
"""Namespace of the signatures; a signature made for anything else is invalid."""

SIGNING_KEY = "HELMR_SIGNING_KEY"
"""Variable with the file of the key to sign with; by default a registered key in the agent or `~/.ssh`."""

SIGN_TIMEOUT_S = 120.0
"""Longest wait for a signature, with its passphrase or the touch of a hardware token."""

_ARMORED = "-----BEGIN SSH SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class SignedFor:
    """For whom a deputy signs, and the id of the delegation (S-142)."""

    delegation: str
    person: str


def message(
    *,
    wait_id: str,
    question_hash: str,
    data: Any,
    person: str,
    signed_for: SignedFor | None = None,
) -> bytes:
    """Return the bytes to sign.

    Args:
        wait_id: The wait.
        question_hash: Hash of its question.
        data: The answer.
        person: The person who signs.
        signed_for: For whom, if they sign as a deputy.

    Raises:
        BadRequest: The data has a number without a unique form in JSON, such as one beyond 2**53.
    """
    signed = {
        "data": data,
        "person": person_key(person),
        "question_hash": question_hash,
        "wait_id": wait_id,
    }
    if signed_for is not None:
        signed["delegation"] = signed_for.delegation
        signed["deputy_for"] = person_key(signed_for.person)
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
    """An answer to a wait that accepts only signed ones.

    Attributes:
        wait: The wait, in full.
        data: The answer.
        person: The person who answers, as the runtime names them.
        keys: Public keys registered for that person.
        signed_for: For whom the person answers as a deputy.
    """

    wait: WaitInfo
    data: Any
    person: str
    keys: Sequence[str]
    signed_for: SignedFor | None = None

    @property
    def message(self) -> bytes:
        """Return the bytes to sign.

        Raises:
            BadRequest: The question hash does not match the shown question, or the data can't be signed.
        """
        wait = self.wait
        hashed = wait.question_hash or ""
        if not asks({**dict(wait), "schema": wait.json_schema}, hashed):
            raise BadRequest(
                f"{wait.id}: its question hash does not name what was shown; nothing was signed",
                hint="Tell who runs this runtime: its question was changed.",
            )
        return message(
            wait_id=wait.id,
            question_hash=hashed,
            data=self.data,
            person=self.person,
            signed_for=self.signed_for,
        )


Sign = Callable[[ToSign], str | Awaitable[str]]
"""Makes the armored signature of an answer. It may prompt a person; code on an event loop awaits it in a thread."""


def as_shown(wait: WaitInfo, sign: Sign) -> Sign:
    """Signs the question that the person saw, even if the runtime's changes meanwhile."""

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
        may_ask: True if it may prompt for a passphrase on the terminal. Otherwise only agents, keys without a
            passphrase and graphical askpass programs sign.
        say: Prints a line for the person, such as the request to touch a hardware token.
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
        """Return the signature.

        Raises:
            UsageError: There is no key to sign with, or signing failed.
            BadRequest: Raised by `ToSign.message`.
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
        """Return the agent's keys; none without an agent."""
        done = self._run(["ssh-add", "-L"], b"", fails=True)
        return {_blob(line) for line in done.stdout.decode(errors="replace").splitlines()}

    def _files(self) -> Iterator[Path]:
        """Return public keys with a private key beside them, in the user's folder."""
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
        """Run the program and return its result.

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
                # A session of its own has no terminal to prompt on: its prompt would appear in our screen.
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
    """Return the key itself from a line with a public key."""
    parts = key.split()
    return parts[1] if len(parts) > 1 else ""


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:16_384]
    except OSError:
        return ""
