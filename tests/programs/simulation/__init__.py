"""The whole system in one process under a seeded scheduler: see `docs/decisions/0030-a-simulator.md`."""
