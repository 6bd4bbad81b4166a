"""What `helmr[sql]` promises (docs/sql.md): results as frames and as Parquet, from a runtime that has it too.

Arguments: URL and key of a runtime without it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import polars
from review_tasks import by_token, review  # type: ignore[import-not-found]

from helmr import Client, embedded
from helmr.errors import MissingExtra

SQL = "SELECT task, count(*) AS sessions FROM sessions GROUP BY task ORDER BY task"

url, key = sys.argv[1:]
for heavy in ("ray", "fastapi", "textual"):
    assert importlib.util.find_spec(heavy) is None, heavy


def to_parquet(url: str, key: str) -> subprocess.CompletedProcess[str]:
    """`helmr query` asks that runtime for a file."""
    command = [sys.executable, "-m", "helmr.cli", "--url", url, "query", SQL]
    return subprocess.run(
        [*command, "--out", "sessions.parquet"],
        env={**os.environ, "HELMR_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )


with (
    embedded.start(review, by_token, data_dir="data", in_process=True) as runtime,
    runtime.client() as client,
):
    client.sessions.start_and_wait(by_token, "otters", timeout="30s")
    client.sessions.start_and_wait(review, "otters", timeout="30s")
    found = client.query(SQL)
    assert found.arrow().num_rows == found.polars().height == len(found.pandas()) == 2
    moments = client.query("SELECT max(recorded_at) AS last FROM entries").polars()
    assert moments.schema["last"] == polars.Datetime("us", "UTC"), moments.schema
    done = to_parquet(runtime.url, runtime.key)
    assert done.returncode == 0, done.stderr
assert polars.read_parquet("sessions.parquet")["task"].to_list() == ["by-token", "review"]

with Client(url=url, key=key) as client:
    found = client.query(SQL)
    assert [row["task"] for row in found] == ["by-token", "review"]
    said = None
    try:
        found.polars()
    except MissingExtra as error:
        said = error
    assert said is not None, "rows have no types for a frame"
    assert said.facts["extra"] == "sql"
done = to_parquet(url, key)
assert done.returncode == 2, done.stderr
assert "helmr[sql]" in done.stderr
