"""Launchers: where the actors of a runtime live, and what starts, watches and ends them."""
