"""The SDK page names everything that is exported, with the signatures that the code has."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

import helmr
from helmr import embedded, experiments, testing
from helmr.client import Client, Input, Output, Retry, SessionHandle, sync
from helmr.client.sync import Sessions, Waits
from helmr.features import client_parts
from tests.docs.feature_pages import rendered

FOR_OURSELVES = {"dev", "docs", "servers"}
"""Extras of those who work on Helmr."""

SURFACE = [
    Client,
    Sessions,
    SessionHandle,
    Input,
    Output,
    sync.Runs,
    Waits,
    sync.Tasks,
    sync.Streams,
    sync.NamedLimits,
    sync.Bulk,
    sync.Tokens,
    sync.Auth,
    *(resolve_name(blocking) for _, (_, blocking) in client_parts()),
    sync.Notices,
    sync.Keys,
    sync.People,
]
FUNCTIONS = [
    helmr.task,
    helmr.step,
    helmr.step_call,
    helmr.step_key,
    helmr.in_run,
    helmr.ask_approval,
    helmr.streams.input,
    helmr.streams.output,
    helmr.InputStream.wait,
    helmr.InputStream.iter,
    helmr.InputStream.peek,
    helmr.InputStream.history,
    helmr.OutputStream.append,
    helmr.timers.sleep,
    helmr.timers.until,
    helmr.TaskContext.continue_as,
    embedded.start,
    testing.Harness.start,
    testing.Harness.advance,
    testing.Harness.settle,
    testing.Harness.entries,
    testing.Harness.async_client,
    testing.Harness.client,
    testing.Harness.replace,
    testing.Harness.replay,
    testing.HarnessSession.send,
    testing.HarnessSession.answer,
    testing.HarnessSession.wait,
    testing.HarnessSession.run,
    testing.HarnessSession.close,
    experiments.always,
    experiments.choose,
    experiments.ignore,
    experiments.replay,
    experiments.run,
    experiments.sweep,
]
CONSTRUCTORS = [Client, testing.Harness, Retry]


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "sdk.md").read_text(encoding="utf-8")


def test_every_export_is_on_the_page(page: str) -> None:
    missing = [name for name in helmr.__all__ if not re.search(rf"\b{name}\b", page)]
    assert missing == []


def test_every_export_of_experiments_is_on_the_page(page: str) -> None:
    missing = [name for name in experiments.__all__ if not re.search(rf"\b{name}\b", page)]
    assert missing == []


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__qualname__)
def test_functions_are_written_as_they_are(page: str, function: Callable[..., Any]) -> None:
    assert rendered(function) in page


@pytest.mark.parametrize("cls", CONSTRUCTORS, ids=lambda c: c.__qualname__)
def test_constructors_are_written_as_they_are(page: str, cls: type) -> None:
    assert rendered(vars(cls)["__init__"], cls.__name__) in page


@pytest.mark.parametrize("cls", SURFACE, ids=lambda c: c.__qualname__)
def test_every_method_of_the_client_is_written_as_it_is(page: str, cls: type) -> None:
    methods = [
        method
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]
    assert methods
    assert [m.__qualname__ for m in methods if f"`{rendered(m)}`" not in page] == []


def test_every_extra_for_users_is_on_the_page(page: str, project_root: Path) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    rows = re.findall(r"^\| (`helmr\[.+?) \| (.+) \|$", page, flags=re.M)
    told = {name: text for names, text in rows for name in re.findall(r"\[([a-z-]+)\]", names)}
    assert set(told) == set(extras) - FOR_OURSELVES
    [of_all] = [one.removeprefix("helmr[").removesuffix("]") for one in extras["all"]]
    assert set(of_all.split(",")) == set(re.findall(r"`([a-z]+)`", told["all"]))
