"""An operator's tools for a whole ledger: back up, restore, verify, repair, prune."""
