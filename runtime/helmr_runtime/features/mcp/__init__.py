"""The Model Context Protocol at `POST /mcp`: tasks are tools, and clients get the questions of their waits (S-94).

`runs` starts and reads the runs of one caller, and translates waits and responses (pure). `calls` answers calls of task
tools and serves the Tasks extension. `tools` holds the tools, `server` puts them together for one request, `handlers`
has the route. The SDK of the extra `mcp` does the protocol; only `server` and its imports load it.

Nothing is kept between requests: a client's state is in the ledger, or sealed in what it carries.
"""

from __future__ import annotations

from helmr.features import mcp
from helmr_runtime.feature import Feature

FEATURE = Feature(face=mcp.FEATURE, handlers="helmr_runtime.features.mcp.handlers:HANDLERS")
