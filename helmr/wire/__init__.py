"""What client and runtime agree on, and nothing that only one of them needs: operations, roles, ids, JSON, schemas.

Models and errors, which task code imports too, are `helmr.models` and `helmr.errors`.
"""
