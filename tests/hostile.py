"""Text that tries to act on whoever reads it: what a session may say at worst."""

from __future__ import annotations

import unicodedata

OSC_52 = "\x1b]52;c;aGFja2Vk\x07"
OSC_0 = "\x1b]0;owned\x07"
CSI = "\x1b[2J\x1b[31mred\x1b[0m"
C1 = "\x9b31m\x9d0;owned\x9c"
BIDI = "\u202egnp.exe\u2066x\u2069"
MARKUP = "[@click=app.quit]see details[/] [bold]x[/bold] [link=http://x]y[/link]"
HOSTILE = f"{OSC_52}{OSC_0}{CSI}{C1}{BIDI}\u200b{MARKUP}\x00\x7f"


def hidden(text: str) -> list[str]:
    """Characters that a terminal could obey or a person could not see."""
    return [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
