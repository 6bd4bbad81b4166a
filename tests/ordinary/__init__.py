"""Ordinary task code on the real stack: forty habits, each at first, after a park and after a kill."""
