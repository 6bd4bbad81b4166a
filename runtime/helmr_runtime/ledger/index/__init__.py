"""The ledger's in-memory index, pure: heads, tokens, keys, features and the work list."""
