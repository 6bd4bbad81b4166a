"""A page's Python blocks as one module, and their tests, where nothing but what the page installs is there.

The page comes first, then what must not be installed.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.M | re.S)

page, *absent = sys.argv[1:]
for name in absent:
    assert importlib.util.find_spec(name) is None, name
blocks = BLOCK.findall(Path(page).read_text(encoding="utf-8"))
Path("shown.py").write_text("\n\n".join(blocks), encoding="utf-8")
sys.path.insert(0, os.getcwd())
tests = [f for name, f in vars(importlib.import_module("shown")).items() if name[:5] == "test_"]
assert tests
for test in tests:
    asyncio.run(test())
