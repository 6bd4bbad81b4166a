"""The gateway's process."""

from __future__ import annotations

import os

from runtime.actors.boundary import Calls
from runtime.actors.gateway import GatewayActor, make_gateway
from runtime.actors.spec import RuntimeSpec
from runtime.security.keys import read_key_ring


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> GatewayActor:
    """A gateway that serves."""
    gateway = make_gateway(
        calls,
        host=spec.host,
        version=spec.version,
        data_dir=spec.data_dir,
        admin_key_hash=spec.admin_key_hash,
        ring=read_key_ring(spec.ring_path, os.environ),
        base_url=spec.base_url,
    )
    await gateway.start(spec.host, spec.port)
    return gateway
