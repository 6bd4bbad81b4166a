"""Every call between actors goes through runtime/helmr_runtime/rpc/ray.py.

That module counts the calls and translates their errors; ruff cannot ban a method by name.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ports import Directory, Host
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.rpc.calls import methods_of
from helmr_runtime.session.host import HostActor

HOME = Path("runtime/helmr_runtime/rpc/ray.py")
USER_CODE = Path("helmr/examples/fan_out.py")
"""A task that hands work of its own to Ray, as users' tasks do."""
HANDLES = Path("helmr/ray.py")
"""What a user's Ray program calls from its own process: one method of the gateway actor."""
PACKAGES = ("helmr", "runtime", "console")


def remote_uses(source: str) -> list[int]:
    """The lines that reach for an actor's or a Ray function's `.remote`.

    `ray.remote`, which declares an actor and calls nothing, is no use.
    """
    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="ray"), attr="remote"):
                continue
            case ast.Attribute(attr="remote"):
                lines.append(node.lineno)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant("remote"), *_]):
                lines.append(node.lineno)
            case _:
                continue
    return sorted(lines)


def test_remote_has_one_home(project_root: Path) -> None:
    found = [
        f"{path.relative_to(project_root)}:{line}: call it through helmr_runtime.rpc.ray"
        for package in PACKAGES
        for path in sorted((project_root / package).rglob("*.py"))
        if path.relative_to(project_root) not in (HOME, USER_CODE, HANDLES)
        for line in remote_uses(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "handle.commit.remote(flush)",
        "Ledger.options(name='ledger').remote()",
        "call = handle.commit.remote",
        "getattr(handle.commit, 'remote')(flush)",
        "[actor.ping.remote() for actor in pool]",
    ],
)
def test_the_check_sees_a_call(source: str) -> None:
    assert remote_uses(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "@ray.remote\nclass Ledger: ...",
        "Ledger = ray.remote(num_cpus=0)(LedgerActor)",
        "remote = 1",
        "'handle.commit.remote()'",
    ],
)
def test_the_check_lets_declarations_pass(source: str) -> None:
    assert remote_uses(source) == []


@pytest.mark.parametrize(
    ("actor", "port"), [(LedgerActor, Ledger), (HostActor, Host), (DirectoryActor, Directory)]
)
def test_an_actor_names_its_port_and_has_each_method_of_it(actor: type, port: type) -> None:
    """One that it lacked would be the protocol's, which does nothing and answers None."""
    assert port in actor.__mro__
    assert [name for name in sorted(methods_of(port)) if name not in vars(actor)] == []
