"""Bounds of messages and views that drawing keeps. Source: docs.slack.dev, Block Kit reference.

Slack refuses a message or view as a whole if one part of it is over a bound.
"""

from typing import Final

FALLBACK_CHARS_MAX: Final = 3_000
SECTION_CHARS_MAX: Final = 3_000
HEADER_CHARS_MAX: Final = 150
HINT_CHARS_MAX: Final = 2_000
BUTTON_CHARS_MAX: Final = 75
OPTION_CHARS_MAX: Final = 75
OPTIONS_MAX: Final = 100
FEW_OPTIONS_MAX: Final = 10
"""Of radio buttons and checkboxes."""
INPUT_CHARS_MAX: Final = 3_000
VIEW_TITLE_MAX: Final = 24
