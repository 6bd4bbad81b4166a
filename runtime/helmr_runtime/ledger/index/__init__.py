"""What a ledger knows, in memory: pure. Heads, tokens, keys, schedules, and the work that is to be done."""
