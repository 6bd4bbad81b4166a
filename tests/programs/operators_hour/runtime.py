"""The runtime of a checkout, as its own `helmr up` starts it; killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.programs.operators_hour.plan import Asked

HERE = Path(__file__).parent
START_S = 120.0
STOP_S = 30.0
CALL_S = 30.0
DUE_SOON_S = 40
"""Long enough before the last tenth of what runs out that a look every 15 s comes in time."""

NOTICES = f"""
[notices.legal]
type = "command"
command = ["{sys.executable}", "{HERE / "take_notice.py"}", "{{file}}"]
events = ["wait.due_soon"]
filter = "stream:legal"
due_soon = "{DUE_SOON_S}s"
"""


class Calls:
    """What is asked of a gateway, whoever started it.

    Args:
        url: Its address.
        key: Its admin key.
        has_claims: Whether it knows that an answer may override a claim.
    """

    def __init__(self, url: str = "", key: str = "", *, has_claims: bool) -> None:
        self.url = url
        self.key = key
        self._has_claims = has_claims

    def http(self) -> httpx.AsyncClient:
        """Calls to it, with its key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=CALL_S)

    async def ask(self, one: Asked) -> dict[str, Any]:
        """Start its session; what the start answered."""
        payload: dict[str, Any] = {"subject": one.subject, "body": one.body, "timeout": one.timeout}
        if one.initial is not None:
            payload["initial"] = one.initial
        async with self.http() as http:
            response = await http.post("/v1/sessions", json={"task": one.task, "payload": payload})
        assert response.status_code in (200, 201), response.text
        return dict(response.json())

    async def answer(self, wait_id: str, data: object, *, person: str) -> None:
        """Another answers, over whoever is at the wait."""
        over = {"override_claim": True} if self._has_claims else {}
        async with self.http() as http:
            response = await http.post(
                f"/v1/waits/{wait_id}/answer",
                json={"data": data, **over},
                headers={"On-Behalf-Of": person},
            )
        assert response.status_code == 200, response.text


class Runtime(Calls):
    """`helmr up` in a folder.

    Args:
        checkout: Whose code: a folder with its `.venv`.
        folder: For everything it leaves; not there yet.
        has_desk: Whether this commit has claims and notices.
        tasks: Files of this folder with what asks.
        people: Of its helmr.toml.
    """

    def __init__(
        self,
        checkout: Path,
        folder: Path,
        *,
        has_desk: bool,
        tasks: Sequence[str] = ("hour_tasks.py",),
        people: str = "",
    ) -> None:
        super().__init__(has_claims=has_desk)
        self.python = checkout / ".venv" / "bin" / "python"
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._told_file = folder / "told.jsonl"
        self._credentials = folder / ".helmr" / "credentials.json"
        self._port = 0
        folder.mkdir(parents=True)
        self._tasks = tasks
        for name in tasks:
            shutil.copy(HERE / name, folder / name)
        if has_desk:
            notices = NOTICES.replace("{file}", str(self._told_file))
            (folder / "helmr.toml").write_text(notices + people)

    async def start(self) -> None:
        """Start it; returns when it is ready. Started again it has the address that it had."""
        self._credentials.unlink(missing_ok=True)
        env = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "PYTHONPATH": ""}
        with (self.folder / "up.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self.python, "-P", "-m", "helmr.cli", "up", *self._tasks, "--in-process", f"--port={self._port}",
                cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(START_S):
            while not await self._is_ready():
                assert self._process.returncode is None, self._log()
                await asyncio.sleep(0.05)

    def _log(self) -> str:
        return (self.folder / "up.log").read_text()

    async def _is_ready(self) -> bool:
        try:
            self._take_credentials()
            async with self.http() as http:
                return (await http.get("/readyz")).status_code == 200
        except (OSError, ValueError, httpx.HTTPError):
            return False

    def _take_credentials(self) -> None:
        found = json.loads(self._credentials.read_text())
        self.url, self.key = found["url"], found["key"]
        self._port = int(self.url.rpartition(":")[2])

    async def restart(self) -> None:
        """It dies without a word, as its machine would, and is started again."""
        await self._kill()
        await self.start()

    async def _kill(self) -> None:
        assert self._process is not None, "it was started"
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """As Ctrl-C does; what does not end is killed."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            await self._kill()

    def told(self) -> dict[str, float]:
        """When the target of notices was told of each wait first, in seconds since the epoch, by the wait's id."""
        found: dict[str, float] = {}
        if self._told_file.exists():
            for line in self._told_file.read_text().splitlines():
                said = json.loads(line)
                found.setdefault(said["event"]["data"]["wait_id"], said["at_s"])
        return found
