"""`make test`: the tests that start whole runtimes and all others, side by side.

The first mostly wait for processes, the others mostly compute; one after the other they leave a core idle. Each half is
a pytest run of its own, with a cache of its own, and so a `--last-failed` of its own. The first half is shown as it
runs, the other when both have ended. Arguments go to both; of `--junit-xml=report.xml` each half makes a file of its
own, `report-runtimes.xml` and `report-others.xml`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile

RUNTIMES = "ray and not soak and not perf"
OTHERS = "not ray and not soak and not perf"
NONE_COLLECTED = 5
JUNIT = re.compile(r"^(--junit-?xml=.*?)((?:\.xml)?)$")


def command(half: str, marks: str, arguments: list[str]) -> list[str]:
    """A pytest run over the tests with these marks."""
    cache = f"cache_dir=.pytest_cache/{half}"
    own = [JUNIT.sub(rf"\1-{half}\2", argument) for argument in arguments]
    return [sys.executable, "-m", "pytest", "-m", marks, "-o", cache, *own]


def main(arguments: list[str]) -> int:
    """Run both; the first exit code that says something went wrong."""
    with tempfile.TemporaryFile() as said:
        others = subprocess.Popen(
            command("others", OTHERS, arguments), stdout=said, stderr=subprocess.STDOUT
        )
        try:
            runtimes = subprocess.run(command("runtimes", RUNTIMES, arguments), check=False)
            codes = [runtimes.returncode, others.wait()]
        finally:
            others.terminate()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    if set(codes) == {NONE_COLLECTED}:
        return NONE_COLLECTED
    return next((code for code in codes if code not in (0, NONE_COLLECTED)), 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
