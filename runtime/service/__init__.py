"""The operations, once: HTTP, Ray clients and tests all reach a session through here.

`Service` holds them by noun. Each takes who asks (`Caller`), ids and request models, and returns
answer models; nothing here knows HTTP. A 2xx answer is built from a return, so every mutating
operation returns only what is on disk (S-60).
"""

from runtime.service.caller import Caller
from runtime.service.ledger import LedgerReads
from runtime.service.service import Service

__all__ = ["Caller", "LedgerReads", "Service"]
