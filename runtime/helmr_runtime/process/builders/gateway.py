"""The gateway's process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from helmr_runtime.clock import SystemClock
from helmr_runtime.notices.sending import Sender
from helmr_runtime.notices.targets import Target, read_targets
from helmr_runtime.process import pointer_files
from helmr_runtime.process.gateway import GatewayActor, make_gateway
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.process.startup import local_key
from helmr_runtime.rpc.calls import Calls
from helmr_runtime.security.keys import read_key_ring


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> GatewayActor:
    """A gateway that serves; one of a joined runtime also tells local programs of itself."""
    gateway = make_gateway(
        calls,
        host=spec.host,
        version=spec.version,
        data_dir=spec.data_dir,
        admin_key_hash=spec.admin_key_hash,
        ring=read_key_ring(spec.ring_path, os.environ),
        base_url=spec.base_url,
        trusted_proxies=spec.trusted_proxies,
        is_published=partial(_is_published, spec),
        notice_targets=_notice_targets(spec),
        sends_metrics=spec.metrics,
    )
    if spec.serves_http:
        await gateway.start(spec.host, spec.port)
        if spec.is_joined:
            _publish(spec)
    return gateway


def _notice_targets(spec: RuntimeSpec) -> Sequence[tuple[Target, Sender]]:
    targets = read_targets(spec.notices, "helmr.toml")
    if not targets:
        return []
    from helmr_runtime.notices.senders import sender_of  # noqa: PLC0415 - most runtimes tell nobody, and mail and HTTP clients take time

    return [(one, sender_of(one, os.environ, SystemClock().now)) for one in targets]


def _is_published(spec: RuntimeSpec) -> bool:
    return not spec.serves_http or pointer_files.is_published(Path(spec.data_dir))


def _publish(spec: RuntimeSpec) -> None:
    assert spec.pointer_dir is not None, "a joined runtime has one"
    data_dir = Path(spec.data_dir)
    found = pointer_files.credentials(
        spec.host, spec.port, key=local_key(data_dir), data_dir=data_dir
    )
    pointer_files.publish(found, Path(spec.pointer_dir))
