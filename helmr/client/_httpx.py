"""httpx without its command line.

Where click is installed, `import httpx` also loads its `httpx` command, and with it rich's progress bars and
the index of pygments: 0.2 s of 0.35 s, for each command typed and each process that makes a client. With that
module marked as missing, httpx does as in an install without its `cli` extra. The mark goes away at once.
"""

from __future__ import annotations

import sys
from typing import Any

_COMMAND = "httpx._main"
_modules: dict[str, Any] = sys.modules

_is_marked = _COMMAND not in _modules
if _is_marked:
    _modules[_COMMAND] = None
try:
    import httpx
finally:
    if _is_marked:
        del _modules[_COMMAND]

__all__ = ["httpx"]
