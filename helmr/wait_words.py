"""Words about a wait that the command line and the console share; texts of a session in them are not made safe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from helmr import durations


def rung_text(rung: Mapping[str, Any]) -> str:
    """A rung of a ladder as the wire has it: `default after 1d 12h: false`."""
    what = {
        "assign": f" to {rung.get('to')}",
        "default": f": {json.dumps(rung.get('value'), ensure_ascii=False)}",
    }
    since = " of its newest assignment" if rung.get("from") == "assigned" else ""
    after = durations.spell(float(rung["after_s"]))
    return f"{rung['do']} after {after}{since}{what.get(rung['do'], '')}"
