"""Tables of `helmr.toml` for a runtime with a gate."""

from __future__ import annotations

import tomllib
from typing import Any

from helmr.matching import DeclaredRule, rules_toml


def sections(*rules: DeclaredRule) -> dict[str, Any]:
    """The table `[gate]` with these rules, as a file holds it."""
    return tomllib.loads(rules_toml(rules))
