"""For which session a host's crash counts."""

from __future__ import annotations

import pytest

from helmr_runtime.directory import failover
from helmr_runtime.directory.failover import ALONE_AFTER, Suspects


def test_with_one_suspect_the_crash_is_its_own() -> None:
    known = Suspects()
    assert known.judge(["s1"]) == "s1"
    assert known.alone == set()


def test_with_several_it_is_nobodys_until_they_were_suspect_twice() -> None:
    known = Suspects()
    assert known.judge(["s1", "s2"]) is None
    assert known.alone == set()
    assert known.judge(["s1", "s3"]) is None
    assert known.alone == {"s1"}
    assert known.judge(["s1"]) == "s1"


def test_without_suspects_it_counts_for_none() -> None:
    known = Suspects()
    for _ in range(ALONE_AFTER + 1):
        assert known.judge([]) is None
    assert known.alone == set()


def test_a_crash_of_its_own_is_no_suspicion() -> None:
    known = Suspects()
    for _ in range(ALONE_AFTER + 1):
        assert known.judge(["s1"]) == "s1"
    assert known.alone == set()


def test_what_is_settled_is_suspected_of_nothing() -> None:
    known = Suspects()
    known.judge(["s1", "s2"])
    known.is_settled("s1")
    known.judge(["s1", "s2"])
    assert known.alone == {"s2"}
    known.is_settled("s2")
    assert known.alone == set()
    known.judge(["s2", "s3"])
    assert known.alone == set()


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "KNOWN_MAX", 4)
    known = Suspects()
    known.judge(["s1", "s2"])
    known.judge(["s3", "s4"])
    known.judge(["s5", "s6"])
    known.judge(["s1", "s2"])
    assert known.alone == set()


def test_a_thread_left_behind_counts_only_in_a_host_with_no_other() -> None:
    known = Suspects()
    assert known.judge_threads(["s1"], is_alone=False) is None
    assert known.apart == set()
    known.is_settled("s1")  # it waits; its thread lives on
    assert known.judge_threads(["s1", "s2"], is_alone=False) is None
    assert known.apart == {"s1"}
    known.is_settled("s1")
    assert known.apart == {"s1"}
    assert known.judge_threads(["s1"], is_alone=True) == "s1"
