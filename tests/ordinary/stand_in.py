"""Servers that the habits talk to: HTTP that answers as OpenAI and Anthropic do, and a PostgreSQL of the test's own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests import reaper

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello yourself"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "small",
    "content": [{"type": "text", "text": "hello yourself"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def _chunk(text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, as those servers do

    def do_GET(self) -> None:
        self._say(b"hello", "text/plain")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/messages":
            self._say(json.dumps(MESSAGE).encode(), "application/json")
        elif asked.get("stream"):
            events = [f"data: {json.dumps(_chunk(text))}\n\n" for text in ("hello ", "yourself")]
            self._say("".join([*events, "data: [DONE]\n\n"]).encode(), "text/event-stream")
        else:
            self._say(json.dumps(CHAT).encode(), "application/json")

    def _say(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a killed process just goes
            super().handle()

    def log_message(self, *args: object) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def http_server() -> Iterator[str]:
    """Its URL."""
    server = _Server(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, if PostgreSQL is installed; Debian keeps it off the path."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgresServer:
    """In a folder of its own, over a socket file there.

    It refuses to run as root: then it runs as the user that its package made.

    Args:
        folder: For everything of it.
        programs: Where its programs are.
        settings: Of the server, besides where it listens.
        primary: The folder of the socket of another one, which runs: this one is its replica until it is promoted.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path,
        *,
        settings: Mapping[str, str] | None = None,
        primary: Path | None = None,
    ) -> None:
        self.folder = folder
        self._settings = settings or {}
        user = _user()
        self._as_user: dict[str, Any] = {}
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid}
        data = str(folder / "data")
        self._control = (str(programs / "pg_ctl"), "-D", data, "-w", "-s")
        if primary is None:
            init = str(programs / "initdb")
            self._run(init, "-D", data, "-A", "trust", "-U", "helmr", "--no-sync")
        else:
            copy = str(programs / "pg_basebackup")
            more = ("-R", "-c", "fast", "--no-sync")
            self._run(copy, "-D", data, "-h", str(primary), "-U", "helmr", *more)

    def url(self, folder: Path | None = None) -> str:
        """Its DSN, or that of what stands before it in another folder."""
        return f"postgresql://helmr@/postgres?host={folder or self.folder}"

    def start(self) -> None:
        """Ready when this returns."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            **self._settings,
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run(*self._control, "-o", options, "-l", str(self.folder / "log"), "start")

    def promote(self) -> None:
        """It is no replica any more when this returns."""
        self._run(*self._control, "promote")

    def kill(self) -> None:
        """End it without a word to anyone; its next start mends it from its log."""
        self._run(*self._control, "-m", "immediate", "stop")

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, **self._as_user
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def own_postgres(
    settings: Mapping[str, str] | None = None, *, primary: Path | None = None
) -> Iterator[PostgresServer | None]:
    """Started; None where PostgreSQL is not installed, or nobody can run it. Arguments as of `PostgresServer`."""
    programs = postgres_programs()
    if programs is None or (os.getuid() == 0 and _user() is None):
        yield None
        return
    folder = reaper.folder("helmr-pg-")  # short, and open to that user
    try:
        server = PostgresServer(folder, programs, settings=settings, primary=primary)
        server.start()
        try:
            yield server
        finally:
            with suppress(AssertionError):  # a test may have ended it
                server.kill()
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgres_server() -> Iterator[str | None]:
    """The DSN of one; None as there."""
    with own_postgres() as server:
        yield server.url() if server is not None else None


def _user() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None
