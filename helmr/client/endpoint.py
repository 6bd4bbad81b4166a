"""Where a runtime is: what finding one gives, and what a transport is made for."""

from __future__ import annotations

from dataclasses import dataclass, field

from helmr.client import here

RAY = "ray"
"""As a URL: the runtime in the Ray cluster that this process is connected to, and no other."""

HARNESS_URL = "http://harness"
BY_HARNESS = "the harness"
"""Of a test's harness; nothing listens there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A runtime: where it answers, the key for it, and its process if it is of this machine.

    The URL `ray` is no address: this process calls the runtime's actors. Nor is that of a test's harness, which is
    `here`.
    """

    url: str
    key: str | None
    found_by: str
    pid: int | None = None
    data_dir: str | None = None
    here: here.Here | None = field(default=None, repr=False, compare=False)

    @property
    def is_ray(self) -> bool:
        """True if its actors are called, in the Ray cluster of this process."""
        return self.url == RAY
