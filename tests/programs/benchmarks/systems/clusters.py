"""A PostgreSQL with its default settings, for the systems that store in one."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

from tests.programs.benchmarks.processes import Server
from tests.programs.benchmarks.systems.base import HttpSystem, Missing

POSTGRES_USER = "postgres"
"""Who runs PostgreSQL when this runs as root, which it refuses."""

SHOWN = ("server_version", "fsync", "synchronous_commit", "wal_sync_method")


def check_postgres() -> None:
    """Raise `Missing` if there is none."""
    if postgres_program("initdb") is None:
        raise Missing("PostgreSQL is missing: apt-get install postgresql")


async def started_cluster(system: HttpSystem, folder: Path) -> tuple[str, dict[str, str]]:
    """A cluster of the system's own with a database `bench`, on a socket in its folder: what names that behind a
    URL's path, and what decides when a write is on disk.
    """
    home = folder / "pg"
    home.mkdir()
    user = None
    if os.geteuid() == 0:
        user = POSTGRES_USER
        shutil.chown(home, user, user)
        for above in (folder, *folder.parents[:1]):
            above.chmod(0o755)
    await asyncio.to_thread(init_cluster, home, user)
    options = ["-D", str(home / "data"), "-k", str(home), "-c", "listen_addresses="]
    server = Server(
        [str(postgres_program("postgres")), *options],
        folder / "postgres.log",
        environment=os.environ,
        cwd=home,
        user=user,
    )
    system.servers.append(server)
    shown: dict[str, str] = {}
    where = f"?host={home}"
    await system.answers(lambda: _show(f"postgresql://bench@/postgres{where}", shown))
    return where, shown


def _show(url: str, shown: dict[str, str]) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, autocommit=True) as connection:
            for name in SHOWN:
                row = connection.execute(f"SHOW {name}").fetchone()
                assert row is not None
                shown[f"PostgreSQL {name}"] = str(row[0])
            connection.execute("CREATE DATABASE bench")
    except psycopg.OperationalError:
        return False
    return True


def init_cluster(home: Path, user: str | None) -> None:
    """Make an empty cluster below the folder, as that user."""
    subprocess.run(
        [str(postgres_program("initdb")), "-D", home / "data", "-U", "bench", "-A", "trust"],
        check=True,
        capture_output=True,
        cwd=home,
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )


def postgres_program(name: str) -> Path | None:
    """One of PostgreSQL's programs; Debian keeps them off the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((one / name for one in folders if (one / name).exists()), None)
    named = shutil.which(name)
    return found or (Path(named) if named else None)
