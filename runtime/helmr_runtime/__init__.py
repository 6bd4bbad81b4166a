"""The runtime of sessions. Internal: users import `helmr`."""
