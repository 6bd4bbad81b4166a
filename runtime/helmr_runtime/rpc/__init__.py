"""Calls between actors: their protocol, the ways they travel, and the typed clients on top."""
