"""The ledger's DuckDB file: schema, one writer, projections, restore and reads."""
