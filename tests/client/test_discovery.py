"""Which runtime is meant: the order of the places looked at, and what counts as running."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helmr.client.discovery import (
    find_runtime,
    is_live,
    live_runtimes,
    nearest_data_dir,
    normal_url,
    pointer_dir,
    with_process,
)
from helmr.client.endpoint import Endpoint
from helmr.client.sign_in import path_of
from helmr.errors import AmbiguousRuntime, NotAllowed, NotReady, RuntimeNotFound, UsageError


class Place:
    """A folder with runtimes in it, and the environment that points there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cwd = root / "work" / "deep"
        self.cwd.mkdir(parents=True)
        self.environ = {"XDG_STATE_HOME": str(root / "state"), "HOME": str(root)}
        self.pointers = root / "state" / "helmr" / "runtimes"
        self.pointers.mkdir(parents=True)

    def runtime(
        self, data_dir: Path, port: int, *, pid: int | None = None, pointer: bool = True
    ) -> None:
        """Credentials as `up` writes them."""
        data_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {
                "url": f"http://127.0.0.1:{port}",
                "key": f"key-{port}",
                "pid": os.getpid() if pid is None else pid,
                "data_dir": str(data_dir),
            }
        )
        paths = [data_dir / "credentials.json"]
        if pointer:
            paths.append(self.pointers / f"{port}.json")
        for path in paths:
            path.write_text(text)
            path.chmod(0o600)

    def find(self, **given: Any) -> Endpoint:
        return find_runtime(environ=self.environ, cwd=self.cwd, **given)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_url_argument_beats_everything(place: Place) -> None:
    place.runtime(place.cwd / ".helmr", 1001)
    place.environ |= {"HELMR_URL": "http://127.0.0.1:1002", "HELMR_API_KEY": "env"}
    found = place.find(url="http://127.0.0.1:1003/", data_dir=place.cwd / ".helmr")
    assert (found.url, found.key, found.found_by) == ("http://127.0.0.1:1003", "env", "url")


@pytest.mark.parametrize("named", ["url", "HELMR_URL", "data_dir", "nearest", "only live"])
@pytest.mark.parametrize("signed_in", [False, True], ids=["", "signed in"])
def test_the_key_in_the_environment_counts_however_the_runtime_is_found(
    place: Place, named: str, signed_in: bool
) -> None:
    place.environ["HELMR_API_KEY"] = "env"
    if signed_in:
        kept = path_of(place.environ, "http://127.0.0.1:1001")
        kept.parent.mkdir(parents=True)
        kept.touch()
    folder = place.cwd / ".helmr" if named == "nearest" else place.root / "elsewhere"
    place.runtime(folder, 1001)
    given: dict[str, Any] = {}
    if named == "HELMR_URL":
        place.environ["HELMR_URL"] = "http://127.0.0.1:1001"
    elif named in ("url", "data_dir"):
        given = {named: folder if named == "data_dir" else "http://127.0.0.1:1001"}
    found = place.find(**given)
    assert (found.url, found.key, found.signed_in) == ("http://127.0.0.1:1001", "env", None)
    assert place.find(**given, key="said").key == "said"
    del place.environ["HELMR_API_KEY"]
    assert (place.find(**given).signed_in is not None) is signed_in


def test_helmr_url_comes_next_with_its_key(place: Place) -> None:
    place.runtime(place.cwd / ".helmr", 1001)
    place.environ |= {"HELMR_URL": "https://helmr.example/api/", "HELMR_API_KEY": "env"}
    found = place.find()
    assert (found.url, found.key) == ("https://helmr.example/api", "env")
    assert found.pid is None


@pytest.mark.parametrize("written", ["http://127.0.0.1:1002", "http://localhost:1002/"])
def test_without_a_key_helmr_url_takes_that_of_the_live_pointer(place: Place, written: str) -> None:
    place.runtime(place.root / "a", 1001)
    place.runtime(place.root / "b", 1002)
    place.environ["HELMR_URL"] = written
    found = place.find()
    assert (found.key, found.pid) == ("key-1002", os.getpid())


def test_helmr_url_goes_before_the_data_dir_and_says_so(place: Place, caplog) -> None:
    place.runtime(place.root / "a", 1001)
    place.runtime(place.root / "b", 1002)
    place.environ["HELMR_URL"] = "http://127.0.0.1:1002"
    with caplog.at_level(logging.WARNING, "helmr.client"):
        assert place.find(data_dir=place.root / "a").url == "http://127.0.0.1:1002"
    assert "HELMR_URL is set" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "helmr.client"):
        place.find(data_dir=place.root / "b")
    assert caplog.text == ""


def test_the_data_dir_goes_before_the_nearest(place: Place) -> None:
    place.runtime(place.cwd / ".helmr", 1001)
    place.runtime(place.root / "other", 1002)
    assert place.find(data_dir=place.root / "other").key == "key-1002"


def test_a_data_dir_without_a_running_runtime_is_told(place: Place, dead_pid: int) -> None:
    place.runtime(place.root / "live", 1001)
    place.runtime(place.root / "dead", 1002, pid=dead_pid)
    for name in ("dead", "missing"):
        with pytest.raises(RuntimeNotFound, match=name) as caught:
            place.find(data_dir=place.root / name)
        assert f"helmr up --data-dir {place.root / name}" in str(caught.value.hint)


