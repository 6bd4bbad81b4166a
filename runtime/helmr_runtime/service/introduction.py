"""What a gateway says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a gateway says of itself to a Ray job that comes to do without it."""

    version: str
    started_at: datetime
    data_dir: str | None = None
    base_url: str = ""
    pid: int = field(default_factory=os.getpid)
