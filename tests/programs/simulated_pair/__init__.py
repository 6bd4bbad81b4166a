"""Two runtimes and the store of their log, simulated."""
