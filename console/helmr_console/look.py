"""The console's colours by role, as Textual themes and as styles for widgets that draw their own lines.

Colour only repeats what a sign and a word say. Every shipped palette keeps a contrast of 4.5 to 1 for text and 3 to 1
for borders; a test computes it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme

DEFAULT_THEME = "helmr-dark"
TERMINAL_THEME = "helmr-terminal"
"""Uses the sixteen colours of the user's terminal."""


@dataclass(frozen=True, slots=True)
class Palette:
    """One colour per role, `#rrggbb`."""

    background: str
    surface: str
    cursor: str
    foreground: str
    muted: str
    border: str
    accent: str
    success: str
    warning: str
    error: str
    dark: bool = True

    def texts(self) -> tuple[str, ...]:
        """Roles that are drawn as text."""
        return ("foreground", "muted", "accent", "success", "warning", "error")

    def grounds(self) -> tuple[str, ...]:
        """Roles that text is drawn on."""
        return ("background", "surface", "cursor")

    def colours(self) -> dict[str, str]:
        """Role to colour."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "dark"}


_DARK = Palette(
    background="#10151b",
    surface="#161d25",
    cursor="#22303f",
    foreground="#dbe2ea",
    muted="#96a3b0",
    border="#677686",
    accent="#79c0ff",
    success="#6fdd8b",
    warning="#f2bf4d",
    error="#ff9088",
)

PALETTES: dict[str, Palette] = {
    "helmr-dark": _DARK,
    "helmr-light": Palette(
        background="#fbfaf7",
        surface="#f1efe9",
        cursor="#dde7f3",
        foreground="#1d2329",
        muted="#525c66",
        border="#7f8891",
        accent="#064b9a",
        success="#0f5a27",
        warning="#6e4500",
        error="#a3151f",
        dark=False,
    ),
    "helmr-contrast": Palette(
        background="#000000",
        surface="#000000",
        cursor="#003a5c",
        foreground="#ffffff",
        muted="#d6d6d6",
        border="#ffffff",
        accent="#7fe3ff",
        success="#8dff9a",
        warning="#ffe14d",
        error="#ffb0a8",
    ),
    # Okabe and Ito's colours: success is blue and error is pink, so red and green never meet.
    "helmr-redgreen": Palette(
        background="#10151b",
        surface="#161d25",
        cursor="#2a3036",
        foreground="#dbe2ea",
        muted="#a0a8b0",
        border="#727a82",
        accent="#e9edf2",
        success="#6cc1f0",
        warning="#f0b93a",
        error="#f09fc8",
    ),
    "helmr-blueyellow": Palette(
        background="#10151b",
        surface="#161d25",
        cursor="#352b33",
        foreground="#e6e2e2",
        muted="#aaa3a6",
        border="#7c7478",
        accent="#f0e6ea",
        success="#6fdcc8",
        warning="#ffb3d1",
        error="#ff8a80",
    ),
}

THEMES = (*PALETTES, TERMINAL_THEME)

TEXT_RATIO_MIN = 4.5
BORDER_RATIO_MIN = 3.0
"""WCAG 2.2, 1.4.3 and 1.4.11."""


def contrast(one: str, other: str) -> float:
    """The WCAG contrast ratio of two colours, 1 to 21."""
    first, second = _luminance(one), _luminance(other)
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


_TERMINAL = {
    "muted": "bright_black",
    "border": "bright_black",
    "accent": "cyan",
    "success": "green",
    "warning": "yellow",
    "error": "red",
}
BOLD_ROLES = frozenset(("strong", "error"))


def themes() -> list[Theme]:
    """All themes, ready to register."""
    return [*(_theme(name, palette) for name, palette in PALETTES.items()), _terminal()]


def default_variables() -> dict[str, str]:
    """CSS variables that every theme has; Textual reads the style sheet before the theme is set."""
    return _variables(PALETTES["helmr-dark"])


def style(theme: str, role: str, *, ground: str = "") -> Style:
    """Style for text of a role; `ground` is the background's role, the widget's own if empty."""
    palette = PALETTES.get(theme)
    bold = True if role in BOLD_ROLES else None
    if palette is None:
        colour = _TERMINAL.get(role)
        reverse = True if ground == "cursor" else None
        return Style(color=colour, bold=bold, reverse=reverse)
    colours = palette.colours()
    return Style(
        color=colours.get(role, palette.foreground),
        bgcolor=colours.get(ground) if ground else None,
        bold=bold,
    )


def _theme(name: str, palette: Palette) -> Theme:
    return Theme(
        name=name,
        primary=palette.accent,
        secondary=palette.muted,
        accent=palette.accent,
        warning=palette.warning,
        error=palette.error,
        success=palette.success,
        foreground=palette.foreground,
        background=palette.background,
        surface=palette.surface,
        panel=palette.surface,
        dark=palette.dark,
        variables=_variables(palette),
    )


def _variables(palette: Palette) -> dict[str, str]:
    named = {f"c-{role}": colour for role, colour in palette.colours().items()}
    return {
        **named,
        "border": palette.border,
        "border-blurred": palette.border,
        "block-cursor-background": palette.cursor,
        "block-cursor-foreground": palette.foreground,
        "block-cursor-blurred-background": palette.cursor,
        "block-cursor-blurred-foreground": palette.foreground,
        "input-cursor-background": palette.foreground,
        "input-cursor-foreground": palette.background,
        "input-selection-background": palette.cursor,
        "scrollbar": palette.border,
        "scrollbar-background": palette.background,
        "scrollbar-background-hover": palette.background,
        "scrollbar-background-active": palette.background,
        "scrollbar-hover": palette.muted,
        "scrollbar-active": palette.accent,
        "scrollbar-corner-color": palette.background,
    }


def _terminal() -> Theme:
    base = BUILTIN_THEMES["ansi-dark"]
    named = {
        "c-background": "ansi_default",
        "c-surface": "ansi_default",
        "c-cursor": "ansi_bright_black",
        "c-foreground": "ansi_default",
        "c-muted": "ansi_bright_black",
        "c-border": "ansi_bright_black",
        "c-accent": "ansi_cyan",
        "c-success": "ansi_green",
        "c-warning": "ansi_yellow",
        "c-error": "ansi_red",
    }
    return Theme(
        name=TERMINAL_THEME,
        ansi=True,
        primary=base.primary,
        secondary=base.secondary,
        warning=base.warning,
        error=base.error,
        success=base.success,
        accent=base.accent,
        foreground=base.foreground,
        background=base.background,
        surface=base.surface,
        panel=base.panel,
        boost=base.boost,
        variables={**base.variables, **named},
    )
