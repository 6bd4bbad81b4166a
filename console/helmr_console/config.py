"""The user's own settings: `$XDG_CONFIG_HOME/helmr/console.toml`.

```
name = "prod-eu"  # shown in the header, so that a wrong window is noticed
theme = "helmr-light"
identity = "ana"  # who answers are recorded for; $USER without it
[keys]
answer = "A"  # an action's id and its keys, comma-separated
```

Filters, notices and profiles stand in it too: `helmr.profiles` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from helmr.errors import UsageError
from helmr.profiles import Profile, read_profile, read_settings, texts
from helmr_console.actions import BY_ID
from helmr_console.themes import DEFAULT_THEME, THEMES


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says."""

    name: str = ""
    theme: str = DEFAULT_THEME
    identity: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)


def read_config(environ: Mapping[str, str], profile: str | None = None) -> Config:
    """The file's settings; without a file the defaults.

    Args:
        profile: Instead of the one that the file names.

    Raises:
        UsageError: The file can't be read, or names a theme, profile or action that there is not.
    """
    found, path = read_settings(environ)
    keys = texts(found.get("keys"), path, "keys")
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
        profile=read_profile(environ, profile),
    )


def check_theme(name: str) -> str:
    """The theme's name.

    Raises:
        UsageError: There is none of that name; lists those there are.
    """
    if name not in THEMES:
        raise UsageError(f"there is no theme {name!r}", hint=f"Themes: {', '.join(THEMES)}.")
    return name
