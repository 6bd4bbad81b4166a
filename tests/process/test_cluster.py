"""Which Ray cluster is joined."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmr.errors import Unavailable, UsageError
from helmr.version import ray_untried
from helmr_runtime.launchers.cluster import Cluster


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"127.0.0.1:1"}, "no Ray cluster answers at .*:1:"),
        (set(), "no Ray cluster is found"),
    ],
)
def test_auto_is_looked_up_and_must_answer_as_any_other(
    found: set[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    services = "ray._private.services"
    monkeypatch.setattr(f"{services}.find_gcs_addresses", lambda: found)
    monkeypatch.setattr(f"{services}.find_bootstrap_address", lambda temp_dir: None)
    with pytest.raises(Unavailable, match=says):
        Cluster(tmp_path, "auto").start()


@pytest.mark.timeout(30)
def test_another_ray_is_warned_of_and_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ray.__version__", "2.99.1")
    with pytest.raises(Unavailable, match="no Ray cluster answers"):
        Cluster(tmp_path, "127.0.0.1:1").start()
    assert "not with 2.99.1" in caplog.text


def test_the_ray_that_is_pinned_was_tried(project_root: Path) -> None:
    pins = (project_root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    [pinned] = [one.removeprefix("ray==") for one in pins if one.startswith("ray==")]
    assert ray_untried(pinned) is None


def test_room_is_what_the_nodes_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {"CPU": 2.0, "session_host": 3.0}
    monkeypatch.setattr("ray.cluster_resources", lambda: offered)
    assert Cluster(tmp_path, "127.0.0.1:1").room() == 3
    del offered["session_host"]
    with pytest.raises(UsageError, match="offers session_host"):
        Cluster(tmp_path, "127.0.0.1:1").room()


def test_a_ray_that_can_not_be_imported_any_more_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes the environment of a runtime can still end it."""
    ended: list[dict[str, bool]] = []

    class Node:
        def dead_processes(self) -> list[tuple[str, object]]:
            return []

        def kill_all_processes(self, **how: bool) -> None:
            ended.append(how)

    def shutdown() -> None:
        raise ModuleNotFoundError("No module named 'ray.dag'")

    monkeypatch.setattr("ray.shutdown", shutdown)
    cluster = Cluster(tmp_path)
    cluster._node = Node()
    cluster.stop()
    assert ended == [{"check_alive": False, "allow_graceful": False}]
