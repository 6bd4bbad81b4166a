"""A target of notices: appends what it is told to a file, and when."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

line = json.dumps({"at_s": time.time(), "event": json.load(sys.stdin)})
with Path(sys.argv[1]).open("a", encoding="utf-8") as file:
    file.write(line + "\n")
