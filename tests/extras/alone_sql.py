"""What `helmr[sql]` promises (docs/sql.md): the results of a distant runtime as frames, and as Parquet."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import polars

from helmr import Client

url, key = sys.argv[1:]
SQL = "SELECT task, count(*) AS sessions FROM sessions GROUP BY task ORDER BY task"

for heavy in ("ray", "duckdb", "fastapi", "textual"):
    assert importlib.util.find_spec(heavy) is None, heavy
with Client(url=url, key=key) as client:
    found = client.query(SQL)
    assert found.arrow().num_rows == found.polars().height == len(found.pandas()) == 2
command = [
    sys.executable,
    "-m",
    "helmr.cli",
    "--url",
    url,
    "query",
    SQL,
    "--out",
    "sessions.parquet",
]
subprocess.run(command, check=True)
assert polars.read_parquet("sessions.parquet")["task"].to_list() == ["by-token", "review"]
