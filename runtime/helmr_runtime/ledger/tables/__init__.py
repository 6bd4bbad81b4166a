"""What DuckDB holds: entries, and tables that are the fold of them. Reads and writes on a connection that is given."""
