"""Palettes as Textual themes, and roles as styles for widgets that draw their own lines."""

from __future__ import annotations

from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme

from helmr_console.themes import PALETTES, TERMINAL_THEME, Palette

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
    """How text of a role is drawn; `ground` is a role of its own, the widget's if empty."""
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
