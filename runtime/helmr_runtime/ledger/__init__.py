"""Where the ledger keeps what happened: the index of heads in memory, DuckDB on disk, lists for tests."""
