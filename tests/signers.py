"""Keys of people, by OpenSSH's own programs, and an agent that holds some."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helmr.signing import NAMESPACE, message

RUN_S = 60.0
NO_ENV: Mapping[str, str] = {}


def ssh(*words: str, given: bytes = b"", env: Mapping[str, str] = NO_ENV) -> bytes:
    """What a program of OpenSSH prints."""
    done = subprocess.run(
        words,
        input=given,
        capture_output=True,
        timeout=RUN_S,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_key(folder: Path, name: str = "key", *kind: str, passphrase: str = "") -> Path:
    """The private key's file; its public key stands beside it."""
    file = folder / name
    ssh(
        "ssh-keygen", "-q", "-t", *(kind or ("ed25519",)), "-N", passphrase, "-C", f"{name}@desk",
        "-f", str(file),
    )  # fmt: skip
    return file


def fresh_public() -> str:
    """A public key that no one else has registered, and no one can sign with."""
    kind = b"ssh-ed25519"
    parts = (kind, os.urandom(32))
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{kind.decode()} {base64.b64encode(blob).decode()} desk"


def public(key: Path) -> str:
    """The line of its `.pub` file."""
    return key.with_suffix(".pub").read_text().strip()


def sign(key: Path, signed: bytes, namespace: str = NAMESPACE) -> str:
    """The key's signature, armored."""
    words = ("ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key))
    return ssh(*words, given=signed).decode()


def answer_message(wait: Any, data: Any, person: str, **parts: Any) -> bytes:
    """What is signed of an answer to that wait, but for what is changed."""
    said = {"wait_id": wait.id, "question_hash": wait.question_hash, "data": data, "person": person}
    return message(**{**said, **parts})


def sign_answer(key: Path, wait: Any, data: Any, person: str, **parts: Any) -> str:
    """The key's signature of it."""
    return sign(key, answer_message(wait, data, person, **parts))


def ssh_verifies(
    folder: Path, allowed: str, person: str, signed: bytes, signature: str, *options: str
) -> bool:
    """What `ssh-keygen -Y verify` says."""
    (folder / "allowed").write_text(allowed + "\n")
    (folder / "sig").write_text(signature)
    words = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "allowed"), "-I", person]
    words += ["-n", NAMESPACE, "-s", str(folder / "sig"), *options]
    done = subprocess.run(words, input=signed, capture_output=True, timeout=RUN_S, check=False)
    return done.returncode == 0


@contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[dict[str, str]]:
    """An agent with these keys, and the environment of who uses it."""
    socket = folder / "agent"
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            env = {"SSH_AUTH_SOCK": str(socket)}
            subprocess.run(
                [
                    "sh",
                    "-c",
                    f"for i in $(seq 500); do [ -S '{socket}' ] && exit; sleep 0.01; done",
                ],
                check=True,
                timeout=RUN_S,
            )
            for key in keys:
                ssh("ssh-add", "-q", str(key), env=env)
            yield env
        finally:
            process.terminate()
