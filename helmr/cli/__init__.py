"""The command line: a thin shell over `helmr.client`, one module per noun.

A command is: parse, call the client, print. Nothing heavy is imported before a command needs it: `--help` loads
neither httpx nor ray, duckdb or textual.
"""
