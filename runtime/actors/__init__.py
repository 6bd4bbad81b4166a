"""The processes of a runtime: session actors, directory, ledger, gateway, and their supervisor.

Every actor is a plain class that knows nothing of Ray; `spawn` wraps it and `calls` is how it is
reached.
"""
