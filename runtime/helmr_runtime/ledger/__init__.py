"""The ledger stores entries: an index of heads in memory, DuckDB on disk, plain lists for tests."""
