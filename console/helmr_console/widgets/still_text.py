"""A text that moves nothing while it says the same, or something else that is as high."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class StillText(Static):
    """Content that is said often: each second, at each key.

    A `Static` lays the whole screen out anew with each update; this one only if its height changes.
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(Content(""), id=id, classes=classes, markup=False)
        self._shown = Content("")

    def say(self, content: Content) -> None:
        """Show this."""
        shown, self._shown = self._shown, content
        if content.plain == shown.plain and content.spans == shown.spans:
            return
        width = self.content_size.width
        is_as_high = width > 0 and self._height(shown, width) == self._height(content, width)
        self.update(content, layout=not is_as_high)

    def _height(self, content: Content, width: int) -> int:
        return content.get_height(self.styles.get_rules(), width)
