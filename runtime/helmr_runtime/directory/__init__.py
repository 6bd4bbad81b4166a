"""Which actor has which session: placement, failover, the work queue, delivery of what ended elsewhere."""
