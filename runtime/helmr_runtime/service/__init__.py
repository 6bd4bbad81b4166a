"""The operations, once: HTTP, Ray clients and tests all reach a session through here.

`Service` holds them by noun. Each takes a `Caller`, ids and request models, and returns answer models; nothing here
knows HTTP. A 2xx answer is built from a return, so a mutating operation returns only once its effect is on disk (S-60).
"""

from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.service import Service, ServiceOptions

__all__ = ["Caller", "LedgerClient", "Service", "ServiceOptions"]
