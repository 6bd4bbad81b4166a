"""What a loss of power may leave of a ledger's files, built from a record of its writes and syncs, opened and judged.

`python -m tests.programs.powerloss --images 1000`: an image that lacks something acknowledged, or holds
something that never was, ends it with 1, and is kept.
"""
