"""What an operator does to a whole ledger: back it up, restore, verify and repair it (docs/toolbox.md)."""
