"""The processes of a runtime: the shells of the actors that run in them, and how they are made, found and ended."""
