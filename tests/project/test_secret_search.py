"""The search for live secrets finds what is planted, wherever it is planted, and fails the run for it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.secret_search import SECRETS_LEFT

PLANTED = """
import base64, json, logging, os, secrets, shutil, tempfile
import duckdb
import pytest
from pathlib import Path
from helmr.hash_seed import remove_folder
from helmr.errors import NotFound
from helmr_runtime.core.entries import GENESIS, Draft, EntryKind, stamp
from helmr_runtime.security.secrets import make_secret
from datetime import UTC, datetime

def test_in_a_log_line_which_the_filter_cleans():
    logging.getLogger("helmr.x").warning("%s", make_secret("key"))

def test_in_an_error():
    NotFound(f"there is no {make_secret('cb')}")

def test_in_the_facts_of_an_error():
    NotFound("there is none", token=make_secret("pat"))

def test_in_an_entry():
    draft = Draft(EntryKind.NOTE_ADDED, {"text": make_secret("pat")})
    stamp(draft, session_id="s", seq=1, recorded_at=datetime.now(UTC), previous=GENESIS, key=None)

def test_in_the_output():
    print(make_secret("key"))

def test_in_a_failure():
    assert make_secret("key") == "another"

def test_in_a_file(tmp_path):
    (tmp_path / "ledger.duckdb").write_bytes(b"\\x00\\xff" + make_secret("cb").encode() + b"\\x00")

def test_in_a_compressed_column(tmp_path):
    secret, rows = make_secret("key"), []
    for n in range(5000):
        rows.append(f"{n:05d}: the same words again and again, " + (secret if n == 2500 else "no secret"))
    with duckdb.connect(str(tmp_path / "ledger.duckdb")) as database:
        database.execute("CREATE TABLE entries (body VARCHAR)")
        database.execute("INSERT INTO entries SELECT unnest($1)", [rows])
        database.execute("COPY entries TO '" + str(tmp_path / "out.parquet") + "' (COMPRESSION gzip)")
    assert secret.encode() not in (tmp_path / "out.parquet").read_bytes()

def test_in_a_folder_that_it_removes(tmp_path):
    folder = tmp_path / "tour"
    folder.mkdir()
    (folder / "up.log").write_text(make_secret("key"))
    shutil.rmtree(folder)

def test_in_a_temporary_folder_elsewhere():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "out").write_text(make_secret("pat"))

def test_in_rays_log_of_a_runtime_that_ends():
    folder = Path(tempfile.mkdtemp(prefix="helmr-"))
    (folder / "r").mkdir()
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "r" / "raylet.out").write_text(make_secret("key"))
    (folder / "r" / "gcs.out").write_text("RAY_AUTH_TOKEN=" + (folder / "token").read_text())
    remove_folder(folder)

def test_in_rays_log_of_a_runtime_that_was_killed(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="helmr-"))
    (folder / "r").mkdir()
    (folder / "r" / "killed.out").write_text(make_secret("cb"))
    record = {"marker": "m", "supervisor": [1, 1], "run_dir": str(folder), "processes": []}
    (tmp_path / "processes.json").write_text(json.dumps(record))
    (tmp_path.parent.parent / "killed").write_text(str(folder))

def test_in_the_users_own_folders():
    folder = Path(os.environ["XDG_STATE_HOME"], "helmr", "console", "drafts")
    folder.mkdir(parents=True)
    (folder / "draft.json").write_text(json.dumps({"note": make_secret("pat")}))

def test_a_master_key_in_a_log(tmp_path):
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    (tmp_path / "master-keys.json").write_text(json.dumps({"keys": [{"id": "k1", "key": key}]}))
    (tmp_path / "gateway.log").write_text(f"the key is {key}; another {'0' * 43}=")

def test_in_a_file_whose_purpose_it_is(tmp_path):
    (tmp_path / "credentials.json").write_text(make_secret("key"))

def test_a_text_that_only_looks_like_one():
    NotFound(make_secret("key")[:-1] + "_")
"""


pytestmark = [pytest.mark.shows_secrets, pytest.mark.allows_blocking]

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["-q", "-p", "no:randomly", "-c", "/dev/null", "-p", "tests.secret_search"]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_planted.py").write_text(PLANTED)
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={folder}"),
            *("--basetemp", str(folder / "tmp"), *words),
            str(folder / "test_planted.py"),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's temporary folder: the search over this run shall not find what was planted."""
    with tempfile.TemporaryDirectory(prefix="helmr-planted-") as folder:
        yield Path(folder)


def test_every_planted_secret_is_found_and_no_other(folder: Path) -> None:
    done = run(folder)
    killed = Path((folder / "killed").read_text())
    shutil.rmtree(killed)
    assert done.returncode == SECRETS_LEFT
    assert set(re.findall(r"^ERROR .*::(\w+)", done.stdout, flags=re.M)) == {
        "test_in_an_error",
        "test_in_the_facts_of_an_error",
        "test_in_an_entry",
        "test_in_the_output",
        "test_in_a_failure",
        "test_in_a_folder_that_it_removes",
        "test_in_a_temporary_folder_elsewhere",
    }
    left = re.findall(r"LIVE SECRET: (\S+)… in file (\S+)", done.stdout)
    assert sorted(
        (secret[:5] == "hlmr_", re.sub("helmr-[^/]+", "helmr-", place)) for secret, place in left
    ) == [
        (False, "helmr-/r/gcs.out"),  # Ray's token
        (False, "test_a_master_key_in_a_log0/gateway.log"),
        (True, "helmr-/r/raylet.out"),
        (True, "r/killed.out"),
        (True, "state/helmr/console/drafts/draft.json"),
        (True, "test_in_a_compressed_column0/ledger.duckdb"),
        (True, "test_in_a_compressed_column0/out.parquet"),
        (True, "test_in_a_file0/ledger.duckdb"),
    ]


LEFT = """
from helmr.hash_seed import remove_folder
from helmr_runtime.security.secrets import make_secret

def test_that_leaves_a_file(tmp_path):
    (tmp_path / "left").write_text(make_secret("key"))
    remove_folder(tmp_path)
"""


@pytest.mark.long  # test_every_planted_secret_is_found_and_no_other
def test_a_run_that_passed_fails_for_what_its_workers_left(folder: Path) -> None:
    for number in range(3):
        (folder / f"test_{number}.py").write_text(LEFT)
    words = [*OPTIONS, "-n", "2", "--dist", "loadfile", f"--rootdir={folder}", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == SECRETS_LEFT, done.stdout
    assert "3 passed" in done.stdout
    assert done.stdout.count("LIVE SECRET: ") == 3, done.stdout
