"""A module beside a task file: no Ray worker can import it."""

import ray


class TwoParts(Exception):
    """Can't be made again from its message alone."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what} {number}")
        self.number = number

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return (TwoParts, (str(self).split()[0], self.number))


def twice(number: int) -> int:
    return 2 * number


@ray.remote
def triple(number: int) -> int:
    return 3 * number
