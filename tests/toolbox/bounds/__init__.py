"""`make toolbox`: the bounds of the operator's toolbox, measured (S-66…S-69)."""
