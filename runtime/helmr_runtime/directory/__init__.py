"""Places sessions in hosts: placement, failover, the work queue, delivery of ends of tokens and children."""
