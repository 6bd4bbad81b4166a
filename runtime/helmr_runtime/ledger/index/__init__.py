"""What a ledger knows, in memory: pure. Heads, tokens, keys, features, and the work that is to be done."""
