"""Where the ledger keeps what happened: the book of heads in memory, DuckDB on disk, lists for tests."""
