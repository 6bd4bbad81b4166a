"""The DuckDB side: entries and the tables folded from them, read and written on the caller's connection."""
