"""Keys, secrets, callbacks, roles and limits: what stands between the outside world and the service.

Every module here is functions and small objects without a server, a loop or a database; routes, ledger and
actors call them. Cryptography comes from the `cryptography` package and hashlib, none of it is our own.
"""
