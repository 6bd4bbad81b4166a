"""Which wait is asked next, one by one: none that another is at, until nothing else is left. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence


class Round:
    """The waits that are asked one after the other.

    Args:
        wait_ids: The first ones.
        listed: What the list has now; what comes into it is asked behind the rest.
        is_claimed: Whether another is at this wait now; it is asked at the end.
        returned: Waits whose answer was not sent after all: they are asked again.
    """

    def __init__(
        self,
        wait_ids: Sequence[str],
        listed: Callable[[], Sequence[str]] = tuple,
        is_claimed: Callable[[str], bool] = lambda wait_id: False,
        returned: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._left = deque(wait_ids)
        self._listed = listed
        self._is_claimed = is_claimed
        self._returned = returned
        self._known = {*wait_ids, *listed()}
        self.asked = 0

    @property
    def count(self) -> int:
        """How many there are, asked ones too."""
        return self.asked + len(self._left)

    def next(self, open_ids: Collection[str]) -> str | None:
        """The next one that is still open; None if there is none."""
        wait_id = self.coming(open_ids)
        if wait_id is not None:
            self._left.remove(wait_id)
            self.asked += 1
        return wait_id

    def coming(self, open_ids: Collection[str]) -> str | None:
        """The one that `next` would give."""
        came = [one for one in self._listed() if one in open_ids and one not in self._known]
        self._known.update(came)
        self._left.extend(came)
        self._left.extend(one for one in self._returned() if one not in self._left)
        self._left = deque(one for one in self._left if one in open_ids)
        free = (one for one in self._left if not self._is_claimed(one))
        return next(free, self._left[0] if self._left else None)

    def again(self, *wait_ids: str) -> None:
        """These come next, in this order."""
        self._left.extendleft(reversed(wait_ids))
