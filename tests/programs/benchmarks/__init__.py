"""`make bench`: Helmr and its peers side by side, under one load generator.

Each system stands behind what a user would put in front of it, has the same payloads and the same work, and syncs what
it acknowledges to disk. Rounds alternate: each starts a system, has it do every case, and ends it. What is compared
are ratios within one run on one machine.

A case is a function of `cases.CASES`, a system a class of `systems.SYSTEMS`; each is added there and nowhere else.
"""
