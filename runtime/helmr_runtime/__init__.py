"""Where sessions live. Internal: users import `helmr`."""
