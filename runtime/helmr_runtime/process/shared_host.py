"""The process of an actor that exists once, and in which no task code runs."""

from __future__ import annotations

from helmr_runtime.process.actor_host import ActorHost
from helmr_runtime.process.without_arrow import leave_out_arrow

# Ray imports this to find the class, before it reads the arguments, for which it would import Arrow.
leave_out_arrow()


class SharedHost(ActorHost):
    """An actor's process, without Arrow."""
