"""A program that types commands, run in this process: a process for each would cost half a second of CPU."""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from helmr.cli.main import invoke
from tests.cli.test_answer_all import Ran, Script


class Typed(Script):
    """As `Script`, which starts processes; it can't be interrupted."""

    async def runs(self, *words: str, given: str = "", interrupt_at: str = "") -> Ran:
        """Run a command to its end, in a thread: the runtime is on this loop."""
        assert not interrupt_at
        return await asyncio.to_thread(self._run, words, given)

    def _run(self, words: tuple[str, ...], given: str) -> Ran:
        out, err, stdin = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(given.encode()))
        environ = {
            "HELMR_API_KEY": self.stack.key,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }
        with (
            mock.patch.dict("os.environ", environ),
            mock.patch.object(sys, "stdin", stdin),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = invoke([*words, "--url", self.stack.url, "--on-behalf-of", "ana"])
        return Ran(code, out.getvalue(), err.getvalue())
