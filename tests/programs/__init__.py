"""Programs that try, attack or measure the whole; each has a target of make, and short forms of them are tests."""
