"""A Ray driver that uses handles on sessions: `python -m tests.stack.handles RESULT`; options are JSON on its input.

A process of its own, as Ray's state is one per process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray

import helmr.ray
from helmr.client import Client
from helmr.errors import HelmrError


def raised(act: Callable[[], Any]) -> dict[str, Any]:
    """What went wrong: the class that an `except` would name, and the facts."""
    try:
        act()
    except HelmrError as error:
        found = getattr(error, "cause", error)  # Ray wraps what comes by a ref
        return {"type": type(found).__name__, "code": error.code, "facts": dict(found.facts)}
    raise AssertionError("nothing was raised")


def without_a_runtime() -> dict[str, Any]:
    """In a process that is connected to nothing, and in a cluster of its own."""
    handle = helmr.ray.session("ses_" + "0" * 26)
    said = {"unconnected": raised(lambda: handle.get.remote())}
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        return {**said, "no_runtime": raised(lambda: handle.send.remote("messages", 1))}
    finally:
        ray.shutdown()


def answered(client: Client) -> dict[str, Any]:
    """A wait is answered by a handle, and by another again."""
    started = client.sessions.start_and_wait("contract-review", {"title": "A"})
    handle = helmr.ray.session(started.id, on_behalf_of="anna")
    wait = ray.get(handle.get.remote()).wait
    assert wait is not None
    other = helmr.ray.session(client.sessions.start("contract-echo", 0).id)
    elsewhere = raised(lambda: ray.get(other.answer.remote(wait.id, {"decision": "approve"})))
    wrong = raised(lambda: ray.get(handle.answer.remote(wait.id, {"nothing": 1})))
    receipt = ray.get(handle.answer.remote(wait.id, {"decision": "approve"}))
    late = raised(lambda: ray.get(handle.answer.remote(wait.id, {"decision": "reject"})))
    run = ray.get(handle.wait.remote(timeout="30s"))
    entries = ray.get(handle.transcript.remote())
    [given] = [one for one in entries if one.kind == "input.accepted"]
    return {
        "outcome": receipt.outcome.value,
        "wrong": wrong,
        "late": late,
        "elsewhere": elsewhere,
        "status": run.status.value,
        "seqs": [one.seq for one in entries],
        "after": [one.seq for one in ray.get(handle.transcript.remote(after=entries[1].seq))],
        "principal": [given.principal.type, given.principal.id, given.principal.on_behalf_of],
    }


def sent_and_completed(client: Client) -> dict[str, Any]:
    """Input by an actor that was given the handle; a token's completion."""
    handle = helmr.ray.session(client.sessions.start("contract-echo", 1).id)
    sender: Any = Sender.remote()  # type: ignore[attr-defined]
    twice = ray.get([sender.send.remote(handle, "op-" + handle.id) for _ in range(2)])
    token = client.tokens.create(timeout="1h")
    waiting = helmr.ray.session(client.sessions.start("contract-token", token.id).id)
    completed = ray.get(waiting.complete.remote(token.id, {"go": True}))
    return {
        "seqs": [one.seq for one in twice],
        "streams": [one.stream for one in twice],
        "completed": completed.outcome.value,
        "run": ray.get(waiting.wait.remote(timeout="30s")).status.value,
    }


@ray.remote(num_cpus=0)
class Sender:
    """An async actor, which awaits refs."""

    async def send(self, handle: helmr.ray.RaySession, key: str) -> Any:
        """One record, whoever asks again."""
        refs = [handle.send.remote("words", "hello", idempotency_key=key) for _ in range(2)]
        first, again = await asyncio.gather(*refs)
        assert first.record_id == again.record_id, (first, again)
        return first


def refused(client: Client, folder: Path) -> dict[str, Any]:
    """Wrong ids, keys, streams, versions."""
    session_id = client.sessions.start("contract-echo", 0).id
    unknown = helmr.ray.session("ses_" + "0" * 26)
    keyed = helmr.ray.session(session_id, key="hlm_" + "x" * 40)
    viewer = client.keys.create("viewer", name="looks on")
    looks_on = helmr.ray.session(session_id, key=viewer.secret)
    with patch("helmr.ray.version", lambda: "0.0.0"):
        other = raised(lambda: ray.get(helmr.ray.session(session_id).get.remote()))
    return {
        "unknown": raised(lambda: ray.get(unknown.get.remote())),
        "unknown_send": raised(lambda: ray.get(unknown.send.remote("words", "x"))),
        "wrong_key": raised(lambda: ray.get(keyed.get.remote())),
        "may_read": ray.get(looks_on.get.remote()).id == session_id,
        "may_not": raised(lambda: ray.get(looks_on.send.remote("words", "x"))),
        "no_stream": raised(lambda: ray.get(helmr.ray.session(session_id).send.remote("no", 1))),
        "no_json": raised(lambda: helmr.ray.session(session_id).send.remote("words", object())),
        "other_version": other,
        "bad_id": raised(lambda: helmr.ray.session("run_1")),
    }


def outlived(client: Client, killed: Callable[[], None]) -> dict[str, Any]:
    """Calls that are under way when the gateway's process ends."""
    started = client.sessions.start_and_wait("contract-review", {"title": "B"})
    handle = helmr.ray.session(started.id)
    wait = ray.get(handle.get.remote()).wait
    assert wait is not None
    ended = handle.wait.remote()
    ray.wait([ended], timeout=0.5)
    killed()
    receipt = ray.get(handle.answer.remote(wait.id, {"decision": "approve"}), timeout=60)
    return {
        "outcome": receipt.outcome.value,
        "status": ray.get(ended, timeout=60).status.value,
    }


def page(path: str, client: Client) -> str:
    """What the page's example says."""
    spec = importlib.util.spec_from_file_location("docs_ray", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_ray"] = module
    spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)
    started = client.sessions.start("train-and-ask", {"rate": 0.5, "rounds": 4})
    return str(ray.get(module.publish.remote(started.id), timeout=60))


def main(options: dict[str, Any]) -> dict[str, Any]:
    """All of it; without an address what there is to see without a runtime."""
    if options["address"] is None:
        return without_a_runtime()
    ray.init(address=options["address"], log_to_driver=False, configure_logging=False)
    said: dict[str, Any] = {"job": ray.get_runtime_context().get_job_id()}
    with Client() as client:
        said["answered"] = answered(client)
        said["sent"] = sent_and_completed(client)
        said["refused"] = refused(client, Path(sys.argv[1]).parent)
        said["page"] = page(options["page"], client)
        said["outlived"] = outlived(client, lambda: os.kill(options["gateway"], 9))
    return said


if __name__ == "__main__":
    found = main(json.load(sys.stdin))
    Path(sys.argv[1]).write_text(json.dumps(found))
