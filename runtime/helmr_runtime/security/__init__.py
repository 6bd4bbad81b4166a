"""Keys, secrets, callbacks, roles and limits: what stands between the outside and the service.

Functions and small objects without a server, a loop or a database; routes, ledger and actors call
them. Ciphers and key derivation come from `cryptography`, HMAC and SHA-256 from the standard
library.
"""
