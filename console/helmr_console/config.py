"""The user's own settings: `$XDG_CONFIG_HOME/helmr/console.toml`.

```
name = "prod-eu"  # shown in the header, so that a wrong window is noticed
theme = "helmr-light"
identity = "ana"  # who answers are recorded for; $USER without it
[keys]
answer = "A"  # an action's id and its keys, comma-separated
[filters]
urgent = "due<10m"  # offered among the commands
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helmr.errors import UsageError
from helmr_console.actions import BY_ID
from helmr_console.themes import DEFAULT_THEME, THEMES

CONFIG_BYTES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says."""

    name: str = ""
    theme: str = DEFAULT_THEME
    identity: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)


def read_config(path: Path) -> Config:
    """The file's settings; without a file the defaults.

    Raises:
        UsageError: The file can't be read, or names a theme or action that there is not.
    """
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise UsageError(f"{path} is over {CONFIG_BYTES_MAX} bytes")
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    keys = _texts(found.get("keys"), path, "keys")
    unknown = sorted(set(keys) - set(BY_ID))
    if unknown:
        raise UsageError(
            f"{path}: there is no action {unknown[0]!r}",
            hint="F1 in the console lists them by key.",
        )
    return Config(
        name=str(found.get("name", "")),
        theme=check_theme(str(found.get("theme", DEFAULT_THEME))),
        identity=str(found.get("identity", "")),
        keys=keys,
        filters=_texts(found.get("filters"), path, "filters"),
    )


def check_theme(name: str) -> str:
    """The theme's name.

    Raises:
        UsageError: There is none of that name; lists those there are.
    """
    if name not in THEMES:
        raise UsageError(f"there is no theme {name!r}", hint=f"Themes: {', '.join(THEMES)}.")
    return name


def _texts(found: Any, path: Path, name: str) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise UsageError(f"{path}: [{name}] holds texts only")
    return {str(key): str(value) for key, value in found.items()}
