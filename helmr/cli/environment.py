"""Variables of the environment that begin with `HELMR_`: those that mean something, and those that mean nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

PREFIX = "HELMR_"

SAYS_WHICH = ("HELMR_URL", "HELMR_AT", "HELMR_DATA_DIR", "HELMR_API_KEY")
"""Variables that name the runtime, and the caller."""

KNOWN = frozenset(
    {
        *SAYS_WHICH,
        "HELMR_FAULTS",
        "HELMR_GATE_KEY",
        "HELMR_GATE_RUN",
        "HELMR_KEEP_TEMPORARY",
        "HELMR_LOG_FORMAT",
        "HELMR_MASTER_KEYS",
        "HELMR_PORTABLE",
        "HELMR_RUNTIME",
        "HELMR_SIGNING_KEY",
    }
)
OF_THE_IMAGE = frozenset({"HELMR_EXTERNAL_URL", "HELMR_LOG", "HELMR_TASKS"})
"""Variables that the compose files put into command lines."""

OF_TESTS = "HELMR_TEST_"
"""Prefix of variables of a test suite, such as this project's."""

CONFIG_BYTES_MAX = 1_000_000


def strange_variables(environ: Mapping[str, str], config: Path) -> str:
    """Names, in a sentence, the variables that no part of Helmr reads; empty if there are none.

    A secret of a notice target may have any name: what the configuration file mentions has a meaning.
    """
    known = KNOWN | OF_THE_IMAGE
    ours = (name for name in environ if name.startswith(PREFIX) and name not in known)
    named = sorted(name for name in ours if not name.startswith(OF_TESTS))
    try:
        with config.open(encoding="utf-8", errors="replace") as file:
            said = file.read(CONFIG_BYTES_MAX)
    except OSError:
        said = ""
    strange = [name for name in named if name not in said]
    if not strange:
        return ""
    ends = sorted(name.removeprefix(PREFIX) for name in KNOWN)
    near = difflib.get_close_matches(strange[0].removeprefix(PREFIX), ends, n=1)
    meant = f"; {PREFIX}{near[0]} would" if near else ""
    return (
        f"{', '.join(strange)} {'means' if len(strange) == 1 else 'mean'} nothing to Helmr{meant}"
    )
