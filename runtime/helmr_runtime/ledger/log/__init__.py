"""Durability: commits in groups, the log of commits, the file and its making; rows become a file, and a file rows."""
