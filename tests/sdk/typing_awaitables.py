"""What mypy refuses of waits that are not awaited, with its error code `unused-awaitable`; checked by `test_typing.py`.

Both checkers know a coroutine by its class alone: a wait, which also has `unwrap`, is none to them. pyright has no rule
for it.
"""

# mypy: enable-error-code="unused-awaitable"

from __future__ import annotations

from helmr import streams, tokens

approval = streams.input("approval", schema=bool)


async def forgets() -> None:
    approval.wait()  # type: ignore[unused-awaitable]
    approval.wait(timeout="1h", schema=str)  # type: ignore[unused-awaitable]
    tokens.wait("tok_1")  # type: ignore[unused-awaitable]
