"""Earlier commits of Helmr as systems of a benchmark: each has a checkout and an environment of its own.

The load generator, the tasks and the cases are those of this checkout, so what differs is the program alone. A loss of
5 % in each of seven commits shows only beside the first of them: the reference is the last release.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.programs.benchmarks.systems import SYSTEMS, Helmr, HelmrRay, Missing, System

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(".bench/beside")
AT = "@"


def checkout(ref: str, folder: Path = FOLDER, *, source: Path = ROOT) -> Path:
    """Check out a commit, make its environment by its own Makefile, and return the path of its Python.

    Args:
        ref: A commit, tag or branch of the repository.
        folder: Keeps a checkout for each commit.
        source: The repository.

    Raises:
        Missing: There is no such commit, or its environment can't be made.
    """
    commit = _output("git", "-C", str(source), "rev-parse", "--verify", f"{ref}^{{commit}}")
    place = (folder / commit[:12]).resolve()
    if not place.exists():
        _output("git", "clone", "--quiet", "--shared", "--no-checkout", str(source), str(place))
    # Each time: an earlier run may have been killed between the two.
    _output("git", "-C", str(place), "checkout", "--quiet", "--detach", commit)
    _output("make", "--directory", str(place), ".venv/.stamp-demo")
    return place / ".venv" / "bin" / "python"


def twins(names: Sequence[str], ref: str, python: Path) -> Mapping[str, type[System]]:
    """Return each of these systems that is Helmr and starts by its command, as the commit has it, by name.

    Raises:
        Missing: There is none among them.
    """
    kinds = [SYSTEMS[name] for name in names]
    found = [one for one in kinds if issubclass(one, Helmr) and not issubclass(one, HelmrRay)]
    if not found:
        raise Missing("no Helmr among the systems has a command to be started beside")
    return {twin.name: twin for twin in (_twin(one, ref, python) for one in found)}


def paired(names: Sequence[str], ref: str, known: Mapping[str, type[System]]) -> tuple[str, ...]:
    """Return the systems, each followed by its twin."""
    pairs = [(name, f"{name}{AT}{ref}") for name in names]
    return tuple(one for pair in pairs for one in pair if one in known or one in names)


def _twin(kind: type[Helmr], ref: str, python: Path) -> type[Helmr]:
    reasons = {**kind.reasons, "h": "the ledger would be written by the code of this checkout"}
    name, commit = f"{kind.name}{AT}{ref}", python.parents[2].name
    members = {"name": name, "python": str(python), "commit": commit, "reasons": reasons}
    return type("Earlier", (kind,), members)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{' '.join(command[:4])} …: {said[-1] if said else done.returncode}")
    return done.stdout.strip()
