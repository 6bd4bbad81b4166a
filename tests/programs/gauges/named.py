"""A feature, and the words that its name in code is known by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from tests.programs.gauges.names import words
from tests.programs.gauges.shape import PACKAGES


@dataclass(frozen=True)
class Named:
    """`NAMED` of `tests/features/NAME/named.py`: words that mean the feature and nothing else.

    Attributes:
        words: Each is a word or several joined by underscores, as they stand in a name.
        folders: Those that are its own today, from the checkout.
        besides: Names that hold such a word in another sense, in lower case with underscores.
        outside_max: Files outside of its folders that name it, at most: `tests/features/test_named_outside.py`.
    """

    name: str
    words: tuple[str, ...]
    folders: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    outside_max: int = 0

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(?:^|_)(?:{'|'.join(self.words)})(?:_|$)")

    def is_in(self, name: str) -> bool:
        """True if the name holds one of its words."""
        plain = "_".join(words(name))
        return plain not in self.besides and self._pattern.search(plain) is not None

    @cached_property
    def own_folders(self) -> tuple[str, ...]:
        """Where it may be named."""
        houses = (f"{folder}/{package}".removeprefix("./") for package, folder in PACKAGES.items())
        return (*(f"{house}/features/{self.name}/" for house in houses), *self.folders)

    def owns(self, path: str) -> bool:
        """True for a file in its folders."""
        return path.startswith(self.own_folders)
