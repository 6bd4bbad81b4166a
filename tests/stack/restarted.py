"""`python -m tests.stack.restarted up MODULES… OPTIONS`: `helmr` in a process that is started again when it is killed.

Each is forked from this one, which has imported the task modules, so that a restart takes no time for imports.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

from helmr.cli.start import main


def restarted(words: list[str]) -> int:
    """Its exit code, when it has ended otherwise than by SIGKILL."""
    import_module("tests.warm_modules")
    for word in words:
        if word.startswith("tests."):
            import_module(word)
    pid = 0

    def end_it(number: int, _: object) -> None:
        os.kill(pid, number)

    while True:
        pid = os.fork()
        if pid == 0:
            sys.orig_argv[:] = [sys.executable, "-m", "helmr.cli", *words]
            sys.argv = ["helmr", *words]
            main()
        signal.signal(signal.SIGTERM, end_it)
        _, status = os.waitpid(pid, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            return code


if __name__ == "__main__":
    sys.exit(restarted(sys.argv[1:]))