def test_a_runtime_that_starts_is_not_missing(place: Place, dead_pid: int) -> None:
    data_dir = place.root / "starts"
    data_dir.mkdir()
    (data_dir / "up.lock").write_text(str(os.getpid()))
    with pytest.raises(NotReady, match=rf"pid {os.getpid()}\) is starting or stopping"):
        place.find(data_dir=data_dir)
    for text in (str(dead_pid), "", "x"):
        (data_dir / "up.lock").write_text(text)
        with pytest.raises(RuntimeNotFound, match="no runtime is running"):
            place.find(data_dir=data_dir)


def test_the_nearest_folder_upward_is_found(place: Place) -> None:
    place.runtime(place.root / ".helmr", 1001)
    place.runtime(place.root / "work" / ".helmr", 1002)
    place.runtime(place.root / "elsewhere", 1003)
    assert nearest_data_dir(place.cwd) == place.root / "work" / ".helmr"
    found = place.find()
    assert (found.key, found.found_by) == ("key-1002", ".helmr/")


def test_the_nearest_folder_decides_also_when_its_runtime_is_down(
    place: Place, dead_pid: int
) -> None:
    place.runtime(place.root / "elsewhere", 1001)
    place.runtime(place.cwd / ".helmr", 1002, pid=dead_pid)
    with pytest.raises(RuntimeNotFound, match=str(place.cwd)):
        place.find()


def test_the_only_live_pointer_is_taken(place: Place, dead_pid: int) -> None:
    place.runtime(place.root / "a", 1001)
    place.runtime(place.root / "b", 1002, pid=dead_pid)
    found = place.find()
    assert (found.key, found.found_by) == ("key-1001", "the only live runtime")


def test_several_live_pointers_are_ambiguous_and_listed(place: Place) -> None:
    place.runtime(place.root / "a", 1001)
    place.runtime(place.root / "b", 1002)
    with pytest.raises(AmbiguousRuntime) as caught:
        place.find()
    for part in ("http://127.0.0.1:1001", "http://127.0.0.1:1002", str(place.root / "a")):
        assert part in caught.value.message
    assert len(caught.value.facts["runtimes"]) == 2


def test_no_runtime_is_told_with_what_to_do(place: Place) -> None:
    with pytest.raises(RuntimeNotFound) as caught:
        place.find()
    assert "helmr up" in str(caught.value.hint)


def test_a_key_argument_beats_the_one_found(place: Place) -> None:
    place.runtime(place.root / "a", 1001)
    assert place.find(key="mine").key == "mine"
    assert place.find(url="http://127.0.0.1:1001", key="mine").key == "mine"


def test_a_url_with_a_key_reads_no_files(place: Place) -> None:
    place.runtime(place.root / "a", 1001)
    found = place.find(url="http://127.0.0.1:1001", key="mine")
    assert found.pid is None
    assert with_process(found, place.environ).pid == os.getpid()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"url": "x"}', '{"url":1,"key":"k","pid":1,"data_dir":"d"}']
)
def test_files_that_are_no_credentials_are_ignored(place: Place, text: str) -> None:
    (place.pointers / "1.json").write_text(text)
    (place.pointers / "1.json").chmod(0o600)
    place.runtime(place.root / "a", 1001)
    assert [one.url for one in live_runtimes(place.environ)] == ["http://127.0.0.1:1001"]


def test_credentials_that_others_may_write_are_refused(place: Place, caplog) -> None:
    place.runtime(place.root / "a", 1001)
    for path in (place.root / "a" / "credentials.json", place.pointers / "1001.json"):
        path.chmod(0o622)
    with pytest.raises(NotAllowed, match=r"credentials\.json"):
        place.find(data_dir=place.root / "a")
    with caplog.at_level(logging.WARNING, "helmr.client"), pytest.raises(RuntimeNotFound):
        place.find()
    assert "ignored" in caplog.text


def test_credentials_that_others_may_read_are_used_with_a_warning(place: Place, caplog) -> None:
    place.runtime(place.root / "a", 1001)
    (place.root / "a" / "credentials.json").chmod(0o644)
    with caplog.at_level(logging.WARNING, "helmr.client"):
        assert place.find(data_dir=place.root / "a").key == "key-1001"
    assert "chmod 600" in caplog.text


def test_a_process_that_began_after_the_file_was_written_is_another(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        now = tmp_path / "x"
        now.write_text("")
        written_at_s = now.stat().st_mtime
        assert is_live(process.pid, written_at_s=written_at_s)
        assert not is_live(process.pid, written_at_s=written_at_s - 3600)
        process.communicate(b"\n")
    assert not is_live(process.pid, written_at_s=written_at_s)


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_pids_that_are_none_are_not_live(pid: int) -> None:
    assert not is_live(pid, written_at_s=0)


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://h", "http://", "http://user@h", "http://h?x=1", "http://h:port", "http://["],
)
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(UsageError):
        normal_url(url)


def test_pointers_stand_where_xdg_says() -> None:
    assert pointer_dir({"XDG_STATE_HOME": "/s"}) == Path("/s/helmr/runtimes")
    assert pointer_dir({"HOME": "/h"}) == Path("/h/.local/state/helmr/runtimes")
    assert pointer_dir({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path(
        "/h/.local/state/helmr/runtimes"
    )
