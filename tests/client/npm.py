"""Packages of npm that tests use, in `.bench`, where the first run brings them; and a real issuer that is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ISSUER = "oidc-provider@9.13.3"
SCRIPT = Path(__file__).with_name("provider.mjs")


def installed(project_root: Path, package: str) -> Path:
    """The folder of a package, `name@version`."""
    folder = project_root / ".bench"
    folder.mkdir(exist_ok=True)
    found = folder / "node_modules" / package.partition("@")[0]
    if not found.is_dir():
        install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
        subprocess.run(install, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return found


@contextmanager
def real_issuer(project_root: Path, *, by_userinfo: bool = False) -> Iterator[str]:
    """The URL of an issuer in a process of its own, which says groups at userinfo alone or in ID tokens too."""
    folder = installed(project_root, ISSUER).parents[1]
    script = shutil.copy(SCRIPT, folder)
    started = subprocess.Popen(
        ["node", script, *(["userinfo"] if by_userinfo else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert started.stdout is not None
    try:
        url = started.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), "the issuer did not start"
        yield url
    finally:
        started.terminate()
        started.wait()
        started.stdout.close()
