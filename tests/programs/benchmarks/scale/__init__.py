"""`make scale`: how Helmr's figures grow with what its ledger holds."""
