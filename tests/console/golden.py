"""Screens as text: what stands on the terminal, and which role each stretch of it has.

The one place that reads Textual's compositor, so that an upgrade touches one file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from textual._context import visible_screen_stack
from textual.app import App
from textual.strip import Strip

from helmr_console import look
from helmr_console.look import PALETTES

FOLDER = Path(__file__).parent / "goldens"
ROLES = ("accent", "success", "warning", "error", "muted", "border")


def strips(app: App[object]) -> list[Strip]:
    """The lines on the terminal: where a screen is see-through, those of the one below it."""
    visible_screen_stack.set(app._background_screens)
    return [
        Strip.join(parts) if isinstance(parts, list) else parts
        for parts in app.screen._compositor.render_strips()
    ]


def screen_text(app: App[object]) -> str:
    """The screen as text, right-trimmed."""
    return "\n".join(strip.text.rstrip() for strip in strips(app))


def roles_text(app: App[object]) -> str:
    """Where each role stands: `line: role "text", …`, only what differs from plain text."""
    palette = PALETTES.get(app.theme)
    if palette is None:
        return ""
    names = {colour: role for role, colour in palette.colours().items() if role in ROLES}
    found = []
    for number, strip in enumerate(strips(app), start=1):
        runs: list[tuple[str, str]] = []
        for text, style, _ in strip:
            colour = style.color.get_truecolor().hex if style and style.color else ""
            role = names.get(colour, "")
            if runs and runs[-1][0] == role:
                runs[-1] = (role, runs[-1][1] + text)
            else:
                runs.append((role, text))
        # Frames say nothing.
        runs = [(role, re.sub("[─│╭╮╰╯]", "", text)) for role, text in runs]
        marked = [
            f"{role} {text.strip()!r}"
            for role, text in runs
            if role and text.strip() and role != "border"
        ]
        if marked:
            found.append(f"{number}: {', '.join(marked)}")
    return "\n".join(found)


_KEYS = re.compile(r"stp_[0-9a-f]{32}")


def steady(text: str) -> str:
    """The same text for every run: ids are replaced by as many x, step keys by a letter for each."""
    keys = {
        key: letter
        for letter, key in zip("abcdef", dict.fromkeys(_KEYS.findall(text)), strict=False)
    }
    text = _KEYS.sub(lambda m: f"stp_{keys.get(m[0], 'x') * 32}", text)
    text = re.sub(
        r"(ses|wait|run|rec|tok|note|op|pat|key)_[0-9a-z]{26}", lambda m: f"{m[1]}_{'x' * 26}", text
    )
    text = re.sub(r"(ses|wait|run)…[0-9a-z]{7}", lambda m: f"{m[1]}…{'x' * 7}", text)
    text = re.sub(r"stp_[0-9a-f]{32}", f"stp_{'x' * 32}", text)
    text = re.sub(r"ses_x{26}", f"ses_{'x' * 26}", text)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:4356", text)


def check(app: App[object], name: str, *, roles: bool = True) -> None:
    """Compare the screen with its golden; HELMR_UPDATE_GOLDENS=1 writes it instead."""
    text = steady(screen_text(app))
    if roles:
        text += "\n\n--- roles\n" + steady(roles_text(app))
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("HELMR_UPDATE_GOLDENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    if kept != text:
        path.with_suffix(".got.svg").write_text(
            app.export_screenshot(simplify=True), encoding="utf-8"
        )
    assert text == kept, f"{path.name} differs; HELMR_UPDATE_GOLDENS=1 writes it anew"


__all__ = ["check", "look", "roles_text", "screen_text", "steady", "strips"]
