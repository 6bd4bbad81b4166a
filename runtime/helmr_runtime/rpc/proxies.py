"""An actor as the port that it implements: each method of the port is a call to the actor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache, partial
from typing import Any, cast

from helmr_runtime.ports import Directory, Host, Ledger
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.rpc.protocol import DIRECTORY, LEDGER, Calls


class Proxy:
    """An actor by name; has the methods of a port and no others."""

    def __init__(self, calls: Calls, name: str, port: type) -> None:
        self._calls = calls
        self.name = name
        self._methods = methods_of(port)

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the actor."""
        return await self._calls.call(self.name, method, *args, **kwargs)

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if method not in self._methods:
            raise AttributeError(f"{self.name} is called by its port, which has no {method}")
        return partial(self.call, method)


@cache
def methods_of(port: type) -> frozenset[str]:
    """The methods of a port."""
    return frozenset(
        name for name, value in vars(port).items() if callable(value) and name[0] != "_"
    )


def ledger(calls: Calls) -> Ledger:
    """The ledger, for hosts and the directory."""
    return cast(Ledger, Proxy(calls, LEDGER, Ledger))


def ledger_client(calls: Calls) -> LedgerClient:
    """The ledger, for the service."""
    return cast(LedgerClient, Proxy(calls, LEDGER, LedgerClient))


def host(calls: Calls, name: str) -> Host:
    """The host with that name."""
    return cast(Host, Proxy(calls, name, Host))


def directory(calls: Calls) -> Directory:
    """The directory."""
    return cast(Directory, Proxy(calls, DIRECTORY, Directory))
