"""Sessions under a limit against a provider that counts, while the runtime's processes are killed (S-119)."""
